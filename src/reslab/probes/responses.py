"""How strong the layers' responses are, and what the shortcut carries (He et al. 2015, section 4.2, Fig. 7)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reslab.nets.blocks import Block
from reslab.nets.network import Network
from reslab.nets.spec import WEIGHTED, Conv, branch_layers
from reslab.probes.result import Floats, Ints, Result, as_floats, as_ints
from reslab.probes.seam import Sample, computing, opened, outputs_of, own, watched


@dataclass(frozen=True)
class Responses(Result):
    """Standard deviation of each layer's response, over images, channels and positions."""

    layer: tuple[str, ...]
    """such as ``layer1.0.conv1``"""
    kernel: Ints
    """pixels a side of the layer; 0 for a fully connected one"""
    std: Floats
    mean: Floats
    n_images: int

    def of(self, kernel: int = 3) -> "Responses":
        """Those of one size of kernel alone: the paper shows its 3x3 layers."""
        kept = [i for i, size in enumerate(self.kernel) if size == kernel]
        return Responses(
            tuple(self.layer[i] for i in kept), self.kernel[kept], self.std[kept], self.mean[kept], self.n_images
        )

    @property
    def ranked(self) -> Floats:
        """Sorted from the strongest to the weakest, as in the lower half of the figure."""
        return as_floats(sorted(self.std, reverse=True))


class _Moments:
    """Sums over numbers that come in parts, in fp64."""

    def __init__(self) -> None:
        self.count = 0
        self.total = self.squares = 0.0

    def add(self, values: Tensor) -> None:
        numbers = values.detach().double()
        self.count += numbers.numel()
        self.total += float(numbers.sum())
        self.squares += float(numbers.square().sum())

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def std(self) -> float:
        return math.sqrt(max(self.squares / self.count - self.mean**2, 0.0))

    @property
    def rms(self) -> float:
        return math.sqrt(self.squares / self.count)


def _response(block: Block, i: int) -> nn.Module:
    """The module whose output is layer i's response: its BN where one follows it before anything else."""
    behind = block.order != "full-preactivation" and not (block.order == "bn-after-addition" and i == block.last)
    if behind:
        return block.get_submodule(f"bn{i}")  # without BN an identity, which passes the layer's output on
    return block.get_submodule(f"pool{i}" if i in block.pooled else block.names[i - 1])


def response_modules(net: Network) -> dict[str, tuple[nn.Module, int]]:
    """The module that puts out each weighted layer's response, with the layer's kernel; the stem's last among them."""
    stem = net.spec.stem
    found: dict[str, tuple[nn.Module, int]] = {}
    first = "linear1" if stem.kind == "dense" else "conv1"
    normed = stem.kind != "whitening" and stem.norm
    found[first] = (net.get_submodule("bn1" if normed else first), 0 if stem.kind == "dense" else stem.kernel)
    for name, block in net.named_blocks.items():
        for i, layer in enumerate(branch_layers(block.spec), 1):
            if isinstance(layer, WEIGHTED):
                kernel = layer.kernel if isinstance(layer, Conv) else 0
                found[f"{name}.{block.names[i - 1]}"] = (_response(block, i), kernel)
    return found


@torch.no_grad()
def responses(net: nn.Module, sample: Sample) -> Responses:
    """The standard deviation of every layer's response: after BN, before the activation or the addition.

    std = sqrt(mean(y^2) - mean(y)^2) over all images, channels and positions of a layer's output y (He et al. 2015,
    Fig. 7). In pre-activation networks BN comes before the layer, so that y is the layer's own output; where BN
    follows the addition, so is that of a branch's last layer.
    """
    net = own(net, "the probe of responses")
    modules = response_modules(net)
    moments = {name: _Moments() for name in modules}
    with opened(net), outputs_of({name: module for name, (module, _) in modules.items()}) as seen:
        for x, _ in sample:
            with computing(sample):
                net(x)
            for name, output in seen.items():
                moments[name].add(output)
    return Responses(
        layer=tuple(modules),
        kernel=as_ints([kernel for _, kernel in modules.values()]),
        std=as_floats([moments[name].std for name in modules]),
        mean=as_floats([moments[name].mean for name in modules]),
        n_images=len(sample),
    )


@dataclass(frozen=True)
class Signal(Result):
    """The signal along the shortcuts: the input of each block, and the output of the last."""

    block: tuple[str, ...]
    """names of the blocks; the last entry, ``end``, is what leaves the last of them"""
    rms: Floats
    """root of the mean square over images, channels and positions"""
    negative: Floats
    """share of the numbers below zero, 0 to 1"""
    n_images: int


@torch.no_grad()
def signal(net: nn.Module, sample: Sample) -> Signal:
    """Growth and sign of the signal along the shortcuts.

    The ReLU behind each addition keeps it non-negative; in a pre-activation network (He et al. 2016, Fig. 4 (e)) it
    has both signs, and grows with each branch that is added.
    """
    net = own(net, "the probe of the signal")
    names = [*net.named_blocks, "end"]
    moments = {name: _Moments() for name in names}
    below = dict.fromkeys(names, 0)
    with opened(net), watched(net) as seen:
        for x, _ in sample:
            with computing(sample):
                net(x)
            last = list(seen.values())[-1].output
            for name, value in zip(names, [*(passed.input for passed in seen.values()), last], strict=True):
                moments[name].add(value)
                below[name] += int((value < 0).sum())
    return Signal(
        block=tuple(names),
        rms=as_floats([moments[name].rms for name in names]),
        negative=as_floats([below[name] / moments[name].count for name in names]),
        n_images=len(sample),
    )
