"""Encoded pictures, good and bad."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def photograph(width: int = 40, height: int = 30, kind: str = "PNG", **more: Any) -> bytes:
    """A smooth picture with a little noise, always the same one."""
    draw = np.random.default_rng(width * 1000 + height)
    down, across = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * across / width, 255 * down / height, 128 + 60 * np.sin(across / 5)], 2)
    noisy = (pixels + draw.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, kind, **more)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, of which the bytes are few."""
    rows = zlib.compress(b"\0" * (width // 8 + 2) * height, 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, (b"IHDR", b"IDAT", b"IEND"), (head, rows, b"")))


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def of_many_chunks(count: int) -> bytes:
    """A PNG whose pixels come in so many empty parts, over each of which Pillow goes in Python."""
    whole = photograph()
    place = whole.index(b"IDAT") - 4
    return whole[:place] + chunk(b"IDAT", b"") * count + whole[place:]


def of_many_scans(count: int) -> bytes:
    """A progressive JPEG with its last scan again and again."""
    whole = photograph(kind="JPEG", progressive=True)
    place = whole.rindex(b"\xff\xda")
    scan = whole[place : whole.rindex(b"\xff\xd9")]
    return whole[:place] + scan * count + b"\xff\xd9"


def animation(frames: int) -> bytes:
    """A GIF whose first picture is red, and the others blue."""
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    out = io.BytesIO()
    first.save(out, "GIF", save_all=True, append_images=[second])
    whole = out.getvalue()
    place = whole.rindex(b"!\xf9")
    return whole[:place] + whole[place:-1] * (frames - 1) + b";"
