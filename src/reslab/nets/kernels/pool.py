"""Max pooling of 2x2 pixels by a kernel of our own, which takes a fraction of the time of PyTorch's on the CPU."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from reslab.nets.kernels.build import channels_last, has, kernel, pointer

LANES = 16


def supports(x: Tensor, pool: nn.MaxPool2d) -> bool:
    """Whether the kernel can compute a layer on an activation (N, C, H, W)."""
    return (
        (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode) == (2, 2, 0, 1, False)
        and x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
        and min(x.shape[2:]) >= 2
        and x.shape[1] % LANES == 0
        and channels_last(x)
        and has("max_pool", x.dtype)
    )


def _sizes(x: Tensor) -> tuple[Any, ...]:
    n, channels, height, width = x.shape
    return ctypes.c_int64(n), height, width, channels


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        y = torch.empty((n, channels, height // 2, width // 2), dtype=x.dtype, memory_format=torch.channels_last)
        which = torch.empty_like(y, dtype=torch.uint8)
        kernel("max_pool", x.dtype)(pointer(x), *_sizes(x), pointer(y), pointer(which))
        ctx.save_for_backward(which)
        ctx.shape = x.shape
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (which,) = ctx.saved_tensors
        return _Unpool.apply(grads[0], which, ctx.shape)  # type: ignore[no-any-return]


class _Unpool(torch.autograd.Function):
    """Numbers put back where the largest were, and zero elsewhere: linear, so its own gradient is a gather."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, which: Tensor, shape: torch.Size) -> Tensor:
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = torch.empty(shape, dtype=grad.dtype, memory_format=torch.channels_last)
        kernel("max_pool_backward", grad.dtype)(pointer(grad), pointer(which), *_sizes(grad_x), pointer(grad_x))
        ctx.save_for_backward(which)
        return grad_x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (which,) = ctx.saved_tensors
        height, width = which.shape[2] * 2, which.shape[3] * 2
        windows = grads[0][:, :, :height, :width].unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (N, C, h, 2, w, 2)
        four = windows.permute(0, 1, 2, 4, 3, 5).flatten(4)  # (N, C, h, w, 4)
        return four.gather(4, which.long().unsqueeze(4)).squeeze(4), None, None


def max_pool(x: Tensor) -> Tensor:
    """The largest of each 2x2 pixels of x (N, C, H, W), as `supports` requires: (N, C, H // 2, W // 2)."""
    y: Tensor = _MaxPool.apply(x)
    return y
