"""Which networks take each other's weights, and which of those compute the same."""

from functools import cache
from typing import Any

from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.spec import (
    WEIGHTED,
    Basic,
    Block,
    Bottleneck,
    Conv1x1,
    ConvStem,
    Drop,
    Dropout,
    ExclusiveGate,
    Identity,
    NetSpec,
    Norm,
    Projection,
    ShortcutGate,
    Spec,
    Stack,
    branch_layers,
)


def _shortcut_parameters(block: Block) -> tuple[Any, ...]:
    match block.shortcut:
        case Projection(norm=norm, pool=pool):
            return ("projection", norm, pool)
        case Conv1x1():
            return ("conv1x1",)
        case ExclusiveGate(kernel=kernel) | ShortcutGate(kernel=kernel):
            return ("gate", kernel)
    return ()


def names_and_shapes(spec: NetSpec) -> tuple[Any, ...]:
    """All that decides the names and shapes of a network's parameters, classes and input channels aside.

    Two networks of equal value here load each other's weights, whatever they compute.
    """
    stem = spec.stem.model_dump(exclude={"dropout", "stride", "pool", "padding"})
    blocks = []
    for block in spec.blocks:
        layers = [
            (i, layer.kind, layer.width, getattr(layer, "kernel", 0), getattr(layer, "groups", 1))
            for i, layer in enumerate(branch_layers(block))
            if isinstance(layer, WEIGHTED)
        ]
        blocks.append((tuple(layers), block.order == "full-preactivation", _shortcut_parameters(block)))
    stages = tuple(len(stage) for stage in spec.stages)
    return (tuple(stem.items()), stages, tuple(blocks), spec.final == "norm-activation", spec.norm is None)


@cache
def by_names_and_shapes() -> dict[tuple[Any, ...], tuple[str, ...]]:
    """The names of the catalogue, by the names and shapes of their parameters (`names_and_shapes`)."""
    found: dict[tuple[Any, ...], tuple[str, ...]] = {}
    for name in CATALOG:
        key = names_and_shapes(resolve(name))
        found[key] = (*found.get(key, ()), name)
    return found


def look_alikes(spec: NetSpec) -> tuple[str, ...]:
    """Names of the catalogue whose weights have the same names and shapes; the likeliest first."""
    found = by_names_and_shapes().get(names_and_shapes(spec), ())
    # The world's weights are of residual networks, of the original order, of v1.5: as recognised from shapes.
    specs = {name: resolve(name) for name in found}
    return tuple(sorted(found, key=lambda name: (not same_function(specs[name], spec), not specs[name].is_residual)))


def _in_evaluation(spec: NetSpec) -> NetSpec:
    """Removes what makes no difference in evaluation: dropout, stochastic depth, momentum, initial values."""

    def calm(block: Block) -> Block:
        branch, shortcut = block.branch, block.shortcut
        if isinstance(branch, Basic):
            branch = branch.model_copy(update={"dropout": 0.0})
        elif isinstance(branch, Bottleneck) and block.stride == 1:
            branch = branch.model_copy(update={"stride_on": "middle"})  # nothing strides
        elif isinstance(branch, Stack):
            layers = (Drop(rate=0) if isinstance(layer, Drop) else layer for layer in branch.layers)
            branch = Stack(layers=tuple(layers))
        if isinstance(shortcut, Dropout):
            shortcut = Identity()
        elif isinstance(shortcut, ExclusiveGate | ShortcutGate):
            shortcut = shortcut.model_copy(update={"bias": 0.0})
        return block.model_copy(update={"branch": branch, "shortcut": shortcut, "drop_path": 0.0})

    stem = spec.stem.model_copy(update={"dropout": 0.0}) if isinstance(spec.stem, ConvStem) else spec.stem
    return spec.model_copy(
        update={
            "stem": stem,
            "stages": tuple(tuple(calm(block) for block in stage) for stage in spec.stages),
            "norm": None if spec.norm is None else Norm(eps=spec.norm.eps),
        }
    )


_FUNCTION = ("stem", "stages", "final", "activation", "norm")


def same_function(a: NetSpec, b: NetSpec) -> bool:
    """Whether two specifications compute the same from the same weights, in evaluation."""
    a, b = _in_evaluation(a), _in_evaluation(b)
    return all(getattr(a, part) == getattr(b, part) for part in _FUNCTION)


def differences(a: NetSpec, b: NetSpec) -> tuple[str, ...]:
    """Lists how two networks with the same names and shapes differ in evaluation, with the first block affected."""
    a, b = _in_evaluation(a), _in_evaluation(b)
    said: dict[str, str] = {}
    for part in ("stem", "final", "activation", "norm"):
        before, after = getattr(a, part), getattr(b, part)
        if before != after:
            said[part] = f"{part} {_brief(before)} became {_brief(after)}"
    for name, old in a.named_blocks.items():
        new = b.named_blocks.get(name)
        if new is None or new == old:
            continue
        for part in ("branch", "stride", "shortcut", "order", "preactivated_shortcut"):
            before, after = getattr(old, part), getattr(new, part)
            if before != after:
                said.setdefault(part, f"{part} {_brief(before)} became {_brief(after)} (first in {name})")
    return tuple(said.values())


def _brief(value: Any) -> str:
    if not isinstance(value, Spec):
        return str(value)
    fields = {k: v for k, v in value.model_dump().items() if k != "kind"}
    inner = f"({', '.join(f'{k}={v}' for k, v in fields.items())})" if fields else ""
    return f"{getattr(value, 'kind', '')}{inner}"
