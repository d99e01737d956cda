"""Images in, probabilities out: any number of images of any kind, decoded beside the network, in their order."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from reslab.data.decode.modes import in_mode, pixels_of, upright
from reslab.data.decode.part import fitted
from reslab.data.decode.whole import Encoded, Fit, fitted_image, in_threads, read_ahead, whole
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.evaluate.metrics import autocast
from reslab.weights.preprocessing import Preprocessing

AnyImage = str | os.PathLike[str] | Image.Image | npt.NDArray[np.generic] | Tensor
"""A file; an image of Pillow; an array (H, W) or (H, W, C), or a tensor (H, W) or (C, H, W), of 1, 3 or 4 channels:
uint8, or floating point from 0 to 1."""
SOME = 8
"""Images that a thread is given at a time."""


@dataclass(frozen=True)
class Shown:
    """An image as the network takes it, or why there is none."""

    name: str
    """the file, or ``image 3`` for the third where it is no file"""
    pixels: npt.NDArray[np.uint8] | None
    """(H, W, C)"""
    why: str = ""


@dataclass(frozen=True)
class Answers:
    """What a network says of some images, in the order in which they were given."""

    shown: Sequence[Shown]
    """all of them, those without pixels too"""
    probabilities: Tensor
    """fp32 (n, classes) on the CPU, of those with pixels: softmax of the logits at the temperature"""
    x: Tensor
    """their input (n, C, H, W), normalised, on the network's device"""

    def each(self) -> Iterator[tuple[Shown, Tensor | None]]:
        """Each image with its probabilities (classes,); None where it could not be read."""
        rows = iter(self.probabilities)
        for shown in self.shown:
            yield shown, None if shown.pixels is None else next(rows)


class Answering(ABC):
    """What answers to images of any number and kind; a network here, or one that was exported."""

    batch: int
    some: int = SOME

    @property
    def on_this_processor(self) -> bool:
        """Whether it computes on the cores that decode."""
        return True

    def __call__(self, images: Iterable[AnyImage]) -> Iterator[Answers]:
        """Answers batch by batch, as they come; ``images`` is read only a little ahead of the network."""
        waiting: list[Shown] = []
        ready = in_threads(self._shown, _some(images, self.some), while_the_caller_computes=not self.on_this_processor)
        for some in ready:
            waiting += some
            while count := self.at_once(waiting):
                yield self.answer(waiting[:count])
                del waiting[:count]
        if waiting:
            yield self.answer(waiting)

    def _shown(self, some: Sequence[tuple[int, AnyImage]]) -> list[Shown]:
        made = []
        for number, image in some:
            name = os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {number}"
            try:
                made.append(Shown(name, self.pixels(image, name)))
            except InputError as why:
                made.append(Shown(name, None, str(why).removeprefix(f"{name}: ")))
        return made

    def at_once(self, waiting: Sequence[Shown]) -> int:
        """How many of those that wait are to be answered now; 0: more should come first."""
        return self.batch if len(waiting) >= self.batch else 0

    @abstractmethod
    def pixels(self, image: AnyImage, name: str = "the image") -> npt.NDArray[np.uint8]:
        """An image as it is shown, (H, W, C). Raises `InputError` that begins with its name."""

    @abstractmethod
    def answer(self, shown: Sequence[Shown]) -> Answers:
        """Answers to some images, those without pixels left out."""


