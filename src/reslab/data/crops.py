"""Which part of an image a network is shown: chosen from its height and width alone, before anything is decoded."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from reslab.data.decode.whole import Fit, Resized, centre
from reslab.data.draws import bits
from reslab.data.spec import ResizedCrop, ScaleCrop

Pixels = npt.NDArray[np.uint8]
_SHORT, _TOP, _LEFT, _FLIP, _AREA, _RATIO = 111, 112, 113, 114, 115, 116
TRIES = 10
"""Shapes that `ResizedCrop` draws before it takes the centre, as torchvision's RandomResizedCrop."""


@dataclass(frozen=True)
class Box:
    """A part of an image, in its pixels, not necessarily whole ones."""

    top: float
    left: float
    height: float
    width: float
    flip: bool = False


Choose = Callable[[int, int], Box | Resized]
"""From the height and width of an image to the part that is wanted."""


class Draws:
    """Random numbers of the images of a batch: functions of (seed, epoch, index) alone, made for all at once."""

    def __init__(self, index: Tensor, seed: int, epoch: Tensor) -> None:
        self._index, self._seed, self._epoch = index, seed, epoch
        self._columns: dict[tuple[int, int], list[int]] = {}

    def bits(self, row: int, which: int, attempt: int) -> int:
        """32 random bits for one of the images."""
        key = (which, attempt)
        if key not in self._columns:
            self._columns[key] = bits(self._index, self._seed, self._epoch, which, attempt).tolist()
        return self._columns[key][row]

    def of(self, row: int) -> "Draw":
        """Those of one image."""
        return Draw(self, row)


@dataclass(frozen=True)
class Draw:
    """Random numbers of one image in one epoch."""

    batch: Draws
    row: int

    def uniform(self, which: int, attempt: int = 0) -> float:
        """Uniform random numbers in [0, 1)."""
        return self.batch.bits(self.row, which, attempt) / 2**32

    def below(self, count: int, which: int) -> int:
        """A whole number in [0, count)."""
        return (self.batch.bits(self.row, which, 0) * count) >> 32


def scale_crop(spec: ScaleCrop, size: tuple[int, int], draw: Draw) -> Callable[[int, int], Box]:
    """The shorter side resized to a random number of pixels, then a random crop (He 2015, section 3.4)."""
    low, high = spec.short

    def choose(height: int, width: int) -> Box:
        short = low + draw.below(high - low + 1, _SHORT)
        scale = short / min(height, width)
        # The sizes are those of the resized image, so that each of its crops is as likely as in the paper.
        tall, wide = max(size[0], round(height * scale)), max(size[1], round(width * scale))
        top, left = draw.below(tall - size[0] + 1, _TOP), draw.below(wide - size[1] + 1, _LEFT)
        by_height, by_width = height / tall, width / wide
        flip = spec.flip and draw.uniform(_FLIP) < 0.5
        return Box(top * by_height, left * by_width, size[0] * by_height, size[1] * by_width, flip)

    return choose


def resized_crop(spec: ResizedCrop, draw: Draw) -> Callable[[int, int], Box]:
    """A part of random area and shape (Szegedy 2014, arXiv 1409.4842, section 6; torchvision's RandomResizedCrop)."""

    def choose(height: int, width: int) -> Box:
        flip = spec.flip and draw.uniform(_FLIP) < 0.5
        low, high = np.log(spec.ratio[0]), np.log(spec.ratio[1])
        for attempt in range(TRIES):
            area = height * width * (spec.area[0] + (spec.area[1] - spec.area[0]) * draw.uniform(_AREA, attempt))
            ratio = float(np.exp(low + (high - low) * draw.uniform(_RATIO, attempt)))
            wide, tall = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if 0 < wide <= width and 0 < tall <= height:
                top = int(draw.uniform(_TOP, attempt) * (height - tall + 1))
                left = int(draw.uniform(_LEFT, attempt) * (width - wide + 1))
                return Box(top, left, tall, wide, flip)
        tall, wide = height, width
        if width / height < spec.ratio[0]:
            tall = round(width / spec.ratio[0])
        elif width / height > spec.ratio[1]:
            wide = round(height * spec.ratio[1])
        return Box((height - tall) // 2, (width - wide) // 2, tall, wide, flip)

    return choose


def centre_crop(resize: int, size: tuple[int, int]) -> Callable[[int, int], Resized]:
    """The shorter side resized, then the centre, as torchvision's Resize and CenterCrop: what an evaluation sees."""
    fit = Fit(size, resize)
    return lambda height, width: centre(height, width, fit)
