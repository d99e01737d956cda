"""The way from an image's pixels to a network's input, as part of the network: it travels inside the exported file.

The whole path, from a file's bytes to probabilities:

1. The caller decodes the file (`reslab.data.decode`, Pillow) to 8 bits, grey or RGB; and turns it upright as the camera
   noted (EXIF), where the artefact says so.
2. In the exported file, for photographs of any size: the shorter side is resized (or as little as covers the crop),
   with antialiasing, and the centre cropped.
3. In the exported file, for photographs and crops: input = (pixel / 255 - mean) / std, then the network: logits.
4. The caller divides them by the artefact's temperature, and takes the softmax.

Resizing is written as two products of matrices, first across, then down, each rounded to whole numbers. That is
Pillow's own definition, so that the pixels are those that the network is evaluated with: they differ by 1 where a sum
lies halfway between two numbers, and a little more in tall images, of which Pillow begins with the other axis. Any
runtime can multiply matrices, whereas the runtimes' own ways of resizing differ. Positions are whole numbers all along:
OpenVINO computes in bf16 by default where the processor has it, which has no odd numbers above 256.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from reslab.data.transforms import Normalizer
from reslab.weights.preprocessing import Preprocessing

Interpolation = Literal["bilinear", "bicubic"]
CUBIC = -0.5
"""Pillow's parameter of the cubic kernel (Keys 1981, eq. 8)."""


class Normalised(nn.Module):
    """Crops as input: (pixel / 255 - mean) / std."""

    mean: Tensor
    std: Tensor

    def __init__(self, how: Preprocessing) -> None:
        super().__init__()
        constants = Normalizer.from_values(how.mean, how.std)
        self.register_buffer("mean", constants.mean)
        self.register_buffer("std", constants.std)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, C) of the crop's size -> fp32 (N, C, H, W)."""
        return self.of_pixels(images.permute(0, 3, 1, 2).float())

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """fp32 (N, C, H, W), 0 to 255 -> the same, normalised."""
        return (pixels / 255 - self.mean) / self.std


class Fitted(Normalised):
    """Whole photographs as input: resized, cropped (as `reslab.data.decode.whole.Fit`) and normalised."""

    def __init__(self, how: Preprocessing) -> None:
        super().__init__(how)
        self.crop, self.short, self.interpolation = how.crop, how.resize, how.interpolation

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, C) of any size -> fp32 (N, C, height, width) of the crop's."""
        _, height, width, _ = images.shape
        tall, wide = torch.full((), height, dtype=torch.int64), torch.full((), width, dtype=torch.int64)
        down, across = self._resized(tall, wide)
        pixels = images.permute(0, 3, 1, 2).float()  # (N, H, W, C) -> (N, C, H, W)
        pixels = _whole(pixels @ self._weights(width, wide, across, self.crop[1]).T)  # (N, C, H, width)
        pixels = _whole(self._weights(height, tall, down, self.crop[0]) @ pixels)  # (N, C, height, width)
        return self.of_pixels(pixels)

    def _resized(self, tall: Tensor, wide: Tensor) -> tuple[Tensor, Tensor]:
        """The size (height, width) that an image of a size has before the crop."""
        if self.short is not None:
            shorter = torch.minimum(tall, wide)
            return torch.floor_divide(self.short * tall, shorter), torch.floor_divide(self.short * wide, shorter)
        height, width = self.crop
        # As few pixels as cover the crop: of two sizes with the image's shape, which differ in one side, the larger.
        down = torch.clamp(_rounded(tall * width, wide), min=height)
        across = torch.clamp(_rounded(wide * height, tall), min=width)
        return down, across

    def _weights(self, pixels: int, before: Tensor, after: Tensor, crop: int) -> Tensor:
        """How much of each pixel of an axis is in each pixel of its crop: (crop, pixels), each row's sum is 1.

        Pixel i of the crop lies at (i + first + 1/2) before/after of the axis; a pixel x, at x + 1/2, counts by the
        kernel of their distance, which is stretched where the image shrinks.
        """
        first = _rounded(after - crop, 2)
        places = 2 * (torch.arange(crop) + first) + 1  # (crop,), twice as large as they are
        pixel = 2 * torch.arange(pixels) + 1  # (pixels,), so too
        apart = torch.abs(pixel[None, :] * after - places[:, None] * before)
        distance = apart.float() / (2 * torch.maximum(before, after)).float()
        weights = _triangle(distance) if self.interpolation == "bilinear" else _cubic(distance)
        return weights / weights.sum(1, keepdim=True)


def _rounded(a: Tensor, b: Tensor | int) -> Tensor:
    """a / b to the nearest whole number, and halfway between two to the even one, as Python's ``round``."""
    half_up = torch.floor_divide(2 * a + b, 2 * b)
    between = (2 * a + b - 2 * b * half_up == 0) & (half_up % 2 == 1)
    return half_up - between.long()


def _whole(pixels: Tensor) -> Tensor:
    """To 8 bits, as Pillow rounds after each axis."""
    return torch.floor(pixels + 0.5).clamp(0, 255)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = CUBIC * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
