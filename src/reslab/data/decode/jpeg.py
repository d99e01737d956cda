"""A part of a JPEG, resized: by the machine's own libjpeg-turbo where something can be compiled for it.

Three ways, the first that is there; each makes the same pixels:

1. ``jpeg.cpp`` decodes the rows and columns that the part needs. It needs a compiler, libjpeg-turbo and its header.
2. torchvision.io decodes the whole image, ``resize.cpp`` resizes the part. It needs a compiler.
3. Neither: the caller's Pillow. It also has the last word on whatever the others do not vouch for.
"""

import ctypes
import functools
import logging
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from reslab.compiled import NotBuilt, Source, loaded

_log = logging.getLogger("reslab")
# No contraction: weights are to be rounded as Pillow rounds them.
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC")
PART = Source("jpeg", "reslab.data.decode", ("jpeg.cpp", "resize.h"), _FLAGS, ("-ljpeg",))
RESIZE = Source("resize", "reslab.data.decode", ("resize.cpp", "resize.h"), _FLAGS)

Function = Callable[..., int]
Decode = Callable[[bytes], npt.NDArray[np.uint8]]
Corners = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""
Grid = tuple[int, int, int, int]
"""Rows and columns that a part is resized to, and the first row and column of them that are wanted."""


def _function(source: Source, name: str, *given: object) -> Function | None:
    try:
        function = getattr(loaded(source), name)
    except NotBuilt as why:
        _log.debug("%s of %s %s", name, source.name, why)
        return None
    corners, grid = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_int)
    result = (corners, grid, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    function.argtypes = (*given, *result)
    found: Function = function
    return found


@functools.cache
def part() -> Function | None:
    """The decoder of parts, or None (with one line for who looks for it) where it cannot be had."""
    return _function(
        PART, "jpeg_part", ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int
    )  # fmt: skip


@functools.cache
def whole() -> tuple[Decode, Function] | None:
    """A decoder of whole images and what resizes a part of one, or None."""
    resize = _function(RESIZE, "resized_part", ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    if resize is None:
        return None
    try:
        from torchvision.io import ImageReadMode, decode_jpeg  # takes a second: only where it is needed
    except (ImportError, OSError) as why:
        _log.debug("torchvision.io is not available (%s)", why)
        return None

    def decode(data: bytes) -> npt.NDArray[np.uint8]:
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        with warnings.catch_warnings():
            # Deprecated since torchvision 0.29; where it is gone, the import fails and Pillow does the work.
            warnings.simplefilter("ignore", DeprecationWarning)
            image: torch.Tensor = decode_jpeg(encoded, ImageReadMode.RGB)
        return image.permute(1, 2, 0).contiguous().numpy()

    return decode, resize


def prepare() -> None:
    """Compiles or imports what `cropped` will use, before processes are started that would each do it."""
    if part() is None:
        whole()


def cropped(
    data: bytes,
    size: tuple[int, int],
    scale: int,
    corners: Corners,
    flip: bool,
    out: npt.NDArray[np.uint8],
    *,
    grid: Grid | None = None,
) -> bool:
    """Writes a part of a JPEG in grey or three colours, resized, and mirrored if asked for.

    Args:
        data: the file.
        size: width and height that its header says.
        scale: 1, 2, 4 or 8; the image is decoded at so much less, ceil(width / scale) x ceil(height / scale).
        corners: of the part, in pixels of that. They need not be whole; they are rounded to float32, as in Pillow.
        flip: whether to mirror it.
        grid: what the part is resized to, where ``out`` is less than all of it.
        out: uint8 (rows, columns, 3), contiguous; antialiased by a triangle, across first, as Pillow does it.

    Returns:
        False where this is not done, or not well: the file is damaged in what was read, or does not go on to its end,
        or is of a rare kind. ``out`` may then hold anything. Damage *below* the part is seen only as a stray marker or
        a missing end; Pillow, too, bears with any other, and the pixels of the part are none of it.
    """
    rows, columns, _ = out.shape
    assert out.flags.c_contiguous
    assert out.dtype == np.uint8
    all_of_it = (ctypes.c_int * 4)(*(grid or (rows, columns, 0, 0)))
    wanted = ((ctypes.c_float * 4)(*corners), all_of_it, rows, columns, int(flip), out.ctypes.data)
    if (decode_part := part()) is not None:
        return bool(decode_part(data, len(data), *size, scale, *wanted))
    # libjpeg bears with a missing end as long as nothing else is; Pillow does not.
    if scale > 1 or not data.endswith(b"\xff\xd9") or (found := whole()) is None:
        return False
    decode, resize = found
    try:
        pixels = decode(data)
    except RuntimeError:
        return False
    if pixels.shape != (size[1], size[0], 3):
        return False
    return bool(resize(pixels.ctypes.data, *size, *wanted))
