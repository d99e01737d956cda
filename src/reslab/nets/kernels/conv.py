"""3x3 convolution of 16 channels to 16, the first stage of the papers' CIFAR networks, by a kernel of our own.

General libraries run such narrow layers at a quarter of the speed of wider ones.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from reslab.nets.kernels.build import channels_last, has, kernel, pointer

CHANNELS = 16


def supports(x: Tensor, conv: nn.Conv2d) -> bool:
    """Whether the kernel can compute a layer on an activation (N, C, H, W)."""
    return (
        conv.in_channels == conv.out_channels == CHANNELS
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
        and conv.weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
        and channels_last(x)
        and has("conv16", x.dtype)
    )


def _sizes(x: Tensor) -> tuple[Any, ...]:
    n, _, height, width = x.shape
    return ctypes.c_int64(n), height, width


def _strides(weight: Tensor) -> tuple[Any, ...]:
    return tuple(ctypes.c_int64(stride) for stride in weight.stride())


def _convolved(x: Tensor, weight: Tensor, *, flip: bool) -> Tensor:
    y = torch.empty_like(x)
    kernel("conv16", x.dtype)(pointer(x), pointer(weight), *_strides(weight), int(flip), *_sizes(x), pointer(y))
    return y


class _Conv16(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolved(x, weight, flip=False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wanted = tuple(ctx.needs_input_grad)
        if torch.is_grad_enabled():  # create_graph: somebody will differentiate this
            ones = [1, 1]
            of_x, of_weight, _ = torch.ops.aten.convolution_backward(
                grads[0], x, weight.to(x.dtype), None, ones, ones, ones, False, [0, 0], 1, [*wanted, False]
            )
            return of_x, None if of_weight is None else of_weight.to(weight.dtype)
        grad = grads[0].to(x.dtype).contiguous(memory_format=torch.channels_last)
        of_weight = None
        if wanted[1]:
            of_weight = torch.empty_like(weight)
            kernel("conv16_weights", x.dtype)(
                pointer(x), pointer(grad), *_sizes(x), pointer(of_weight), *_strides(of_weight)
            )
        return _convolved(grad, weight, flip=True) if wanted[0] else None, of_weight


def conv16(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution, padded by 1, of x (N, 16, H, W) with a weight (16, 16, 3, 3) in fp32, as `supports` requires.

    Products are of numbers of x's type, and sums in fp32; the gradient of the weight is fp32.
    """
    y: Tensor = _Conv16.apply(x, weight)
    return y
