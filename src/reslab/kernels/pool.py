"""Max pooling with stride 2, of 2x2 pixels and of 3x3 with padding, by kernels much quicker than PyTorch's."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.kernels import gpu
from reslab.kernels.build import channels_last, has, kernel, pointer

LANES = 16
PADDING = {2: 0, 3: 1}
"""By the side of the window, which has a stride of 2."""


def supports(x: Tensor, pool: nn.MaxPool2d) -> bool:
    """Whether a kernel can compute a layer on an activation (N, C, H, W)."""
    side = pool.kernel_size
    return (
        isinstance(side, int)
        and (pool.stride, pool.padding, pool.dilation, pool.ceil_mode) == (2, PADDING.get(side), 1, False)
        and x.dim() == 4
        and x.numel() > 0
        and min(x.shape[2:]) >= 2
        and (gpu.takes(x) or (x.device.type == "cpu" and _on_cpu(x, side)))
    )


def _on_cpu(x: Tensor, side: int) -> bool:
    return x.shape[1] % LANES == 0 and channels_last(x) and has(f"max_pool{side}", x.dtype)


def _sizes(x: Tensor) -> tuple[Any, ...]:
    n, channels, height, width = x.shape
    return ctypes.c_int64(n), height, width, channels


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, side: int) -> Tensor:
        if gpu.usable(x.device):
            with torch.cuda.device_of(x):
                y, which = gpu.pooling().forward(x, side, PADDING[side])
        else:
            n, channels, *size = x.shape
            height, width = ((pixels + 2 * PADDING[side] - side) // 2 + 1 for pixels in size)
            y = torch.empty((n, channels, height, width), dtype=x.dtype, memory_format=torch.channels_last)
            which = torch.empty_like(y, dtype=torch.uint8)
            kernel(f"max_pool{side}", x.dtype)(pointer(x), *_sizes(x), pointer(y), pointer(which))
        ctx.save_for_backward(which)
        ctx.shape, ctx.side = x.shape, side
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (which,) = ctx.saved_tensors
        return _Unpool.apply(grads[0], which, ctx.shape, ctx.side), None


class _Unpool(torch.autograd.Function):
    """Numbers put back where the largest were, and zero elsewhere: linear, so its own gradient is a gather."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, which: Tensor, shape: torch.Size, side: int) -> Tensor:
        grad = grad.contiguous(memory_format=torch.channels_last)
        if gpu.usable(grad.device):
            with torch.cuda.device_of(grad):
                grad_x = gpu.pooling().backward(grad, which, shape, side, PADDING[side])
        else:
            grad_x = torch.empty(shape, dtype=grad.dtype, memory_format=torch.channels_last)
            kernel(f"max_pool{side}_backward", grad.dtype)(
                pointer(grad), pointer(which), *_sizes(grad_x), pointer(grad_x)
            )  # fmt: skip
        ctx.save_for_backward(which)
        ctx.side = side
        return grad_x  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (which,) = ctx.saved_tensors
        side, pad = ctx.side, PADDING[ctx.side]
        windows = F.pad(grads[0], (pad, pad, pad, pad)).unfold(2, side, 2).unfold(3, side, 2)  # (N, C, h, w, k, k)
        return windows.flatten(4).gather(4, which.long().unsqueeze(4)).squeeze(4), None, None, None


def max_pool(x: Tensor, side: int = 2) -> Tensor:
    """The largest number of each window of x (N, C, H, W), as `supports` requires.

    Windows have a stride of 2: ``side`` 2 gives (N, C, H // 2, W // 2); 3, with a pixel of padding, rounds up.
    """
    y: Tensor = _MaxPool.apply(x, side)
    return y
