"""Max pooling with stride 2 on a GPU, forward and backward, each in one pass over channels-last memory.

PyTorch keeps the place of each largest number as 8 bytes, and its backward pass searches each window that a pixel lies
in. Here it is one byte, the number of the place in its window, and a pixel compares at most four.

Importing this needs Triton.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE, WARPS, WIDEST = 2048, 4, 128
"""Numbers that a program makes, its warps, and channels of a tile at the most."""


@triton.jit
def _largest(
    x, y, which, positions, channels, height, width, high, wide, side: tl.constexpr, pad: tl.constexpr,
    lines: tl.constexpr, across: tl.constexpr,
):  # fmt: skip
    """The largest number of each window, the first of equal ones, and its place there; a NaN is larger than all."""
    position = tl.program_id(0) * lines + tl.arange(0, lines)
    column = tl.program_id(1) * across + tl.arange(0, across)
    image, place = position // (high * wide), position % (high * wide)
    top, left = place // wide * 2 - pad, place % wide * 2 - pad
    mask = (position < positions)[:, None] & (column < channels)[None, :]
    best = tl.full((lines, across), float("-inf"), tl.float32)
    chosen = tl.zeros((lines, across), tl.int32)
    for k in tl.static_range(side * side):
        row, col = top + k // side, left + k % side
        there = (row >= 0) & (row < height) & (col >= 0) & (col < width)
        at = ((image.to(tl.int64) * height + row) * width + col)[:, None] * channels + column[None, :]
        value = tl.load(x + at, mask=mask & there[:, None], other=float("-inf")).to(tl.float32)
        # As PyTorch does: a NaN is taken, and a later one in its place. The first place that is there counts.
        first = (row == tl.maximum(top, 0)) & (col == tl.maximum(left, 0))
        taken = (value > best) | (value != value) | first[:, None]
        best = tl.where(taken & there[:, None], value, best)
        chosen = tl.where(taken & there[:, None], k, chosen)
    at = position.to(tl.int64)[:, None] * channels + column[None, :]
    tl.store(y + at, best.to(y.dtype.element_ty), mask=mask)
    tl.store(which + at, chosen.to(tl.uint8), mask=mask)


@triton.jit
def _put_back(
    grad, which, grad_x, positions, channels, height, width, high, wide, side: tl.constexpr, pad: tl.constexpr,
    lines: tl.constexpr, across: tl.constexpr,
):  # fmt: skip
    """Of each pixel the sum of the gradients of those windows of which it was the largest."""
    position = tl.program_id(0) * lines + tl.arange(0, lines)
    column = tl.program_id(1) * across + tl.arange(0, across)
    image, place = position // (height * width), position % (height * width)
    row, col = place // width + pad, place % width + pad
    mask = (position < positions)[:, None] & (column < channels)[None, :]
    total = tl.zeros((lines, across), tl.float32)
    for k in tl.static_range(1 if side == 2 else 4):
        i, j = row // 2 - k // 2, col // 2 - k % 2
        down, right = row - 2 * i, col - 2 * j
        there = (i >= 0) & (i < high) & (j >= 0) & (j < wide) & (down < side) & (right < side)
        at = ((image.to(tl.int64) * high + i) * wide + j)[:, None] * channels + column[None, :]
        seen = mask & there[:, None]
        chosen = tl.load(which + at, mask=seen, other=255).to(tl.int32)
        value = tl.load(grad + at, mask=seen, other=0.0).to(tl.float32)
        total += tl.where(chosen == (down * side + right)[:, None], value, 0.0)
    at = position.to(tl.int64)[:, None] * channels + column[None, :]
    tl.store(grad_x + at, total.to(grad_x.dtype.element_ty), mask=mask)


def _grid(positions: int, channels: int) -> tuple[tuple[int, int], dict[str, int]]:
    across = min(WIDEST, triton.next_power_of_2(channels))
    lines = TILE // across
    grid = (-(-positions // lines), -(-channels // across))
    return grid, {"lines": lines, "across": across, "num_warps": WARPS}


def forward(x: Tensor, side: int, pad: int) -> tuple[Tensor, Tensor]:
    """The largest number of each window of x (N, C, H, W), channels-last, and its place in the window, uint8.

    Args:
        x: bf16, fp16 or fp32.
        side: of a window; its stride is 2.
        pad: pixels beyond each edge, which are never the largest.
    """
    n, channels, height, width = x.shape
    high, wide = ((pixels + 2 * pad - side) // 2 + 1 for pixels in (height, width))
    y = torch.empty((n, channels, high, wide), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    which = torch.empty_like(y, dtype=torch.uint8)
    grid, shape = _grid(n * high * wide, channels)
    _largest[grid](x, y, which, n * high * wide, channels, height, width, high, wide, side=side, pad=pad, **shape)
    return y, which


def backward(grad: Tensor, which: Tensor, shape: torch.Size, side: int, pad: int) -> Tensor:
    """The gradient of x, of a shape (N, C, H, W), channels-last, from that of y and what `forward` chose."""
    n, channels, height, width = shape
    grad_x = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)
    grid, cut = _grid(n * height * width, channels)
    _put_back[grid](
        grad, which, grad_x, n * height * width, channels, height, width, *grad.shape[2:], side=side, pad=pad, **cut
    )
    return grad_x
