"""The seam of all probes: a network opened to be looked into, and closed again exactly as it was."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reslab.data.draws import permutation
from reslab.errors import InputError
from reslab.evaluate.metrics import autocast
from reslab.nets.blocks import Block
from reslab.nets.checkpointing import Stage
from reslab.nets.layers import BatchNorm2d, Conv2d, MaxPool2d
from reslab.nets.network import Network

_MIXED = 41  # which random numbers say in which order


@dataclass(frozen=True)
class Sample:
    """Images that a probe looks at, on the network's device."""

    x: Tensor
    """(N, C, H, W), normalised as the network takes them; or vectors (N, C)"""
    labels: Tensor
    """(N,), outputs of the network"""
    batch: int = 100
    """images at a time"""
    precision: str = "fp32"
    """"fp32" or "bf16", of the forward passes; statistics are taken in fp32 or more"""
    classes: tuple[str, ...] = ()
    """names of the network's outputs, where they are known"""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.labels) or not len(self.x):
            raise InputError(
                f"a sample has a label for each of its images, one at least; got {len(self.x)} images and "
                f"{len(self.labels)} labels"
            )
        if self.batch < 1:
            raise InputError(f"a sample is looked at 1 or more images at a time, got {self.batch}")

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.x.split(self.batch), self.labels.split(self.batch), strict=True)

    def parts(self) -> Iterator[Self]:
        """Batch by batch, each a sample of its own."""
        for x, labels in self:
            yield replace(self, x=x, labels=labels)

    def some(self, count: int) -> Self:
        """At most so many of the images, evenly spaced: a sample may be sorted by class."""
        if count >= len(self):
            return self
        chosen = torch.linspace(0, len(self) - 1, count).round().long().to(self.labels.device)
        return replace(self, x=self.x[chosen], labels=self.labels[chosen])

    def mixed(self) -> Self:
        """The same images in a fixed random order."""
        order = permutation(len(self), _MIXED).to(self.labels.device)
        return replace(self, x=self.x[order], labels=self.labels[order])

    def need(self, count: int, what: str) -> None:
        """Raises `InputError` where there are too few images for a figure to mean anything."""
        if len(self) < count:
            raise InputError(f"{what} takes {count} images or more, got {len(self)}; give more with --images")


@dataclass
class Passed:
    """The tensors of a block in the last forward pass, with their graph if gradients are on."""

    input: Tensor
    output: Tensor
    branch: Tensor | None
    """F(x) as it enters the addition; None for a block without a shortcut"""
    shortcut: Tensor | None
    """what it is added to"""


@dataclass(frozen=True)
class _Before:
    """How a network was found."""

    modes: list[tuple[nn.Module, bool]]
    kernels: list[tuple[nn.Module, dict[str, Any]]]
    trained: list[tuple[nn.Parameter, bool]]
    buffers: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, net: nn.Module) -> Self:
        names = ("fused", "group", "segment")
        special = (BatchNorm2d, Conv2d, MaxPool2d, Stage)
        return cls(
            [(module, module.training) for module in net.modules()],
            [
                (module, {name: getattr(module, name) for name in names if hasattr(module, name)})
                for module in net.modules()
                if isinstance(module, special)
            ],
            [(parameter, parameter.requires_grad) for parameter in net.parameters()],
            [(buffer, buffer.detach().clone()) for buffer in net.buffers()],
        )

    @torch.no_grad()
    def put_back(self) -> None:
        for module, training in self.modes:
            module.training = training
        for module, values in self.kernels:
            for name, value in values.items():
                setattr(module, name, value)
        for parameter, wanted in self.trained:
            parameter.requires_grad_(wanted)
        for buffer, value in self.buffers:
            buffer.copy_(value)


@contextmanager
def opened(
    net: nn.Module,
    *,
    statistics: Literal["running", "batch"] = "running",
    weight_gradients: bool = False,
    fused: bool = False,
) -> Iterator[None]:
    """A network in evaluation mode, each of its modules called by itself, nothing of it changed for good.

    On leaving, the mode of each module, kernels, checkpointing, buffers, which parameters are trained, and the
    random numbers of the CPU and of the network's devices are as they were found.

    Args:
        net: any network; the parts about kernels and checkpointing are of Reslab's own.
        statistics: what BN normalises with; "batch" is as in training, while dropout stays off.
        weight_gradients: whether parameters take part in gradients; otherwise only what is computed from them.
        fused: leave the fused kernels on where they are: for probes that look at the logits alone.
    """
    before = _Before.of(net)
    devices = sorted({p.device.index or 0 for p in net.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            net.eval()
            off: dict[str, Any] = {"segment": None, "group": None} | ({} if fused else {"fused": False})
            for module, values in before.kernels:
                for name in values.keys() & off.keys():
                    setattr(module, name, off[name])
            if statistics == "batch":
                for module in net.modules():
                    if isinstance(module, _BatchNorm):
                        module.train()
            for parameter in net.parameters():
                parameter.requires_grad_(weight_gradients)
            yield
        finally:
            before.put_back()


@contextmanager
def watched(net: Network) -> Iterator[dict[str, Passed]]:
    """Records the tensors of each block in a forward pass, by block name; each pass replaces the last."""
    seen: dict[str, Passed] = {}
    terms: dict[str, tuple[Tensor, Tensor]] = {}
    with ExitStack() as hooks:
        for name, block in net.named_blocks.items():

            def adds(_add: nn.Module, inputs: tuple[Tensor, Tensor], *, name: str = name) -> None:
                terms[name] = inputs

            def passes(_block: nn.Module, inputs: tuple[Tensor], output: Tensor, *, name: str = name) -> None:
                branch, shortcut = terms.pop(name, (None, None))
                seen[name] = Passed(inputs[0], output, branch, shortcut)

            if block.add is not None:
                hooks.callback(block.add.register_forward_pre_hook(adds).remove)
            hooks.callback(block.register_forward_hook(passes).remove)
        yield seen


@contextmanager
def outputs_of(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Records the outputs of some modules in a forward pass; each pass replaces the last."""
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, module in modules.items():

            def passes(_module: nn.Module, _inputs: Any, output: Tensor, *, name: str = name) -> None:
                seen[name] = output

            hooks.callback(module.register_forward_hook(passes).remove)
        yield seen


@contextmanager
def bypassed(block: Block) -> Iterator[None]:
    """A block whose branch is zero at the addition: what is left is its shortcut, and what follows."""
    assert block.add is not None, "a block without a shortcut has only its branch"

    def cut(_add: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        branch, shortcut = inputs
        return torch.zeros_like(branch), shortcut

    handle = block.add.register_forward_pre_hook(cut)
    try:
        yield
    finally:
        handle.remove()


def computing(sample: Sample) -> torch.autocast:
    """The context of a forward pass: bf16 where the sample says so."""
    return autocast(sample.x.device, sample.precision)


def residual_blocks(net: nn.Module, what: str) -> dict[str, Block]:
    """The blocks of a network that have a shortcut; `InputError` where there are none, or it is not ours."""
    if not isinstance(net, Network):
        raise InputError(f"{what} needs a network in Reslab's grammar, got {type(net).__name__}")
    found = {name: block for name, block in net.named_blocks.items() if block.has_shortcut}
    if not found:
        raise InputError(f"{what} needs residual blocks, and '{net.spec.name}' has none: its blocks have no shortcut")
    return found


def own(net: nn.Module, what: str) -> Network:
    """The network, if it is one of ours, whose blocks a probe can look into."""
    if not isinstance(net, Network):
        raise InputError(f"{what} needs a network in Reslab's grammar, got {type(net).__name__}")
    return net
