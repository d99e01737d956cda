"""A network of another library and ours, with the same random weights, run side by side."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reslab.nets.catalog import resolve
from reslab.nets.network import Network
from reslab.weights.export import PEERS, Library, exported
from reslab.weights.keys import to_ours
from reslab.weights.load import Weights

Make = Callable[[str], nn.Module]
"""From the library's name of a network to its module."""
PIXELS = 65
"""Odd, so that a size rounded the other way is seen. Fewer would not be quicker: these weights are read from memory."""
HEAVY = 40_000_000
"""Parameters from which on the gradients are compared in training only, to save time."""


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """The module without storage: its initialisation would take longer than the test."""
    with torch.device("meta"):
        return make()


@functools.cache
def _noise() -> Tensor:
    return torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))


def _normal_(tensor: Tensor, draw: torch.Generator) -> None:
    """Fills with numbers that were drawn once, from a place of its own on: 100 million fresh ones take a second."""
    noise, flat = _noise(), tensor.view(-1)
    start = int(torch.randint(len(noise), (), generator=draw))
    for at in range(0, len(flat), len(noise)):
        part = flat[at : at + len(noise)]
        first = min(len(part), len(noise) - start)
        part[:first] = noise[start : start + first]
        part[first:] = noise[: len(part) - first]


def random_state(shapes: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Weights such as a training leaves behind: no BN is the identity, and signals keep their size through 200 layers.

    Statistics that are too small would let the signal grow in evaluation until shifts no longer count.
    """
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for name, like in shapes.items():
        tensor = torch.zeros(like.shape, dtype=like.dtype)
        if name.endswith("running_var"):
            tensor.uniform_(1.0, 4.0, generator=draw)
        elif like.dim() > 1:
            _normal_(tensor, draw)
            tensor.mul_((2 / like[0].numel()) ** 0.5)
        elif name.endswith("weight"):
            tensor.uniform_(0.5, 1.5, generator=draw)
        elif like.is_floating_point():  # shifts, running means, the last layer's bias
            tensor.normal_(0, 0.3, generator=draw)
        state[name] = tensor
    return state


def twins(name: str, library: Library, make: Make, *, ours: str | None = None) -> tuple[Network, nn.Module]:
    """Ours and theirs, from one random state that was carried there and back, each time by ``strict=True``.

    ``ours`` names another network of the same names and shapes, which then gets the weights without the way back.
    """
    their_name = PEERS[library][name]
    theirs, spec = on_meta(lambda: make(their_name)), resolve(ours or name)
    mine = on_meta(lambda: Network(spec))
    assert isinstance(mine, Network)
    state = random_state(theirs.state_dict(), seed=len(name))
    renamed, _ = to_ours(state)
    mine.load_state_dict(renamed, strict=True, assign=True)
    back, found = exported(Weights(resolve(name), mine.state_dict(), "test"), library)
    assert found == their_name
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())
    theirs.load_state_dict(back, strict=True, assign=True)
    for module in (mine, theirs):
        assert not any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
        for child in module.modules():  # parameters share their storage; statistics will change
            for key, buffer in list(child.named_buffers(recurse=False)):
                setattr(child, key, buffer.clone())
    return mine, theirs


@dataclass(frozen=True)
class Apart:
    """The largest distances |a - b| / |b| of Euclidean lengths, tensor by tensor."""

    outputs: float
    gradients: float
    statistics: float


def _distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    largest = 0.0
    for name, tensor in theirs.items():
        length = float(torch.linalg.vector_norm(tensor))
        assert 1e-30 < length < 1e30, f"{name} has nothing to compare"
        largest = max(largest, float(torch.linalg.vector_norm(ours[name] - tensor)) / length)
    return largest


def _run(net: nn.Module, x: Tensor, *, gradients: bool) -> tuple[dict[str, Tensor], ...]:
    """Output, gradients of all parameters, and BN's statistics afterwards."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    with torch.set_grad_enabled(gradients):
        out = net(x)
    found: dict[str, Tensor] = {}
    if gradients:
        towards = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        found = dict(zip(names, torch.autograd.grad(out, parameters, towards), strict=True))
    return {"out": out.detach()}, to_ours(found)[0], _statistics(net)


def _statistics(net: nn.Module) -> dict[str, Tensor]:
    state, _ = to_ours(net.state_dict())
    return {
        name: 1.0 + tensor if tensor.dim() == 0 else tensor.clone()  # the count of batches begins with zero
        for name, tensor in state.items()
        if name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
    }


def assert_equal(name: str, library: Library, make: Make, *, ours: str | None = None) -> dict[str, Apart]:
    """Outputs to 1e-5 and gradients to 1e-4, in evaluation and in training; returns how far apart they are."""
    torch.set_num_threads(1)
    mine, theirs = twins(name, library, make, ours=ours)
    heavy = sum(parameter.numel() for parameter in mine.parameters()) > HEAVY
    x = torch.randn(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(2))
    found = {}
    for mode in ("eval", "train"):
        training = mode == "train"
        results = [_run(net.train(training), x, gradients=training or not heavy) for net in (mine, theirs)]
        found[mode] = apart = Apart(*(_distance(*pair) for pair in zip(*results, strict=True)))
        assert apart.outputs <= 1e-5, f"outputs in mode {mode}: {apart}"
        assert apart.gradients <= 1e-4, f"gradients in mode {mode}: {apart}"
        assert apart.statistics <= 1e-5, f"statistics in mode {mode}: {apart}"
    return found
