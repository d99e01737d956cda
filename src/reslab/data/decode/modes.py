"""Converts images of any mode to 8 bits, grey or RGB, and upright.

- More than 8 bits a channel are scaled by the range of their type: of 16 bits v / 257, of floating point 255 v for
  values from 0 to 1. Where the range cannot be told (32-bit integers, other floats), the image is refused; nothing is
  clipped.
- Transparency is left out: the colours are taken as they are stored, whatever lies over them.
- Of an animation the first picture is taken.
- The orientation that a camera notes beside the pixels (EXIF tag 274) is applied where the data set asks for it.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

ORIENTATION = 274
"""The EXIF tag; 1, or none, is upright."""
QUARTER_TURNED = 5
"""From this value of the tag on height and width change places."""


def is_turned(image: Image.Image) -> bool:
    """Whether an image, whose header has been read, is stored in another orientation than it is to be seen in."""
    noted = {"exif", "xmp", "Raw profile type exif"} & image.info.keys() or image.format in ("TIFF", "MPO")
    if not noted:
        return False  # asking costs as much as reading the header
    return image.getexif().get(ORIENTATION, 1) not in (0, 1)


def upright(image: Image.Image) -> Image.Image:
    """The image as it is to be seen."""
    return ImageOps.exif_transpose(image) if is_turned(image) else image


def seen_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an image, whose header has been read, as it is to be seen."""
    if is_turned(image) and image.getexif()[ORIENTATION] >= QUARTER_TURNED:
        return image.width, image.height
    return image.height, image.width


def pixels_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    """A decoded image in ``L`` or ``RGB`` as (H, W, C)."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """A decoded image in ``L`` or ``RGB``. Raises `ValueError` where its numbers have a range that nobody knows."""
    if image.mode == mode:
        return image
    if image.mode.startswith(("I", "F")):
        image = _in_eight_bits(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # what Pillow asks for in a warning
    return image if image.mode == mode else image.convert(mode)


def _in_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if image.mode == "F" and low >= 0 and high <= 1:
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    kind = "floating-point numbers" if image.mode == "F" else "32-bit integers"
    wanted = "0 to 1" if image.mode == "F" else "8 or 16 bits"
    raise ValueError(f"{kind} from {low:g} to {high:g}, expected {wanted}; convert the image to 8 bits")
