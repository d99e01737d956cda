"""Turns uint8 images into network input, in whole batches on the images' device."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from reslab.data.draws import bits, integers
from reslab.data.spec import Augment, Colour, DataSpec, Normalization
from reslab.kernels import gpu, shift

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Which random number is which: shifts and flips must be independent.
_DY, _DX, _FLIP = 101, 102, 103
_PCA, _JITTER, _ORDER = 121, 122, 123

PCA_VALUES = (0.2175, 0.0188, 0.0045)
PCA_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Principal components of the colours of ImageNet's pixels, 0 to 1: magnitudes, and directions as columns, as
fb.resnet.torch has them."""
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


Values = tuple[float, ...] | tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True)
class Normalizer:
    """input = (pixel / 255 - mean) / std, with mean (C, H, W) or (C, 1, 1) and std (C, 1, 1), both fp32."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, kind: Normalization, train: Tensor) -> "Normalizer":
        """The constants for a training split of uint8 images (N, C, H, W)."""
        channels = train.shape[1]
        ones, zeros = torch.ones(channels, 1, 1), torch.zeros(channels, 1, 1)
        if kind == "none":
            return cls(zeros, ones)
        if kind == "imagenet":
            if channels != 3:
                raise ValueError(f"the ImageNet constants are for 3 channels, got images of {channels}")
            return cls(torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1))
        # Integer sums are exact, so the constants do not depend on the order of the images or of threads.
        total = sum_of(train)
        if kind == "per-pixel-mean":
            return cls((total[0] / len(train) / 255).float(), ones)
        count = len(train) * train.shape[2] * train.shape[3]
        mean = total[0].sum((1, 2)) / count
        var = total[1].sum((1, 2)) / count - mean**2
        return cls((mean / 255).float().view(-1, 1, 1), (var.sqrt() / 255).float().clamp_min(1e-6).view(-1, 1, 1))

    @classmethod
    def for_(cls, spec: DataSpec, train: Tensor) -> "Normalizer":
        """The constants of a recipe's data: as given there, or of a training split (N, C, H, W)."""
        if spec.normalization == "given":
            return cls.from_values(spec.mean, spec.std)
        return cls.of(spec.normalization, train)

    @classmethod
    def from_values(cls, mean: Values, std: tuple[float, ...]) -> "Normalizer":
        """The constants from plain values, as `mean_values` and `std_values` give them."""
        whole = torch.tensor(mean, dtype=torch.float32)
        return cls(
            whole if whole.dim() == 3 else whole.view(-1, 1, 1), torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
        )

    def mean_values(self) -> Values:
        """The mean as plain values: per channel, or (C, H, W) where it is per pixel."""
        if self.mean.shape[1:] == (1, 1):
            return _shortest(self.mean)
        return tuple(tuple(_shortest(row) for row in channel) for channel in self.mean)

    def std_values(self) -> tuple[float, ...]:
        """The standard deviation of each channel."""
        return _shortest(self.std)

    def to(self, device: torch.device) -> "Normalizer":
        """The same constants on another device."""
        return Normalizer(self.mean.to(device), self.std.to(device))

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> fp32 (N, C, H, W), in the memory format of the input."""
        return self.normalized(images.float().div_(255))

    def normalized(self, images: Tensor) -> Tensor:
        """The same for pixels that are fp32 in [0, 1] already."""
        return (images - self.mean).div_(self.std)


def _mirrored(position: Tensor, size: int) -> Tensor:
    """Positions beyond the edges of 0 ... size-1 turned back at them, the edge itself not repeated."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def _shortest(values: Tensor) -> tuple[float, ...]:
    """The shortest decimals that give the same fp32 numbers back."""
    return tuple(float(str(value)) for value in values.flatten().cpu().numpy())


