"""Shifts, mirrors and normalises a batch of bytes in one pass on the CPU."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from reslab.kernels.build import channels_last, library, pointer


@dataclass(frozen=True)
class Values:
    """What bytes become, fp32; all but ``mean`` as the normaliser's own operations give it, so that bits agree."""

    table: Tensor
    """of a byte of each channel (C, 256)"""
    border: Tensor
    """beyond the edges (C,)"""
    mean: Tensor | None = None
    """(C, H, W): a byte becomes (table - mean) / std"""
    std: Tensor | None = None
    """(C,), with a mean"""
    black: Tensor | None = None
    """(C,), with a mean: subtracted from that, and added again"""


def supports(images: Tensor) -> bool:
    """Whether the kernel takes these images (N, C, H, W)."""
    return (
        images.device.type == "cpu"
        and images.dtype == torch.uint8
        and images.dim() == 4
        and images.numel() > 0
        and channels_last(images)
        and library() is not None
    )


def shifted(images: Tensor, rows: Tensor, columns: Tensor, values: Values) -> Tensor:
    """The pixel at (rows[n, y], columns[n, x]) of each image, as a number.

    Args:
        images: uint8 (N, C, H, W), as `supports` requires.
        rows: of the source (N, H), int64; outside 0 ... H-1 lies the border.
        columns: of the source (N, W), int64.
        values: what bytes become.

    Returns:
        fp32 (N, C, H, W), channels-last.
    """
    lib = library()
    assert lib is not None
    n, channels, height, width = images.shape
    out = torch.empty((n, channels, height, width), memory_format=torch.channels_last)
    mean = None if values.mean is None else values.mean.permute(1, 2, 0).contiguous()
    rows, columns, table, border = (each.contiguous() for each in (rows, columns, values.table, values.border))
    lib.shifted_u8(
        pointer(images), pointer(rows), pointer(columns), ctypes.c_int64(n), height, width, channels,
        pointer(table), pointer(mean), pointer(values.std), pointer(values.black), pointer(border), pointer(out),
    )  # fmt: skip
    return out
