"""What downsampling discards: the positions of a block's input that its shortcut or its branch never reads.

A 1x1 layer of stride 2 reads one position of four (He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv 1812.01187, section
4.2, where ResNet-B and ResNet-D correct it in the branch and on the shortcut).
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets.blocks import Block
from reslab.nets.layers import Add, Pad
from reslab.probes.result import Floats, Result, as_floats
from reslab.probes.seam import opened, own


@dataclass(frozen=True)
class Coverage(Result):
    """For each block with a stride: the fraction of its input's positions that a part of it never reads."""

    block: tuple[str, ...]
    shortcut: Floats
    """NaN where there is none"""
    branch: Floats
    whole: Floats
    """what neither reads"""
    shortcut_map: Floats
    """(blocks, side, side), 8 a side for strides of 2: the sum of |gradient| at each position, 1 at a map's greatest"""
    branch_map: Floats


@contextmanager
def _linear(block: Block) -> Iterator[None]:
    """A block that adds up what it reads: weights of 1, averages for maxima, and all else passing what it is given.

    No gradient can then vanish or cancel. It is the modules' outputs that hooks replace; the weights stay.
    """

    def summed(module: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> Tensor:
        assert isinstance(module, nn.Conv2d)
        ones = torch.ones_like(module.weight)
        return nn.functional.conv2d(
            inputs[0], ones, None, module.stride, module.padding, module.dilation, module.groups
        )

    def averaged(module: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> Tensor:
        assert isinstance(module, nn.MaxPool2d)
        return nn.functional.avg_pool2d(inputs[0], module.kernel_size, module.stride, module.padding)

    def passing(_module: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> Tensor:
        return inputs[0]

    with ExitStack() as hooks:
        for module in block.modules():
            hook: Any = None
            if isinstance(module, nn.Conv2d):
                hook = summed
            elif isinstance(module, nn.MaxPool2d):
                hook = averaged
            elif not list(module.children()) and not _moves(module):
                hook = passing
            if hook is not None:
                hooks.callback(module.register_forward_hook(hook).remove)
        yield


def _moves(module: nn.Module) -> bool:
    """Whether a module without children does more than act on each number: pooling, padding, the addition."""
    return isinstance(module, nn.AvgPool2d | Pad | Add)


def downsampling(net: nn.Module) -> Coverage:
    """The share of positions that are never read by shortcut, branch or both, of each block with a stride.

    Found by a gradient-coverage map: of a block whose weights are all 1 and whose activations pass everything, the
    gradient of the summed output at an input's position is zero exactly if no output depends on it. Images are not
    needed. Raises `InputError` for a network that never subsamples inside its blocks.
    """
    net = own(net, "the probe of downsampling")
    strided = {name: block for name, block in net.named_blocks.items() if block.spec.stride > 1}
    if not strided:
        raise InputError(f"'{net.spec.name}' has no block with a stride, so no block discards positions")
    side = 4 * math.lcm(*(block.spec.stride for block in strided.values()))
    maps: dict[str, tuple[Floats, Floats]] = {}
    with opened(net):
        for name, block in strided.items():
            maps[name] = _maps(block, side)
    shortcuts = np.stack([shortcut for shortcut, _ in maps.values()])
    branches = np.stack([branch for _, branch in maps.values()])

    def unread(values: Floats) -> Floats:
        share = (values == 0).mean((1, 2))
        return as_floats(np.where(np.isnan(values).any((1, 2)), np.nan, share))

    return Coverage(
        block=tuple(strided),
        shortcut=unread(shortcuts),
        branch=unread(branches),
        whole=unread(np.nan_to_num(shortcuts) + branches),
        shortcut_map=shortcuts,
        branch_map=branches,
    )


def _maps(block: Block, side: int) -> tuple[Floats, Floats]:
    """|gradient| by position, (side, side), of the shortcut and of the branch; NaN for a shortcut that is not there."""
    device = next(block.parameters()).device
    x = torch.ones(1, _entering(block), side, side, device=device, requires_grad=True)
    terms: list[tuple[Tensor, Tensor]] = []

    def seen(_add: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
        terms.append(inputs)

    with torch.enable_grad(), _linear(block), ExitStack() as hooks:
        if block.add is not None:
            hooks.callback(block.add.register_forward_pre_hook(seen).remove)
        output = block(x)
    branch, shortcut = terms[0] if terms else (output, None)

    def map_of(term: Tensor | None) -> Floats:
        if term is None:
            return np.full((side, side), np.nan)
        (gradient,) = torch.autograd.grad(term.sum(), x, retain_graph=True)
        values = as_floats(gradient[0].abs().sum(0).cpu().numpy())
        return values / values.max() if values.max() > 0 else values

    return map_of(shortcut), map_of(branch)


def _entering(block: Block) -> int:
    """Channels that enter a block: those of its first convolution."""
    first = next(module for module in block.modules() if isinstance(module, nn.Conv2d))
    return first.in_channels
