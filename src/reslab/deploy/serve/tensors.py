"""Values of the inference protocol's tensors, from JSON and from bytes. Raises `Refused` for what is malformed."""

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reslab.deploy.serve.refusals import Refused

_LENGTH = struct.Struct("<I")


def numbers(data: list[Any], count: int) -> npt.NDArray[np.uint8]:
    """Whole numbers from 0 to 255, flat or in lists within lists."""
    try:
        found = np.asarray(data).ravel()
    except (ValueError, OverflowError, MemoryError, RecursionError):
        raise Refused(400, "expected lists of equal length") from None
    if found.dtype != np.int64 or (found.size and not 0 <= found.min() <= found.max() <= 255):
        raise Refused(400, "expected whole numbers from 0 to 255")
    if found.size != count:
        raise Refused(400, f"expected {count:,} numbers, found {found.size:,}")
    return found.astype(np.uint8)


def files(data: list[Any], count: int) -> list[bytes]:
    """Encoded files: JSON has no bytes, and holds them in base64."""
    if len(data) != count or not all(isinstance(each, str) for each in data):
        raise Refused(400, f"expected {count} files in base64")
    try:
        return [base64.b64decode(each, validate=True) for each in data]
    except (binascii.Error, ValueError):
        raise Refused(400, "expected files in base64; addresses and paths are never fetched") from None


def packed(items: Sequence[bytes]) -> bytes:
    """BYTES as they stand behind the JSON: each after its length in 4 bytes, little-endian."""
    return b"".join(_LENGTH.pack(len(each)) + each for each in items)


def unpacked(data: bytes, count: int) -> list[bytes]:
    """The reverse."""
    found: list[bytes] = []
    at = 0
    while at < len(data) and len(found) < count:
        if at + _LENGTH.size > len(data):
            break
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        found.append(data[at : at + length])
        at += length
    if at != len(data) or len(found) != count:
        raise Refused(400, f"expected {count} elements of BYTES, each after its length in 4 bytes")
    return found
