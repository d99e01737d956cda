"""3x3 convolutions with stride 1 by kernels of our own, where they are quicker than the general library's.

Two kernels, each for other processors. ``conv16`` is for 16 channels to 16, the first stage of the papers' CIFAR
networks, where there are registers of 512 bits: general libraries run such narrow layers at a quarter of the speed of
wider ones, unless the processor multiplies tiles (AMX). ``winograd`` is for processors with AVX2 and no more, in fp32,
with 16 multiplications in place of 36. Whether they are quicker is measured (`choice`).
"""

import ctypes
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.kernels.build import channels_last, has, kernel, pointer, readable
from reslab.kernels.choice import layer_pays

Kernel = Literal["conv16", "winograd"]
LANES = 16
"""Channels are a multiple of it."""
MOST_WEIGHTS = 256 * 256
"""Channels in times channels out, up to which Winograd's transformed weights stay in the caches."""
FEWEST_TILES = 16
"""Tiles of 2x2 pixels of an image, from which on its transforms pay."""


def supports(x: Tensor, conv: nn.Conv2d) -> bool:
    """Whether a kernel can compute a layer on an activation (N, C, H, W)."""
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
        and conv.weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
        and conv.weight.shape == (conv.out_channels, x.shape[1], 3, 3)
        and channels_last(x)
        and readable(conv.weight)
        and _kernel_for(x, conv.out_channels) is not None
    )


def pays(x: Tensor, conv: nn.Conv2d) -> bool:
    """Whether our kernel is quicker than the library's for what it `supports`: forward, and backward where wanted."""
    return layer_pays(x, conv, conv3x3, lambda x, weight: F.conv2d(x, weight.to(x.dtype), padding=1))


def is_unsafe(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether PyTorch's own gradient of the weights may write beyond its memory.

    Seen in PyTorch 2.15 on a processor with AVX2 and no more: 1x1 with a stride, of 2 to 7 channels, channels-last. The
    same layer is one without a stride on the pixels that it reads.
    """
    return (
        x.device.type == "cpu"
        and conv.kernel_size == (1, 1)
        and conv.stride != (1, 1)
        and conv.padding in ((0, 0), "valid")
        and conv.in_channels < 8
        and conv.groups == 1
    )


def _kernel_for(x: Tensor, channels: int) -> Kernel | None:
    """Which kernel takes an activation to so many channels."""
    n, own, height, width = x.shape
    if own == channels == LANES and has("conv16", x.dtype):
        return "conv16"
    fits = own % LANES == channels % LANES == 0 and own * channels <= MOST_WEIGHTS
    enough = ((height + 1) // 2) * ((width + 1) // 2) >= FEWEST_TILES
    # Images are what the threads share: with few of them some would have nothing to do.
    shared = n >= 2 * torch.get_num_threads()
    return "winograd" if fits and enough and shared and has("winograd", x.dtype) else None


def _sizes(which: Kernel, x: Tensor, channels: int) -> tuple[Any, ...]:
    n, own, height, width = x.shape
    return (ctypes.c_int64(n), height, width, *((own, channels) if which == "winograd" else ()))


def _strides(weight: Tensor) -> tuple[Any, ...]:
    return tuple(ctypes.c_int64(stride) for stride in weight.stride())


def _convolved(which: Kernel, x: Tensor, weight: Tensor, *, flip: bool) -> Tensor:
    channels = weight.shape[1 if flip else 0]
    y = torch.empty((len(x), channels, *x.shape[2:]), dtype=x.dtype, memory_format=torch.channels_last)
    sizes = _sizes(which, x, channels)
    kernel(which, x.dtype)(pointer(x), pointer(weight), *_strides(weight), int(flip), *sizes, pointer(y))
    return y


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        which = _kernel_for(x, len(weight))
        assert which is not None, "supports() says where this may be called"
        ctx.save_for_backward(x, weight)
        ctx.which = which
        return _convolved(which, x, weight, flip=False)

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
            sizes = _sizes(ctx.which, x, len(weight))
            kernel(f"{ctx.which}_weights", x.dtype)(
                pointer(x), pointer(grad), *sizes, pointer(of_weight), *_strides(of_weight)
            )
        return _convolved(ctx.which, grad, weight, flip=True) if wanted[0] else None, of_weight


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution, padded by 1, of x (N, C, H, W) with a weight (C', C, 3, 3) in fp32, as `supports` requires.

    Products are of numbers of x's type, and sums in fp32; the gradient of the weight is fp32.
    """
    y: Tensor = _Conv3x3.apply(x, weight)
    return y
