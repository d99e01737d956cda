"""Shortcut option A on a GPU in two launches each way: every stride-th pixel, copied in between channels of zeros.

PyTorch's slicing and padding leave channels-last on the way and come back to it, and their gradient fills and copies
for each dimension that was sliced: some nine launches for one shortcut, of which a step of ResNet-20 has two.
"""

from typing import Any

import torch
from torch import Tensor

from reslab.kernels import gpu


def supports(x: Tensor) -> bool:
    """Whether an activation (N, C, H, W) lies on a GPU whose own kernels run, in channels-last memory."""
    return gpu.takes(x)


def subsample(x: Tensor, stride: int, low: int, channels: int) -> Tensor:
    """Every stride-th pixel of x (N, C, H, W) as the channels from number ``low`` on of (N, channels, H', W')."""
    y: Tensor = _Subsample.apply(x, stride, low, channels)
    return y


class _Subsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, low: int, channels: int) -> Tensor:
        ctx.of = x.shape, stride, low
        seen = x[:, :, ::stride, ::stride]
        y = _zeros((len(x), channels, *seen.shape[2:]), x)
        y[:, low : low + x.shape[1]] = seen
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        shape, stride, low = ctx.of
        of_x = _zeros(shape, grads[0])
        of_x[:, :, ::stride, ::stride] = grads[0][:, low : low + shape[1]]
        return of_x, None, None, None


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last).zero_()