@dataclass(frozen=True)
class Classifying(Answering):
    """A network with all that turns an image into its input."""

    net: nn.Module
    """in evaluation mode, on the device"""
    preprocessing: Preprocessing
    """its ``oriented``, where nobody said, is taken as yes: these are a user's own photographs"""
    channels: int
    """1 (grey) or 3"""
    device: torch.device
    precision: str = "fp32"
    batch: int = 32
    """images computed at a time"""
    temperature: float = 1.0
    """that logits are divided by before the softmax (`reslab.evaluate.calibration`)"""

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise InputError(
                f"expected a network of images, grey (1 channel) or in colour (3), found one of {self.channels} "
                "channels; no image file has them"
            )
        if self.batch < 1:
            raise InputError(f"a batch takes 1 or more images, got {self.batch}")

    @property
    def on_this_processor(self) -> bool:
        """Not on a GPU, beside which images are decoded."""
        return self.device.type == "cpu"

    @cached_property
    def _normalizer(self) -> Normalizer:
        return Normalizer.from_values(self.preprocessing.mean, self.preprocessing.std).to(self.device)

    def pixels(self, image: AnyImage, name: str = "the image") -> npt.NDArray[np.uint8]:
        """An image resized and cropped for the network, (H, W, C). Raises `InputError` that begins with its name."""
        how, oriented = self.preprocessing, self.preprocessing.oriented is not False
        fit = Fit(how.crop, how.resize, how.interpolation)
        if isinstance(image, str | os.PathLike):
            return fitted(_file(image, name, oriented), self.channels, fit)
        return pixels_of(fitted_image(decoded(image, name, self.channels, oriented=oriented), fit))

    @torch.no_grad()
    def answer(self, shown: Sequence[Shown]) -> Answers:
        """As they are, in one batch."""
        pixels = [each.pixels for each in shown if each.pixels is not None]
        if not pixels:
            return Answers(list(shown), torch.empty(0, 0), torch.empty(0))
        images = torch.from_numpy(np.stack(pixels)).to(self.device).permute(0, 3, 1, 2)  # (n, H, W, C) -> (n, C, H, W)
        x = self._normalizer(images.contiguous(memory_format=torch.channels_last))
        with autocast(self.device, self.precision):
            logits = self.net(x)
        return Answers(list(shown), (logits.float() / self.temperature).softmax(1).cpu(), x)


def _some(images: Iterable[AnyImage], at_a_time: int) -> Iterator[list[tuple[int, AnyImage]]]:
    numbered = zip(count(1), images, strict=False)
    while some := list(islice(numbered, at_a_time)):
        for _, image in some:
            if isinstance(image, str | os.PathLike):
                read_ahead(image)
        yield some


def decoded(image: AnyImage, name: str, channels: int, *, oriented: bool) -> Image.Image:
    """All of an image in ``L`` or ``RGB``. Raises `InputError` that begins with its name."""
    if isinstance(image, str | os.PathLike):
        return whole(_file(image, name, oriented), channels)
    if isinstance(image, Image.Image):
        try:
            return in_mode(upright(image) if oriented else image, "L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError, EOFError) as why:
            raise InputError(f"{name}: expected a whole image, found a damaged one ({why})") from None
    return whole(Encoded(name, _eight_bits(image, name)), channels)


def _file(image: str | os.PathLike[str], name: str, oriented: bool) -> Encoded:
    try:
        return Encoded(name, Path(image).read_bytes(), oriented)
    except (OSError, ValueError) as why:  # an absent file is no damaged one
        raise InputError(f"{name}: cannot be read ({getattr(why, 'strerror', None) or why})") from None


def _eight_bits(image: npt.NDArray[np.generic] | Tensor, name: str) -> npt.NDArray[np.uint8]:
    """Numbers as uint8 (H, W), (H, W, 3) or (H, W, 4)."""
    if isinstance(image, Tensor):
        array = (image.movedim(0, -1) if image.dim() == 3 else image).detach().cpu().numpy()
        layout = "a tensor (H, W) or (C, H, W)"
    elif isinstance(image, np.ndarray):
        array, layout = image, "an array (H, W) or (H, W, C)"
    else:
        raise InputError(
            f"{name}: expected a path, an image of Pillow, an array or a tensor, found {type(image).__name__}"
        )
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(f"{name}: expected {layout} of 1, 3 or 4 channels, found one of {tuple(image.shape)}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    low, high = float(array.min()), float(array.max())
    if not np.issubdtype(array.dtype, np.floating) or not (low >= 0 and high <= 1):
        raise InputError(
            f"{name}: expected uint8, or floating point from 0 to 1, found {array.dtype} from {low:g} to {high:g}; "
            "give the pixels as they are, not normalised"
        )
    scaled: npt.NDArray[np.uint8] = np.rint(array * 255).astype(np.uint8)
    return scaled
