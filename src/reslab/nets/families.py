"""What the makers of networks have in common."""

from collections.abc import Mapping
from typing import Any, TypedDict

from pydantic import ValidationError

from reslab.errors import InputError
from reslab.nets.spec import Activation, Init, NetSpec, Norm


class Common(TypedDict, total=False):
    """Arguments that every maker takes: fields of `NetSpec` that do not decide the structure."""

    name: str
    in_channels: int
    size: tuple[int, int]
    num_classes: int
    activation: Activation
    norm: Norm | None
    init: Init


def network(name: str, common: Mapping[str, Any], **fields: Any) -> NetSpec:
    """A specification from a maker's own fields; what the caller gave in ``common`` wins over them."""
    values = {"name": name, **fields, **common}
    try:
        return NetSpec.model_validate(values)
    except ValidationError as error:
        raise unfit(str(values["name"]), error) from None


def unfit(net: str, error: ValidationError) -> InputError:
    """What does not fit in a network's specification, in one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return InputError(
        f"network '{net}': {where}: {reason}, got {first['input']!r}" if where else f"network '{net}': {reason}"
    )
