"""Decodes images (PNG, JPEG, ...) into one uint8 tensor, in threads, within a memory limit."""

import io
import os
import re
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reslab.data.decode.modes import in_mode, seen_size, upright
from reslab.errors import InputError

if TYPE_CHECKING:  # one image is decoded without it: a server of other runtimes never imports it
    import torch

MOST_BYTES = 4_000_000_000
"""Decoded images beyond this are refused: they belong on disk, not in memory."""
PATIENCE = 2.0  # seconds of decoding before a progress bar appears
CHUNK = 256  # images per task: large enough to hide the cost of handing it to a thread
_GREY = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


@dataclass(frozen=True)
class Encoded:
    """An image as it lies in a file."""

    name: str
    """what an error calls it"""
    data: bytes | Path | npt.NDArray[np.uint8] | None
    """encoded, or the pixels themselves: (H, W) or (H, W, 3)"""
    oriented: bool = False
    """whether the camera's orientation (EXIF) is to be applied"""
    formats: tuple[str, ...] | None = None
    """that it may have, by Pillow's names; None: any"""


Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Fit:
    """How an image of any size becomes one of a fixed size: the shorter side resized, then the centre cropped."""

    crop: tuple[int, int]
    """height and width in pixels"""
    resize: int | None = None
    """pixels of the shorter side; None: as few as cover the crop, and nothing if the size is right already"""
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if min(self.crop) < 1:
            raise InputError(f"expected a size of at least 1 pixel, found {min(self.crop)}; give a larger one, or none")
        if self.resize is not None and self.resize < max(self.crop):
            raise InputError(
                f"expected a shorter side of at least the crop's {max(self.crop)} pixels, found {self.resize}"
            )


@dataclass(frozen=True)
class Resized:
    """A part of the image that all of it becomes when it is resized: pixel for pixel as torchvision cuts it out.

    A JPEG of much more detail is decoded in full for it: at a half of its size pixels differ by up to 50 from what
    resizing alone makes of them.
    """

    height: int
    width: int
    top: int
    left: int


Chunks = Callable[[], Iterator[Sequence[Encoded]]]
"""Yields the images of a source in their order, from the start at every call."""


@dataclass(frozen=True)
class Survey:
    """What the headers of a set of images say."""

    sizes: dict[tuple[int, int], str]
    """each (height, width) that occurs, with the name of the first image that has it"""
    grey: bool
    """whether no image has colour"""

    def merge(self, other: "Survey") -> "Survey":
        """The survey of both lots of images."""
        return Survey({**other.sizes, **self.sizes}, self.grey and other.grey)


_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_threads(
    work: Callable[[_In], _Out], items: Iterator[_In], *, while_the_caller_computes: bool = True
) -> Iterator[_Out]:
    """``map`` in threads, in order, reading only a few items ahead (an executor's own map reads them all).

    ``while_the_caller_computes``: whether items are begun while the caller is busy with one that it was given. A caller
    that computes on all cores is better left alone: a thread of its own that has to wait for a core keeps all others
    waiting.
    """
    threads = min(8, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[_Out]] = deque()
    may_begin = Event()

    def begin(item: _In) -> _Out:
        may_begin.wait()
        return work(item)

    def next_one() -> _Out:
        may_begin.set()
        made = waiting.popleft().result()
        if not while_the_caller_computes:
            may_begin.clear()
        return made

    try:
        for item in items:
            waiting.append(pool.submit(begin, item))
            if len(waiting) > 2 * threads:
                yield next_one()
        while waiting:
            yield next_one()
    finally:
        may_begin.set()
        pool.shutdown(cancel_futures=True)


def read_ahead(file: str | os.PathLike[str]) -> None:
    """Asks the system to read a file that will soon be opened; where it cannot, nothing happens."""
    if not hasattr(os, "posix_fadvise"):
        return
    with suppress(OSError, ValueError):
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)


def check_memory(count: int, channels: int, size: tuple[int, int], *, where: str) -> None:
    """Raise InputError if so many decoded images would not fit in memory."""
    needed = count * channels * size[0] * size[1]
    if needed > MOST_BYTES:
        raise InputError(
            f"{where}: expected at most {MOST_BYTES / 1e9:.0f} GB of decoded images, found "
            f"{needed / 1e9:.1f} GB ({count} images of {size[1]}x{size[0]}); give a smaller size"
        )


def survey(chunks: Chunks) -> Survey:
    """Read the header of every image; InputError names the first that is no image."""
    total = Survey({}, True)
    for part in in_threads(_survey_chunk, chunks()):
        total = total.merge(part)
    return total


def decode(chunks: Chunks, count: int, *, channels: int, fit: Fit, what: str) -> "torch.Tensor":
    """Decode ``count`` images to uint8 (count, channels, height, width), each resized and cropped by ``fit``.

    Raises InputError naming the first image that is damaged. On a terminal, a progress bar titled ``what``
    appears after two seconds.
    """
    import torch

    out = np.empty((count, channels, *fit.crop), np.uint8)
    done = 0
    for part in decoded_chunks(chunks, count, channels, fit, what):
        out[done : done + len(part)] = part
        done += len(part)
    assert done == count, f"{done} images decoded of {count}"
    return torch.from_numpy(out)


def decoded_chunks(chunks: Chunks, count: int, channels: int, fit: Fit, what: str) -> Iterator[npt.NDArray[np.uint8]]:
    """Like `decode`, but yields chunks (n, channels, height, width), a few decoded ahead."""
    bar = late_bar(what, count)
    done = 0
    try:
        for part in in_threads(lambda chunk: _decode_chunk(chunk, channels, fit), chunks()):
            done += len(part)
            bar(done)
            yield part
    finally:
        bar(None)


