"""A batch from a data set of bytes on a GPU in one launch: gathered, shifted, mirrored, normalised.

The random numbers are those of `reslab.data.draws`, drawn by each program for its image: as PyTorch's operators they
are more launches than all that a network of 20 layers computes.

Importing this needs Triton.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from reslab.kernels.shift import Values

NO_FLIP, FLIP, ALTERNATING = 0, 1, 2
TILE = 1024
"""Numbers that a program makes at the most."""


@triton.jit
def _mixed(x):
    x = (x ^ (x >> 16)) * tl.full((), 0x7FEB352D, tl.uint32)
    x = (x ^ (x >> 15)) * tl.full((), 0x846CA68B, tl.uint32)
    return x ^ (x >> 16)


@triton.jit
def _keyed(x, key):
    """Another draw: the key is an integer or a number on the device, of which the lowest 32 bits count."""
    key = tl.cast(key, tl.uint32)
    x = _mixed(x ^ key)
    return x + tl.full((), 0x9E3779B9, tl.uint32) * (key + tl.full((), 1, tl.uint32))


@triton.jit
def _below(bits, limit):
    return ((tl.cast(bits, tl.uint64) * tl.cast(limit, tl.uint64)) >> 32).to(tl.int32)


@triton.jit
def _mirrored(position, size):
    return (size - 1) - tl.abs((size - 1) - tl.abs(position))


@triton.jit(do_not_specialize=["seed", "row_key", "column_key", "flip_key"])
def _shifted(
    images, index, epochs, y, table, border, mean, std, black, seed, row_key, column_key, flip_key, height, width,
    channels: tl.constexpr, pad: tl.constexpr, flips: tl.constexpr, reflects: tl.constexpr, by_pixel: tl.constexpr,
    has_black: tl.constexpr, tile: tl.constexpr,
):  # fmt: skip
    """One image of the batch, or a part of a large one."""
    number = tl.program_id(0)
    image = tl.load(index + number)
    epoch = tl.load(epochs + number)
    begun = _mixed(tl.cast(image, tl.uint32))
    each = tl.program_id(1) * tile + tl.arange(0, tile)
    size = height * width * channels
    channel, place = each % channels, each // channels
    row, column = place // width, place % width
    if flips:
        drawn = _keyed(begun, seed)
        if flips == 1:
            turned = _mixed(_keyed(_keyed(drawn, epoch), flip_key)) & 1
        else:
            turned = (_mixed(_keyed(drawn, flip_key)) + tl.cast(epoch, tl.uint32)) & 1
        column = tl.where(turned == 1, width - 1 - column, column)
    if pad:
        drawn = _keyed(_keyed(begun, seed), epoch)
        row += _below(_mixed(_keyed(drawn, row_key)), 2 * pad + 1) - pad
        column += _below(_mixed(_keyed(drawn, column_key)), 2 * pad + 1) - pad
        if reflects:
            row, column = _mirrored(row, height), _mirrored(column, width)
    there = (each < size) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    at = image.to(tl.int64) * size + (row * width + column) * channels + channel
    byte = tl.load(images + at, mask=there, other=0).to(tl.int32)
    value = tl.load(table + channel * 256 + byte, mask=there, other=0.0)
    if by_pixel:
        average = tl.load(mean + (row * width + column) * channels + channel, mask=there, other=0.0)
        value = tl.div_rn(value - average, tl.load(std + channel, mask=there, other=1.0))
        if has_black:
            dark = tl.load(black + channel, mask=there, other=0.0)
            value = (value - dark) + dark
    value = tl.where(there, value, tl.load(border + channel))
    tl.store(y + number.to(tl.int64) * size + each, value, mask=each < size)


def shifted(
    images: Tensor, index: Tensor, epochs: Tensor, values: Values, *, seed: int, keys: tuple[int, int, int], pad: int,
    flips: int, reflects: bool,
) -> Tensor:  # fmt: skip
    """Images (N,) of a data set, shifted by up to ``pad`` and mirrored as their draws say, as numbers.

    Args:
        images: uint8 (D, C, H, W), channels-last: the whole data set.
        index: which of them (N,), int64; with ``seed`` and the epoch it decides the draw.
        epochs: of each (N,), int64.
        values: what bytes become; its ``mean`` channels-last, (H, W, C).
        seed: of the run.
        keys: which random numbers shift rows, shift columns and mirror.
        pad: how far; beyond the edge lies the border.
        flips: `NO_FLIP`, `FLIP` in half of the epochs, or `ALTERNATING` between them.
        reflects: beyond the edge the image is mirrored at it.

    Returns:
        fp32 (N, C, H, W), channels-last.
    """
    _, channels, height, width = images.shape
    size = channels * height * width
    out = torch.empty((len(index), channels, height, width), device=images.device, memory_format=torch.channels_last)
    tile = min(TILE, triton.next_power_of_2(size))
    unused = values.table
    _shifted[len(index), -(-size // tile)](
        images, index, epochs, out, values.table, values.border, unused if values.mean is None else values.mean,
        unused if values.std is None else values.std, unused if values.black is None else values.black,
        seed & 0xFFFFFFFF, *keys, height, width, channels=channels, pad=pad, flips=flips, reflects=reflects,
        by_pixel=values.mean is not None, has_black=values.black is not None, tile=tile,
    )  # fmt: skip
    return out
