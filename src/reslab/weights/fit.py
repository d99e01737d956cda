"""Whether a state dict fits a network: names, shapes and types compared, and the nearest network found."""

import re
from collections.abc import Container, Mapping
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from reslab.nets.catalog import resolve
from reslab.nets.equivalence import by_names_and_shapes
from reslab.nets.network import Network
from reslab.nets.reference import build_reference
from reslab.nets.spec import AnyNet, NetSpec

State = Mapping[str, Tensor]
COUNTER = "num_batches_tracked"
HEAD = ("fc.weight", "fc.bias")
"""The last layer of a network of ours: what features are taken before."""


def headless(state: State) -> bool:
    """Whether a state dict under our names has no last layer: it is of a backbone, for features."""
    return not any(name in state for name in HEAD)


@lru_cache(maxsize=8)
def shapes_of(spec: AnyNet) -> Mapping[str, tuple[int, ...]]:
    """The name and shape of each tensor in the state of a network."""
    with torch.device("meta"):
        net = Network(spec) if isinstance(spec, NetSpec) else build_reference(spec)
    return MappingProxyType({name: tuple(tensor.shape) for name, tensor in net.state_dict().items()})


LISTED = 4
"""How many names of parameters an error lists."""


def misfit(state: State, spec: AnyNet, *, missing: Container[str] = ()) -> str:
    """Says why a state dict does not fit a network, with some names of each kind; empty if it fits, ``missing`` aside.

    BN's counters of batches, which files from before PyTorch 0.4.1 do not have, are not missed.
    """
    expected = shapes_of(spec)
    there = {name: tuple(tensor.shape) for name, tensor in state.items()}
    kinds = (
        ("missing", [n for n in expected if n not in there and n not in missing and not n.endswith(COUNTER)]),
        ("unexpected", [name for name in there if name not in expected]),
        (
            "of another shape",
            [
                f"{name} {by(there[name])} instead of {by(shape)}"
                for name, shape in expected.items()
                if name in there and there[name] != shape
            ],
        ),
        (
            "not of floating point",
            [
                f"{name} {str(tensor.dtype).removeprefix('torch.')}"
                for name, tensor in state.items()
                if isinstance(spec, NetSpec) and not tensor.is_floating_point() and not name.endswith(COUNTER)
            ],
        ),
    )
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:LISTED])}{', ...' if len(names) > LISTED else ''})"
        for what, names in kinds
        if names
    )


def by(shape: tuple[int, ...]) -> str:
    """Sizes for people: ``64x3x7x7``."""
    return "x".join(map(str, shape)) or "scalar"


def nearest_network(state: State) -> NetSpec | None:
    """The network of the catalogue that has most of these names and shapes; None if none has more than half."""
    counts: dict[int, int] = {}
    for name in state:
        if found := re.match(r"layer(\d+)\.(\d+)\.", name):
            stage, block = int(found[1]), int(found[2])
            counts[stage] = max(counts.get(stage, 0), block + 1)
    there = {(name, tuple(tensor.shape)) for name, tensor in state.items()}
    best, most = None, len(there) / 2
    for names in by_names_and_shapes().values():
        name = min(names, key=lambda name: not resolve(name).is_residual)
        spec = resolve(name)
        if any(counts.get(number) != len(stage) for number, stage in enumerate(spec.stages, 1)):
            continue
        if (head := state.get("fc.weight")) is not None and head.dim() == 2 and len(head):
            spec = resolve(name, num_classes=len(head))
        shared = len(there & set(shapes_of(spec).items()))
        if shared > most:
            best, most = spec, shared
    return best
