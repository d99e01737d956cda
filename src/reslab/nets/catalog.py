"""The papers' networks as specifications. `resolve` turns what a user types into one."""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from reslab.errors import InputError, nearest
from reslab.nets.spec import (
    Activation,
    Block,
    ConvStem,
    Identity,
    NetSpec,
    NoShortcut,
    Projection,
    Shortcut,
    ZeroPad,
)

HE2015_CIFAR = "He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 4.2"

ShortcutOption = Literal["A", "B", "C"]


def _blocks_per_stage(depth: Any) -> int:
    if type(depth) is not int:
        raise InputError(f"a depth is a whole number of layers, got {depth!r}")
    if depth < 8 or (depth - 2) % 6:
        low = max(8, 6 * ((depth - 2) // 6) + 2)
        raise InputError(
            f"a CIFAR network has depth 6n+2 (He 2015, section 4.2), got depth {depth}; try {low} or {low + 6}"
        )
    return (depth - 2) // 6


def _cifar(
    name: str,
    depth: int,
    shortcut: Callable[[int, int, int], Shortcut],
    *,
    width: int | tuple[int, int, int],
    activation: Activation,
    in_channels: int,
    size: tuple[int, int],
    num_classes: int,
) -> NetSpec:
    n = _blocks_per_stage(depth)
    widths = (width, 2 * width, 4 * width) if isinstance(width, int) else width
    if not isinstance(widths, tuple | list) or len(widths) != 3:
        raise InputError(f"width is one number, or three for the three stages, got {width!r}")
    stages = []
    before = widths[0]
    for stage, after in enumerate(widths):
        blocks = []
        for i in range(n):
            stride = 2 if stage > 0 and i == 0 else 1
            blocks.append(Block(width=after, stride=stride, shortcut=shortcut(before, after, stride)))
            before = after
        stages.append(tuple(blocks))
    return NetSpec(
        name=name,
        in_channels=in_channels,
        size=size,
        num_classes=num_classes,
        stem=ConvStem(width=widths[0]),
        stages=tuple(stages),
        activation=activation,
        cite=HE2015_CIFAR,
    )


def cifar_resnet(
    depth: int,
    *,
    shortcut: ShortcutOption = "A",
    zeros: Literal["both", "end"] = "both",
    width: int | tuple[int, int, int] = 16,
    activation: Activation = "relu",
    in_channels: int = 3,
    size: tuple[int, int] = (32, 32),
    num_classes: int = 10,
    name: str | None = None,
) -> NetSpec:
    """The residual network of 6n+2 layers for 32-pixel images (He 2015, section 4.2).

    ``shortcut``: A pads zeros where the shape changes (the paper's choice on CIFAR), B projects there,
    C projects everywhere. ``width``: channels of the first stage (doubled at each next), or of all three.
    """
    if shortcut not in ("A", "B", "C"):
        raise InputError(f"shortcut options are A, B and C (He 2015, section 3.3), got {shortcut!r}")

    def option(before: int, after: int, stride: int) -> Shortcut:
        if shortcut == "C":
            return Projection()
        if before == after and stride == 1:
            return Identity()
        return ZeroPad(zeros=zeros) if shortcut == "A" else Projection()

    return _cifar(
        name or f"cifar_resnet(depth={depth})",
        depth,
        option,
        width=width,
        activation=activation,
        in_channels=in_channels,
        size=size,
        num_classes=num_classes,
    )


def cifar_plain(
    depth: int,
    *,
    width: int | tuple[int, int, int] = 16,
    activation: Activation = "relu",
    in_channels: int = 3,
    size: tuple[int, int] = (32, 32),
    num_classes: int = 10,
    name: str | None = None,
) -> NetSpec:
    """The plain twin: the same layers without shortcuts, as many parameters as option A."""
    return _cifar(
        name or f"cifar_plain(depth={depth})",
        depth,
        lambda *_: NoShortcut(),
        width=width,
        activation=activation,
        in_channels=in_channels,
        size=size,
        num_classes=num_classes,
    )


@dataclass(frozen=True)
class Entry:
    """A row of the catalogue: a maker, the arguments that the name fixes, and what it is."""

    make: Callable[..., NetSpec]
    fixed: dict[str, Any]
    summary: str
    cite: str = HE2015_CIFAR


CATALOG: dict[str, Entry] = {
    **{
        f"plain{depth}": Entry(cifar_plain, {"depth": depth}, f"plain network of {depth} layers for CIFAR")
        for depth in (20, 32, 44, 56, 110)
    },
    **{
        f"resnet{depth}": Entry(
            cifar_resnet, {"depth": depth}, f"residual network of {depth} layers for CIFAR, shortcut option A"
        )
        for depth in (20, 32, 44, 56, 110, 1202)
    },
}

FAMILIES: dict[str, Callable[..., NetSpec]] = {"cifar_plain": cifar_plain, "cifar_resnet": cifar_resnet}
"""Makers that take a depth, for all the networks between the named ones: ``cifar_resnet(depth=38)``."""


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    """Splits ``name(key=literal, ...)``. Only literals are read; nothing is evaluated."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        node = ast.Name(id=text)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and not node.args
        and all(k.arg for k in node.keywords)
    ):
        try:
            return node.func.id, {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
        except (ValueError, TypeError):  # no literal; a literal that cannot be, such as {[]: 1}
            pass
    if isinstance(node, ast.Name):
        return text.strip(), {}
    raise InputError(f"expected a network such as resnet20 or \"cifar_resnet(depth=38, shortcut='B')\", got {text!r}")


def _unfit(net: str, error: ValidationError) -> InputError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return InputError(
        f"network '{net}': {where}: {reason}, got {first['input']!r}" if where else f"network '{net}': {reason}"
    )


def resolve(net: str | NetSpec, **overrides: Any) -> NetSpec:
    """The specification of a network given by name, by ``name(key=value, ...)``, or as it is.

    ``overrides`` (``num_classes``, ``in_channels``, ``size``, ``activation``, ...) win over what the
    name says. Raises `InputError` for an unknown name or argument, or shapes that cannot be built.
    """
    if isinstance(net, NetSpec):
        if not overrides:
            return net
        try:
            return NetSpec.model_validate({**net.model_dump(), **overrides})
        except ValidationError as error:
            raise _unfit(net.name, error) from None
    base, arguments = _parse(net)
    fixed: dict[str, Any] = {}
    if base in CATALOG:
        make, fixed = CATALOG[base].make, CATALOG[base].fixed
    elif base in FAMILIES:
        make = FAMILIES[base]
    else:
        raise InputError(f"unknown network '{net}'; {nearest(base, [*CATALOG, *FAMILIES])} ('reslab nets' lists all)")
    given = {**arguments, **overrides}
    known = inspect.signature(make).parameters
    for key, value in given.items():
        if key not in known:
            raise InputError(f"network '{net}': there is no argument '{key}'; {nearest(key, known)}")
        if value != fixed.get(key, value):
            raise InputError(f"network '{base}' has {key}={fixed[key]}, got {key}={value}; name another network")
    given |= fixed
    if "depth" not in given:
        raise InputError(f"network '{net}' needs a depth, such as {base}(depth=38)")
    try:
        return make(**{"name": net.strip(), **given})
    except ValidationError as error:
        raise _unfit(net, error) from None
