"""1x1 convolutions as matrix products, where they are quicker than the library's convolutions.

On channels-last activations a 1x1 convolution is a matrix product of pixels and weights as they lie. The library's
convolution is another code, whose gradients of the weights and of strided layers take up to four times as long on some
processors: ResNet-50's projection to 2048 channels 32 ms against 8 on one with AMX.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.kernels.build import SUFFIX, channels_last, readable
from reslab.kernels.choice import layer_pays


def supports(x: Tensor, conv: nn.Conv2d) -> bool:
    """Whether a layer is a product of the activation (N, C, H, W) as it lies."""
    return (
        conv.kernel_size == (1, 1)
        and conv.padding in ((0, 0), "valid")
        and conv.groups == 1
        and conv.bias is None
        and conv.weight.dtype == torch.float32
        and x.dtype in SUFFIX
        and x.dim() == 4
        and x.numel() > 0
        and x.shape[1] == conv.in_channels
        and channels_last(x)
        and readable(conv.weight)
    )


def pays(x: Tensor, conv: nn.Conv2d) -> bool:
    """Whether the product is quicker than the library's convolution: forward, and backward where wanted."""
    down, across = conv.stride
    return layer_pays(
        x, conv,
        lambda x, weight: conv1x1(x, weight, (down, across)),
        lambda x, weight: F.conv2d(x, weight.to(x.dtype), stride=(down, across)),
    )  # fmt: skip


def conv1x1(x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """The convolution of x (N, C, H, W) with a weight (C', C, 1, 1) in fp32, in numbers of x's type."""
    pixels = x.permute(0, 2, 3, 1)  # (N, H, W, C), as it lies
    if stride != (1, 1):
        pixels = pixels[:, :: stride[0], :: stride[1]].contiguous()
    return F.linear(pixels, weight.flatten(1).to(x.dtype)).permute(0, 3, 1, 2)
