"""A process that decodes images from strangers, one after another: ``python -m reslab.deploy.serve.decoding HOW``.

What images can do to a decoder happens here and not in the server: a crash ends this process alone, memory is bounded
by the kernel, and so is the time of the processor that an image may take. Imports without torch.

On standard input: 4 bytes with the length of an image (big-endian), the image, and so on. On standard output: a byte at
the start; then for each image `Reply`'s number, 4 bytes with a length, and so many bytes: height, width and channels (4
bytes each) and the pixels, or a sentence. It ends where the input does.
"""

import os
import signal
import struct
import sys
import warnings
from enum import IntEnum
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from pydantic import BaseModel, ConfigDict

from reslab.data.decode.modes import pixels_of
from reslab.data.decode.whole import Encoded, Fit, Interpolation, fitted_image, opened, whole
from reslab.deploy.serve.refusals import plain
from reslab.errors import InputError
from reslab.processes import end_with_parent

PLUGINS = (GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
"""Imported so that Pillow does not look for them among all that it has."""
Pixels = npt.NDArray[np.uint8]
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
"""Those of which the decoders take time in proportion to the pixels. Others run programs (EPS), or are decoded in
Python or by rarer libraries."""
SCANS = 100
"""Passes of a progressive JPEG, at most. Each goes over all pixels, though it may take a few bytes in the file; usual
are ten."""
READY = b"\x00"
BYTES_A_PIXEL = 24
"""That decoding takes, at most: the image, itself turned, resized across, and copies of them."""
BYTES_AT_LEAST = 1 << 30
HEADER = struct.Struct(">BI")
SIZE = struct.Struct(">III")
LENGTH = struct.Struct(">I")


class Reply(IntEnum):
    """What a reply is."""

    PIXELS = 0
    DAMAGED = 1
    TOO_LARGE = 2
    NO_IMAGE = 3


class How(BaseModel):
    """What is made of each image, and at what cost at most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int
    """1 (grey) or 3"""
    crop: tuple[int, int] | None
    """height and width that it is fitted to; None: whole"""
    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    oriented: bool = True
    """whether the camera's orientation (EXIF) is applied"""
    most_pixels: int = 50_000_000
    seconds: float = 1.0
    """of the processor's time, an image"""

    @property
    def fit(self) -> Fit | None:
        """How it is resized and cropped."""
        return None if self.crop is None else Fit(self.crop, self.resize, self.interpolation)


class Rejected(Exception):
    """An image that is not decoded, and of what kind the reason is."""

    def __init__(self, kind: Reply, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def decoded(data: bytes, how: How) -> Pixels:
    """The pixels (H, W, C) of an encoded image; of an animation the first picture, and nothing more is read of it.

    Raises `Rejected`, whatever the bytes are.
    """
    try:
        item = Encoded("the image", data, how.oriented, FORMATS)
        with opened(item) as header:
            _check(header, data, how)
        image = whole(item, how.channels)
        if how.fit is not None:
            image = fitted_image(image, how.fit)
        return np.ascontiguousarray(pixels_of(image))
    except Rejected:
        raise
    except InputError as why:
        known = "no image format recognised" not in str(why)
        raise Rejected(
            Reply.DAMAGED if known else Reply.NO_IMAGE,
            plain(str(why)) if known else f"expected an image: {', '.join(FORMATS)}",
        ) from None
    except MemoryError:
        raise Rejected(Reply.TOO_LARGE, "the image takes too much memory") from None
    except Exception as why:  # Pillow's readers meet what they do not expect in many ways
        raise Rejected(Reply.DAMAGED, f"the image is damaged ({type(why).__name__})") from None


def _check(header: Image.Image, data: bytes, how: How) -> None:
    """Refuses what would take long or much memory, before it is decoded."""
    check_size(*header.size, how)
    if header.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > SCANS:
        raise Rejected(Reply.DAMAGED, f"the image is stored in more than {SCANS} passes")


def check_size(width: int, height: int, how: How) -> None:
    """Raises `Rejected` for an image with too many pixels, as it is or when its shorter side is resized."""
    if min(width, height) < 1:
        raise Rejected(Reply.DAMAGED, "the image has no pixels")
    if width * height > how.most_pixels:
        raise Rejected(
            Reply.TOO_LARGE, f"an image may have {how.most_pixels:,} pixels, and this one has {width:,} x {height:,}"
        )
    if how.crop is not None:
        short = how.resize or max(how.crop)
        if short * short * max(width, height) / min(width, height) > how.most_pixels:
            raise Rejected(Reply.TOO_LARGE, f"{width:,} x {height:,} pixels are too long and narrow")


def _limit_memory(how: How) -> None:
    """The kernel refuses memory beyond what an image of the most pixels takes; where it cannot, nothing does."""
    try:
        import resource
    except ImportError:  # no Unix
        return
    most = BYTES_AT_LEAST + BYTES_A_PIXEL * how.most_pixels
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def reply(data: bytes, how: How) -> tuple[Reply, bytes]:
    """What is answered to an image."""
    try:
        pixels = decoded(data, how)
    except Rejected as why:
        return why.kind, str(why).encode()
    return Reply.PIXELS, SIZE.pack(*pixels.shape) + pixels.tobytes()


def serve(source: BinaryIO, sink: BinaryIO, how: How) -> None:
    """Answers until the source ends. An image that takes too long ends the process by SIGPROF."""
    sink.write(READY)
    sink.flush()
    while len(length := source.read(LENGTH.size)) == LENGTH.size:
        data = source.read(LENGTH.unpack(length)[0])
        signal.setitimer(signal.ITIMER_PROF, how.seconds)
        kind, payload = reply(data, how)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sink.write(HEADER.pack(kind, len(payload)) + payload)
        sink.flush()


def main() -> None:
    """The program."""
    end_with_parent()
    how = How.model_validate_json(sys.argv[1])
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # our own limit is said in words
    _limit_memory(how)
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is none of the protocol
    serve(sys.stdin.buffer, sink, how)


if __name__ == "__main__":
    main()