def _survey_chunk(chunk: Sequence[Encoded]) -> Survey:
    sizes: dict[tuple[int, int], str] = {}
    grey = True
    for item in chunk:
        with opened(item) as image:
            sizes.setdefault(seen_size(image) if item.oriented else (image.height, image.width), item.name)
            grey = grey and image.mode in _GREY
    return Survey(sizes, grey)


def _decode_chunk(chunk: Sequence[Encoded], channels: int, fit: Fit) -> npt.NDArray[np.uint8]:
    out = np.empty((len(chunk), channels, *fit.crop), np.uint8)
    for row, item in enumerate(chunk):
        pixels = np.asarray(fitted_image(whole(item, channels), fit))
        out[row] = pixels if channels == 1 else pixels.transpose(2, 0, 1)  # (H, W, C) -> (C, H, W)
    return out


def whole(item: Encoded, channels: int) -> Image.Image:
    """All of an image, decoded, in grey (1 channel) or colour (3). Raises `InputError` that names a damaged one."""
    with opened(item) as image:
        try:
            image.load()
            # Turned before its mode is changed, which loses the note of how it lies.
            return in_mode(upright(image) if item.oriented else image, "L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError, EOFError, struct.error) as why:
            raise _damaged(item, why) from why


def opened(item: Encoded) -> Image.Image:
    """The image with its header read."""
    if item.data is None:
        raise InputError(f"{item.name}: expected the bytes of an image, found none; store images inside the file")
    if isinstance(item.data, np.ndarray):
        return Image.fromarray(item.data)
    try:
        return Image.open(io.BytesIO(item.data) if isinstance(item.data, bytes) else item.data, formats=item.formats)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as why:
        raise _damaged(item, why) from why


def _damaged(item: Encoded, why: Exception) -> InputError:
    if (
        isinstance(why, OSError) and why.errno is not None and why.strerror
    ):  # the system's: a broken link, no permission
        return InputError(f"{item.name}: cannot be read ({why.strerror}); mend or remove it")
    if isinstance(why, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow's text gives the number that it found first
        found = "".join(f", found {int(n):,}" for n in re.findall(r"\d+", str(why))[:1])
        return InputError(f"{item.name}: expected at most {most:,} pixels{found}; make it smaller or remove it")
    # Pillow's "cannot identify" prints the address of a buffer, which helps nobody
    reason = "no image format recognised" if "cannot identify" in str(why) else str(why) or type(why).__name__
    return InputError(f"{item.name}: expected a whole image, found a damaged one ({reason}); replace or remove it")


def resized(image: Image.Image, short: int, interpolation: Interpolation) -> Image.Image:
    """With a shorter side of so many pixels, antialiased, pixel for pixel as torchvision's Resize."""
    return _resized(image, _with_shorter_side(image.size, short), interpolation)


def _with_shorter_side(size: tuple[int, int], short: int) -> tuple[int, int]:
    other = int(short * max(size) / min(size))
    return (short, other) if size[0] <= size[1] else (other, short)


def _resized(image: Image.Image, size: tuple[int, int], interpolation: Interpolation) -> Image.Image:
    kinds = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    return image if image.size == size else image.resize(size, kinds[interpolation])


def centre(height: int, width: int, fit: Fit) -> Resized:
    """What `Fit` shows of an image. With a given shorter side, as torchvision's Resize and CenterCrop."""
    tall, wide = fit.crop
    if fit.resize is None:
        scale = max(wide / width, tall / height)
        size = max(wide, round(width * scale)), max(tall, round(height * scale))
    else:
        size = _with_shorter_side((width, height), fit.resize)
    return Resized(size[1], size[0], round((size[1] - tall) / 2), round((size[0] - wide) / 2))


def cut(
    image: Image.Image, wanted: Resized, crop: tuple[int, int], interpolation: Interpolation = "bilinear"
) -> Image.Image:
    """A part, of so many rows and columns, of the image that is resized as a whole."""
    image = _resized(image, (wanted.width, wanted.height), interpolation)
    part = (wanted.left, wanted.top, wanted.left + crop[1], wanted.top + crop[0])
    return image if part == (0, 0, *image.size) else image.crop(part)


def fitted_image(image: Image.Image, fit: Fit) -> Image.Image:
    """One image as `Fit` says."""
    return cut(image, centre(image.height, image.width, fit), fit.crop, fit.interpolation)


def fitted(images: "torch.Tensor", fit: Fit) -> "torch.Tensor":
    """Decoded images, uint8 (N, C, H, W), resized and cropped as `decode` does it."""
    import torch

    count, channels = images.shape[:2]
    out = torch.empty((count, channels, *fit.crop), dtype=torch.uint8)
    for row, image in enumerate(images):
        pixels = image[0] if channels == 1 else image.permute(1, 2, 0)
        fresh = torch.from_numpy(np.array(fitted_image(Image.fromarray(pixels.numpy()), fit)))
        out[row] = fresh if channels == 1 else fresh.permute(2, 0, 1)
    return out


def late_bar(what: str, count: int) -> Callable[[int | None], None]:
    """A progress bar that shows itself only once the work has taken a while; called with None it ends."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(what, total=count)
    began = time.monotonic()
    shown = False

    def update(done: int | None) -> None:
        nonlocal shown
        if done is None:
            if shown:
                with suppress(OSError):  # a closed terminal is no reason to lose the images
                    bar.stop()
            return
        bar.update(task, completed=done)
        if not shown and time.monotonic() - began > PATIENCE:
            shown = True
            bar.start()

    return update
