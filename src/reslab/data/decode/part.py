"""Decodes a part of a photograph as uint8, doing as little work as possible.

The part is chosen before anything is decoded, in the image's own pixels; a JPEG of much more detail than that is
decoded at a half, a quarter or an eighth of its size (which the format allows at a fraction of the time), and only the
chosen part is decoded, where `reslab.data.decode.jpeg` can do that, and resized, with antialiasing, as Pillow does it.
"""

import io

import numpy as np
from PIL import Image

from reslab.data.crops import Choose, Pixels
from reslab.data.decode import jpeg
from reslab.data.decode.modes import in_mode, is_turned, pixels_of, upright
from reslab.data.decode.whole import Encoded, Fit, Resized, centre, cut, fitted_image, opened, whole


def decoded_crop(
    data: bytes, choose: Choose, size: tuple[int, int], out: Pixels | None = None, *, oriented: bool = False
) -> Pixels:
    """The chosen part of an encoded image as uint8 (height, width, 3), in ``out`` if that is given (contiguous).

    ``oriented``: the camera's orientation is applied first, and the part chosen of the image as it is to be seen.

    Nothing is rounded but the corners of the part, to float32. The pixels are those of Pillow's bilinear resize of the
    whole image, first across, then down (each pass rounds to 8 bits; Pillow 13 takes tall images the other way round,
    which makes a difference of 1 at most), whichever decoder is there.

    Raises what Pillow raises for bytes that are no whole image. Damage in rows of a JPEG below the part is borne, as
    Pillow bears it; where Pillow would not, see `reslab.data.decode.jpeg.cropped`.
    """
    made = np.empty((*size, 3), np.uint8) if out is None else out
    with Image.open(io.BytesIO(data)) as image:
        if oriented and is_turned(image):
            return _of_turned(image, choose, size, made)
        full = image.size
        box = choose(image.height, image.width)
        if isinstance(box, Resized):
            if not _as_resized(data, image, box, made):
                image.load()
                made[:] = np.asarray(cut(in_mode(image, "RGB"), box, size))
            return made
        # At least as many pixels as come out, so that nothing is lost that would be seen.
        factor = min(box.height / size[0], box.width / size[1]) if image.format == "JPEG" else 1
        scale = next((scale for scale in (8, 4, 2) if factor >= scale), 1)
        decoded = (-(-full[0] // scale), -(-full[1] // scale))
        across, down = decoded[0] / full[0], decoded[1] / full[1]
        corners = (
            box.left * across,
            box.top * down,
            min((box.left + box.width) * across, decoded[0]),
            min((box.top + box.height) * down, decoded[1]),
        )
        if (
            image.format == "JPEG"
            and image.mode in ("L", "RGB")
            and jpeg.cropped(data, full, scale, corners, box.flip, made)
        ):
            return made
        if scale > 1:
            image.draft("RGB", (full[0] // scale, full[1] // scale))
        image.load()
        pixels = np.asarray(_resized(in_mode(image, "RGB"), corners, size))
    made[:] = pixels[:, ::-1] if box.flip else pixels
    return made


def _of_turned(image: Image.Image, choose: Choose, size: tuple[int, int], made: Pixels) -> Pixels:
    """A part of an image that has to be turned first: all of it is decoded."""
    image.load()
    image = in_mode(upright(image), "RGB")
    box = choose(image.height, image.width)
    if isinstance(box, Resized):
        made[:] = np.asarray(cut(image, box, size))
        return made
    right, bottom = min(box.left + box.width, image.width), min(box.top + box.height, image.height)
    pixels = np.asarray(_resized(image, (box.left, box.top, right, bottom), size))
    made[:] = pixels[:, ::-1] if box.flip else pixels
    return made


def _resized(image: Image.Image, corners: jpeg.Corners, size: tuple[int, int]) -> Image.Image:
    """A part of an image, resized across and then down: two calls, since which one Pillow begins with varies."""
    left, top, right, bottom = corners
    wide = image.resize((size[1], image.height), Image.Resampling.BILINEAR, box=(left, 0, right, image.height))
    return wide.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=(0, top, size[1], bottom))


def _as_resized(data: bytes, image: Image.Image, wanted: Resized, made: Pixels) -> bool:
    """Writes a part of a resized JPEG, whose header has been read; False where that is left to Pillow."""
    width, height = image.size
    # Of an image so tall, Pillow 13 resizes down before across, which rounds otherwise.
    down_first = 0 < height - wanted.height > 2 * (width - wanted.width)
    if image.format != "JPEG" or image.mode not in ("L", "RGB") or down_first:
        return False
    grid = (wanted.height, wanted.width, wanted.top, wanted.left)
    return jpeg.cropped(data, image.size, 1, (0, 0, width, height), False, made, grid=grid)


def fitted(item: Encoded, channels: int, fit: Fit) -> Pixels:
    """An encoded image as `Fit` says, uint8 (H, W, C): the pixels of `fitted_image`, a JPEG's in less time.

    Raises `InputError` that names a damaged image.
    """
    if isinstance(item.data, bytes) and channels == 3 and fit.interpolation == "bilinear":
        with opened(item) as image:
            if not (item.oriented and is_turned(image)):
                made = np.empty((*fit.crop, 3), np.uint8)
                wanted = centre(image.height, image.width, fit)
                if _as_resized(item.data, image, wanted, made):
                    return made
    return pixels_of(fitted_image(whole(item, channels), fit))