def sum_of(images: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and sum of squares over the images, (C, H, W) each, fp64 and exact."""
    total = torch.zeros(images.shape[1:], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for chunk in images.split(4096):
        total += chunk.sum(0, dtype=torch.int64)
        squares += chunk.to(torch.int32).square().sum(0, dtype=torch.int64)
    return total, squares


def augment(
    images: Tensor, index: Tensor, *, normalizer: Normalizer, spec: Augment, seed: int, epoch: Tensor
) -> Tensor:
    """Normalises a batch, shifts and flips each image (He 2015, section 4.2: pad 4, random crop, random flip).

    Args:
        images: uint8 (N, C, H, W).
        index: which image of the data set each is (N,), int64; with ``seed`` and ``epoch`` it decides the draw.
        normalizer: applied before the padding, which is therefore zero, or "black" in its units.
        spec: how far to shift, whether to flip, and the colour of the border.
        seed: of the run.
        epoch: of each image (N,), int64.

    Returns:
        fp32 (N, C, H, W), channels-last.
    """
    pad = spec.pad
    if pad == 0 and not spec.flip:
        return normalizer(images).contiguous(memory_format=torch.channels_last)
    rows, columns = _sources(index, (images.shape[2], images.shape[3]), spec=spec, seed=seed, epoch=epoch)
    black = _black(normalizer, spec)
    if shift.supports(images):
        return shift.shifted(images, rows, columns, _values(normalizer, black))
    x = normalizer(images)
    if pad and spec.border != "reflect":
        edges = (pad, pad, pad, pad)
        x = F.pad(x, edges) if black is None else F.pad(x - black, edges) + black
        rows, columns = rows + pad, columns + pad
    image = torch.arange(len(x), device=x.device)[:, None, None]
    # One gather of whole pixels; its result (N, H, W, C) is channels-last storage already.
    return x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _black(normalizer: Normalizer, spec: Augment) -> Tensor | None:
    """The value of a black border after normalisation (C, 1, 1); None if there is no black border.

    Of a per-pixel mean the average over the image: beyond the edge there is no pixel to subtract.
    """
    if not spec.pad or spec.border != "black":
        return None
    return -normalizer.mean.mean((1, 2), keepdim=True) / normalizer.std


class OnGpu:
    """The same for a data set on a GPU, in one kernel launch; falls back to PyTorch if the results differ."""

    def __init__(self, images: Tensor, normalizer: Normalizer, spec: Augment, seed: int) -> None:
        """Takes images (D, C, H, W), uint8 and channels-last, and a normaliser on their device."""
        self.images, self.spec, self.seed = images, spec, seed
        values = _values(normalizer, _black(normalizer, spec))
        mean = None if values.mean is None else values.mean.permute(1, 2, 0).contiguous()
        self.values = replace(values, mean=mean)

    @classmethod
    def usable(cls, images: Tensor, normalizer: Normalizer, spec: Augment, seed: int) -> "OnGpu | None":
        """This, where there is a GPU that runs its kernels and makes of some images what PyTorch makes of them."""
        if not (gpu.usable(images.device) and images.dtype == torch.uint8 and len(images)):
            return None
        own = cls(images, normalizer, spec, seed)
        index = torch.arange(min(64, len(images)), device=images.device)
        wanted = augment(images[index], index, normalizer=normalizer, spec=spec, seed=seed, epoch=index + 3)
        return own if gpu.agrees("augmentation", lambda: own(index, index + 3), wanted) else None

    def __call__(self, index: Tensor, epoch: Tensor) -> Tensor:
        """Images (N,) in epochs (N,) -> fp32 (N, C, H, W), channels-last."""
        from reslab.kernels import triton_shift

        turned = triton_shift.ALTERNATING if self.spec.flip == "alternating" else triton_shift.FLIP
        with torch.cuda.device_of(self.images):
            return triton_shift.shifted(
                self.images, index, epoch, self.values, seed=self.seed, keys=(_DY, _DX, _FLIP), pad=self.spec.pad,
                flips=turned if self.spec.flip else triton_shift.NO_FLIP, reflects=self.spec.border == "reflect",
            )  # fmt: skip


def _sources(
    index: Tensor, size: tuple[int, int], *, spec: Augment, seed: int, epoch: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Which row and column of its image each pixel is of, (N, H) and (N, W): beyond 0 ... H-1 lies the border."""
    n, (height, width), pad = len(index), size, spec.pad
    rows = torch.arange(height, device=index.device).expand(n, height)
    columns = torch.arange(width, device=index.device).expand(n, width)
    if spec.flip:
        if spec.flip == "alternating":
            flip = ((bits(index, seed, _FLIP) + epoch) & 1).bool()
        else:
            flip = (bits(index, seed, epoch, _FLIP) & 1).bool()
        columns = torch.where(flip[:, None], width - 1 - columns, columns)
    if pad:
        rows = rows + integers(index, 2 * pad + 1, seed, epoch, _DY)[:, None] - pad
        columns = columns + integers(index, 2 * pad + 1, seed, epoch, _DX)[:, None] - pad
        if spec.border == "reflect":
            rows, columns = _mirrored(rows, height), _mirrored(columns, width)
    return rows, columns


def _values(normalizer: Normalizer, black: Tensor | None) -> shift.Values:
    """The normaliser as the kernel takes it: its own operations on each of the 256 bytes."""
    channels, device = len(normalizer.std), normalizer.std.device
    every = torch.arange(256, dtype=torch.uint8, device=device).view(1, 1, 16, 16).expand(1, channels, 16, 16)
    border = torch.zeros(channels, device=device) if black is None else 0 + black.flatten()
    if normalizer.mean.shape[1:] == (1, 1):
        values = normalizer(every)
        table = values if black is None else (values - black) + black
        return shift.Values(table.flatten(2)[0], border)
    table = every.float().div_(255).flatten(2)[0]
    return shift.Values(
        table, border, normalizer.mean, normalizer.std.flatten(), None if black is None else black.flatten()
    )


def coloured(images: Tensor, index: Tensor, *, spec: Colour, seed: int, epoch: Tensor) -> Tensor:
    """Changes the colours of photographs, on the device that trains: no decoding process spends time on it.

    Args:
        images: fp32 (N, 3, H, W) in [0, 1], changed in place where possible.
        index: which image of the data set each is (N,), int64; with ``seed`` and ``epoch`` it decides the draw.
        spec: what to change.
        seed: of the run.
        epoch: of each image (N,), int64.

    Returns:
        fp32 (N, 3, H, W), not cut off at 0 and 1, as in both sources.
    """
    if spec.jitter:
        # The factor of each of the three, and in which order they come.
        factor = torch.stack([_uniform(index, seed, epoch, _JITTER, which) for which in range(3)])
        factor = (1 + spec.jitter * (2 * factor - 1))[:, :, None, None, None]
        order = _constant(ORDERS, images.device)[bits(index, seed, epoch, _ORDER) % len(ORDERS)]
        for turn in range(3):
            images = _jittered(images, order[:, turn], factor)
    if spec.pca:
        amount = torch.stack([_normal(index, seed, epoch, _PCA, which) for which in range(3)], 1) * spec.pca
        shift = (amount * _constant(PCA_VALUES, images.device)) @ _constant(PCA_VECTORS, images.device).T  # (N, 3)
        images = images + shift[:, :, None, None]
    return images


@cache
def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """Moves constants to the device once, because each copy would wait for the previous step."""
    return torch.tensor(values, device=device)


def _jittered(images: Tensor, which: Tensor, factor: Tensor) -> Tensor:
    """Brightness (0), contrast (1) or saturation (2): a blend with black, the mean grey, or the grey of each pixel."""
    grey = (images * _constant(GREY, images.device).view(1, 3, 1, 1)).sum(1, keepdim=True)  # (N, 1, H, W)
    chosen = which.view(-1, 1, 1, 1)
    other = torch.where(chosen == 0, 0.0, torch.where(chosen == 1, grey.mean((2, 3), keepdim=True), grey))
    own = factor.gather(0, which.view(1, -1, 1, 1, 1))[0]  # (N, 1, 1, 1)
    return images * own + (1 - own) * other


def _uniform(index: Tensor, *key: int | Tensor) -> Tensor:
    """In (0, 1), one for each entry."""
    return (bits(index, *key).float() + 0.5) / 2**32


def _normal(index: Tensor, *key: int | Tensor) -> Tensor:
    """Standard normal, one for each entry (Box and Muller 1958)."""
    radius = (-2 * _uniform(index, *key, 1).log()).sqrt()
    return radius * (2 * torch.pi * _uniform(index, *key, 2)).cos()
