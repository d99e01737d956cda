"""Shared code of the functions that make networks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from pydantic import ValidationError

from reslab.errors import InputError
from reslab.nets.spec import Activation, Block, Init, NetSpec, Norm

ShortcutOption = Literal["A", "B", "C"]
"""Where shapes change: zeros (A), a projection (B); or projections everywhere (C): He 2015, section 3.3."""


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
    """Says in one line what does not fit in a network's specification."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return InputError(
        f"network '{net}': {where}: {reason}, got {first['input']!r}" if where else f"network '{net}': {reason}"
    )


FINAL: dict[str, Literal["none", "activation", "norm-activation"]] = {
    "relu-only-preactivation": "activation",
    "full-preactivation": "norm-activation",
}
"""What stands behind the last block, by order; nothing for the others."""


def blocks_per_stage(depth: Any, layers: int, rest: int, what: str) -> int:
    """n of a depth of ``layers * n + rest``; any other depth is an `InputError` that names the nearest."""
    if type(depth) is not int:
        raise InputError(f"a depth is a whole number of layers, got {depth!r}")
    least = layers + rest
    if depth < least or (depth - rest) % layers:
        low = max(least, layers * ((depth - rest) // layers) + rest)
        raise InputError(f"{what} has depth {layers}n+{rest}, got depth {depth}; try {low} or {low + layers}")
    return int(depth - rest) // layers


def three_widths(width: Any) -> tuple[int, int, int]:
    """Widths of the three stages: given, or doubling from the first."""
    if isinstance(width, int):
        return (width, 2 * width, 4 * width)
    if not isinstance(width, tuple | list) or len(width) != 3:
        raise InputError(f"width is one number, or three for the three stages, got {width!r}")
    return (width[0], width[1], width[2])


@dataclass(frozen=True)
class Place:
    """A block's position in a network."""

    before: int
    """channels that come in"""
    after: int
    """channels that leave"""
    stride: int
    first: bool
    """whether it is the network's first block"""

    @property
    def changes(self) -> bool:
        """Whether the shape that leaves is not the one that came in."""
        return self.before != self.after or self.stride != 1


def stack_stages(
    widths: Sequence[int], n: int, stem: int, make: Callable[[Place], Block]
) -> tuple[tuple[Block, ...], ...]:
    """Stages of n blocks each, the first block of every stage but the first with stride 2."""
    stages = []
    before = stem
    for stage, after in enumerate(widths):
        blocks = []
        for i in range(n):
            place = Place(before, after, stride=2 if stage > 0 and i == 0 else 1, first=stage == i == 0)
            blocks.append(make(place))
            before = after
        stages.append(tuple(blocks))
    return tuple(stages)


def with_drop_path(stages: tuple[tuple[Block, ...], ...], rate: float) -> tuple[tuple[Block, ...], ...]:
    """Stochastic depth that grows linearly to ``rate`` at the last block (Huang et al. 2016, eq. 4)."""
    if not rate:
        return stages
    total = sum(len(stage) for stage in stages)
    numbers = iter(range(1, total + 1))
    return tuple(
        tuple(block.model_copy(update={"drop_path": rate * next(numbers) / total}) for block in stage)
        for stage in stages
    )
