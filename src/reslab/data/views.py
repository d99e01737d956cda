"""The views of an image for evaluation: one crop, five crops, or the whole image at several sizes.

An image is read and decoded once, by threads beside the network, whatever is made of it. Mirroring and normalising are
left to the device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from reslab.data.decode.modes import pixels_of
from reslab.data.decode.part import fitted
from reslab.data.decode.whole import Encoded, Fit, Interpolation, fitted_image, in_threads, resized, whole
from reslab.data.photographs import Damage
from reslab.data.stream import Listing
from reslab.errors import InputError

SOME = 8
"""Images that a thread is given at a time: of one photograph at five sizes there are 4 MB."""
MOST_WAITING = 512 * 2**20
"""Bytes of images that wait for others of their shape."""


@dataclass(frozen=True)
class FiveCrops:
    """Four corners and the centre of an image whose shorter side is resized, as torchvision's Resize and FiveCrop."""

    crop: tuple[int, int]
    """height and width"""
    resize: int
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True)
class Sides:
    """The whole image with its shorter side resized to each of several numbers of pixels."""

    sides: tuple[int, ...]
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True)
class AsItIs:
    """The whole image, of whatever size."""


Resized = Fit | FiveCrops | Sides
How = Resized | AsItIs
Group = tuple[Image.Image, ...]
"""Parts of one size of one image."""


def seen(image: Image.Image, how: How) -> tuple[Group, ...]:
    """The parts of an image; those of one size together."""
    match how:
        case Fit():
            return ((fitted_image(image, how),),)
        case FiveCrops():
            return (_five(resized(image, how.resize, how.interpolation), how.crop),)
        case Sides():
            return tuple((resized(image, side, how.interpolation),) for side in how.sides)
        case AsItIs():
            return ((image,),)


def _five(image: Image.Image, crop: tuple[int, int]) -> Group:
    """Top left, top right, bottom left, bottom right, centre."""
    height, width = crop
    right, bottom = image.width - width, image.height - height
    middle = (round(right / 2), round(bottom / 2))
    corners = ((0, 0), (right, 0), (0, bottom), (right, bottom), middle)
    return tuple(image.crop((left, top, left + width, top + height)) for left, top in corners)


@dataclass(frozen=True)
class View:
    """Parts of some images, all of one size."""

    index: Tensor
    """int64 (n,): which images of the listing"""
    parts: tuple[Tensor, ...]
    """uint8 (n, C, H, W) each, channels-last"""


@dataclass
class _Waiting:
    """Images of one shape that are not yet a batch."""

    index: list[int] = field(default_factory=list)
    parts: list[tuple[npt.NDArray[np.uint8], ...]] = field(default_factory=list)
    bytes: int = 0

    def add(self, index: int, parts: tuple[npt.NDArray[np.uint8], ...]) -> None:
        self.index.append(index)
        self.parts.append(parts)
        self.bytes += sum(part.nbytes for part in parts)

    def view(self) -> View:
        stacked = (torch.from_numpy(np.stack(same)).permute(0, 3, 1, 2) for same in zip(*self.parts, strict=True))
        return View(torch.tensor(self.index), tuple(stacked))


class Views:
    """Batches of equal shape; each image comes once in each of its sizes, those of one size in their order."""

    def __init__(
        self,
        images: Listing,
        how: How,
        *,
        batch: int,
        unit: tuple[int, int],
        most_damaged: int = 0,
        while_the_caller_computes: bool = True,
    ) -> None:
        """
        Args:
            images: what to show.
            how: which parts, in which sizes.
            batch: images at a time.
            unit: height and width of which so many fit; of larger ones there are fewer at a time.
            most_damaged: images that may be left out because they cannot be decoded.
            while_the_caller_computes: whether to decode meanwhile; better not where it computes on all cores.
        """
        self.images, self.how, self.batch, self.unit = images, how, batch, unit
        self.damage = Damage(most_damaged)
        self._meanwhile = while_the_caller_computes

    def __len__(self) -> int:
        return len(self.images.labels)

    @property
    def passes(self) -> int:
        """How often each image comes."""
        return len(self.how.sides) if isinstance(self.how, Sides) else 1

    def _at_a_time(self, shape: tuple[int, ...]) -> int:
        return min(self.batch, max(1, self.batch * self.unit[0] * self.unit[1] // (shape[0] * shape[1])))

    def __iter__(self) -> Iterator[View]:
        waiting: dict[tuple[int, ...], _Waiting] = {}
        total = 0
        for decoded in in_threads(self._decoded, self._some(), while_the_caller_computes=self._meanwhile):
            for index, groups in decoded:
                if isinstance(groups, str):
                    self._leave_out(index, groups)
                    continue
                for parts in groups:
                    shape = parts[0].shape
                    lot = waiting.setdefault(shape, _Waiting())
                    total -= lot.bytes
                    lot.add(index, parts)
                    total += lot.bytes
                    if len(lot.index) == self._at_a_time(shape):
                        total -= lot.bytes
                        yield waiting.pop(shape).view()
                while total > MOST_WAITING:
                    largest = max(waiting, key=lambda shape: waiting[shape].bytes)
                    total -= waiting[largest].bytes
                    yield waiting.pop(largest).view()
        for lot in waiting.values():
            yield lot.view()

    def _leave_out(self, index: int, why: str) -> None:
        if not self.damage.most:
            raise InputError(f"{why}, or leave such images out by --damaged 0.01")
        self.damage.add({index: why})

    def _some(self) -> Iterator[tuple[int, Sequence[Encoded]]]:
        """A few images at a time, with the number of the first."""
        start = 0
        for chunk in self.images.chunks():
            items = iter(chunk)
            while some := list(islice(items, SOME)):
                yield start, some
                start += len(some)
        assert start == len(self), f"{start} images read of {len(self)}"

    def _decoded(
        self, given: tuple[int, Sequence[Encoded]]
    ) -> list[tuple[int, list[tuple[npt.NDArray[np.uint8], ...]] | str]]:
        """The parts of some images as (H, W, C), or why an image has none."""
        start, some = given
        made: list[tuple[int, list[tuple[npt.NDArray[np.uint8], ...]] | str]] = []
        for index, item in enumerate(some, start):
            try:
                if isinstance(self.how, Fit):  # of a JPEG, no more is decoded than is shown
                    made.append((index, [(fitted(item, self.images.channels, self.how),)]))
                    continue
                image = whole(item, self.images.channels)
            except InputError as why:
                made.append((index, str(why)))
                continue
            made.append((index, [tuple(pixels_of(part) for part in group) for group in seen(image, self.how)]))
        return made
