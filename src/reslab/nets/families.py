"""What the makers of networks have in common."""

from collections.abc import Mapping
from typing import Any, TypedDict

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
    return NetSpec.model_validate({"name": name, **fields, **common})
