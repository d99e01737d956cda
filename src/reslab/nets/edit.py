"""Networks taken apart block by block: removed, reordered, replaced, with the weights carried along.

An edit is a change of the specification; the result is an ordinary network, which trains, saves and loads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import ValidationError

from reslab.errors import InputError, nearest
from reslab.nets.network import Network, build
from reslab.nets.spec import Block, NetSpec


@dataclass(frozen=True)
class Part:
    """One block of the network to come, and which block of the old one it has its weights from."""

    block: Block
    source: str | None
    """such as ``layer1.0``; None draws new weights"""


Plan = tuple[tuple[Part, ...], ...]
"""The blocks to come, stage by stage."""


def plan_of(spec: NetSpec) -> Plan:
    """The plan that changes nothing."""
    return tuple(
        tuple(Part(block, f"layer{s}.{b}") for b, block in enumerate(stage)) for s, stage in enumerate(spec.stages, 1)
    )


def edited(spec: NetSpec, plan: Plan, *, name: str | None = None) -> NetSpec:
    """The specification of a plan; `InputError` with the reason where its blocks do not fit together."""
    stages = tuple(tuple(part.block for part in stage) for stage in plan)
    try:
        return NetSpec.model_validate({**dict(spec), "stages": stages, "name": name or f"{spec.name} (edited)"})
    except ValidationError as error:
        raise InputError(
            f"'{spec.name}' cannot be edited so: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from None


@torch.no_grad()
def rebuilt(net: Network, plan: Plan, *, name: str | None = None, seed: int | None = None) -> Network:
    """The network of a plan. The one it is made from is left as it was.

    A parameter is carried over where name and shape within the block are those of its source. What is new is drawn
    from ``seed``; without a seed, a block with a source has to carry all of its own, or `InputError` is raised.
    Device, type of numbers and mode are kept.
    """
    new = build(edited(net.spec, plan, name=name), seed=seed or 0)
    old = net.state_dict()
    state = new.state_dict()
    origin = {f"layer{s}.{b}": part.source for s, stage in enumerate(plan, 1) for b, part in enumerate(stage)}
    for key, value in state.items():
        source = _source_of(key, origin)
        if source is not None and source in old and old[source].shape == value.shape:
            state[key] = old[source].detach().clone()
        elif source is not None and seed is None:
            found = f"has the shape {tuple(old[source].shape)}" if source in old else "is not there"
            raise InputError(
                f"'{net.spec.name}' cannot be edited so: {key} needs the shape {tuple(value.shape)}, "
                f"but {source} {found}"
            )
    new.load_state_dict(state)
    first = next(net.parameters())
    return new.to(first.device, first.dtype).train(net.training)


def _source_of(key: str, origin: Mapping[str, str | None]) -> str | None:
    """The old name of a tensor, None where it is new."""
    parts = key.split(".")
    block = ".".join(parts[:2])
    if block not in origin:
        return key  # stem, head
    source = origin[block]
    return None if source is None else ".".join((source, *parts[2:]))


def _located(spec: NetSpec, name: str) -> tuple[int, int]:
    if name not in spec.named_blocks:
        known = list(spec.named_blocks)
        raise InputError(f"'{spec.name}' has no block '{name}'; {nearest(name, known)} (layer1.0 is the first)")
    stage, _, block = name.removeprefix("layer").partition(".")
    return int(stage) - 1, int(block)


def without(net: Network, *names: str) -> Network:
    """The network without some of its blocks; only blocks that keep the shape can go."""
    gone = {_located(net.spec, name) for name in names}
    plan = tuple(
        tuple(part for b, part in enumerate(stage) if (s, b) not in gone) for s, stage in enumerate(plan_of(net.spec))
    )
    return rebuilt(net, plan)


def reordered(net: Network, stage: int, order: Sequence[int]) -> Network:
    """The network with the blocks of a stage, counted from 1, in another order; ``order`` counts from 0."""
    plan = list(plan_of(net.spec))
    if not 1 <= stage <= len(plan):
        raise InputError(f"'{net.spec.name}' has stages 1 to {len(plan)}, got {stage}")
    parts = plan[stage - 1]
    if sorted(order) != list(range(len(parts))):
        raise InputError(f"layer{stage} has blocks 0 to {len(parts) - 1}; an order names each once, got {list(order)}")
    plan[stage - 1] = tuple(parts[index] for index in order)
    return rebuilt(net, tuple(plan))


def replaced(net: Network, name: str, block: Block, *, seed: int = 0) -> Network:
    """The network with one block replaced; weights are carried over where names and shapes agree."""
    stage, index = _located(net.spec, name)
    plan = [list(parts) for parts in plan_of(net.spec)]
    plan[stage][index] = Part(block, name)
    return rebuilt(net, tuple(map(tuple, plan)), seed=seed)


def inserted(net: Network, after: str, block: Block, *, seed: int = 0) -> Network:
    """The network with a new block behind another, with weights drawn from ``seed``."""
    stage, index = _located(net.spec, after)
    plan = [list(parts) for parts in plan_of(net.spec)]
    plan[stage].insert(index + 1, Part(block, None))
    return rebuilt(net, tuple(map(tuple, plan)), seed=seed)
