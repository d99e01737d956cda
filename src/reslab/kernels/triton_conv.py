"""3x3 convolutions of few channels on a GPU, as products of tiles, with both gradients.

Of 16, 32 or 64 channels a convolution is bound by memory, and general libraries run it at a fraction of that speed:
they are made for wider ones. Here a program takes some positions with all their channels. In channels-last memory the
three pixels of a row of a window lie side by side, so that a product takes three taps at a time where they are narrow.

The gradient of x is a convolution with the weight turned by half a turn. That of the weight is a sum over positions,
of which each program takes a share; a second pass adds them up, always in the same order.

Importing this needs Triton.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.jit import JITFunction

WIDTHS = (16, 32, 64)
"""Channels that the kernels make."""
TAKEN = (3, *WIDTHS)
"""Channels that they take; of 3, those of images, there is no gradient."""
ROWS, WARPS = 64, 4
"""Positions of a program's tile, and its warps."""
WEIGHED, WEIGHING_WARPS = 64, 4
"""The same where it sums a gradient of weights."""
SHARES = 528
"""Programs that sum a gradient of weights: four for each of an H100's multiprocessors."""
SUMMED, SUMMING_WARPS = 256, 4
"""Weights that a program of the second pass adds up, and its warps."""


@triton.jit
def _taps(
    x, position, row, column, positions, height, width, tap, channels: tl.constexpr, taps: tl.constexpr,
    depth: tl.constexpr,
):  # fmt: skip
    """Of each position ``taps`` pixels of its window side by side, from number ``tap`` on, zero beyond the edges."""
    k = tl.arange(0, depth)
    down = tap // 3 - 1
    right = tap % 3 - 1 + k // channels
    there = (row + down >= 0) & (row + down < height) & (position < positions)
    beside = column[:, None] + right[None, :]
    mask = there[:, None] & (beside >= 0) & (beside < width) & (k < taps * channels)[None, :]
    first = (position + down * width + tap % 3 - 1) * channels
    return tl.load(x + first[:, None] + k[None, :], mask=mask, other=0.0)


@triton.jit
def _convolve(
    x, weight, y, positions, height, width, channels: tl.constexpr, made: tl.constexpr, turned: tl.constexpr,
    taps: tl.constexpr, depth: tl.constexpr, rows: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """y = conv(x, weight); ``turned``: x is the gradient of a convolution's output, and y that of its input."""
    position = tl.program_id(0) * rows + tl.arange(0, rows)
    row, column = position // width % height, position % width
    k, out = tl.arange(0, depth), tl.arange(0, made)
    sums = tl.zeros((rows, made), tl.float32)
    for number in tl.static_range(9 // taps):
        tap = number * taps
        a = _taps(x, position, row, column, positions, height, width, tap, channels, taps, depth)
        if turned:  # weight (channels, 3, 3, made), of which the tap opposite is wanted
            at = ((k % channels) * 9 + 8 - tap - k // channels)[:, None] * made + out[None, :]
        else:  # weight (made, 3, 3, channels)
            at = out[None, :] * (9 * channels) + (tap * channels + k)[:, None]
        b = tl.load(weight + at, mask=(k < taps * channels)[:, None], other=0.0)
        sums = tl.dot(a.to(tl.float32), b.to(tl.float32), sums) if interpreted else tl.dot(a, b, sums)
    at = position[:, None] * made + out[None, :]
    tl.store(y + at, sums.to(y.dtype.element_ty), mask=(position < positions)[:, None])


@triton.jit
def _weigh(
    x, grad, parts, positions, height, width, share, channels: tl.constexpr, made: tl.constexpr, taps: tl.constexpr,
    depth: tl.constexpr, rows: tl.constexpr, interpreted: tl.constexpr,
):  # fmt: skip
    """Of some positions the sum of x, shifted by some taps, times the gradient: (depth, made) of ``parts``."""
    tap = tl.program_id(1) * taps
    first = tl.program_id(0) * share
    last = tl.minimum(first + share, positions)
    out = tl.arange(0, made)
    sums = tl.zeros((depth, made), tl.float32)
    for start in range(first, last, rows):
        position = start + tl.arange(0, rows)
        row, column = position // width % height, position % width
        a = _taps(x, position, row, column, last, height, width, tap, channels, taps, depth)
        g = tl.load(grad + position[:, None] * made + out[None, :], mask=(position < last)[:, None], other=0.0)
        a = tl.trans(a)
        sums = tl.dot(a.to(tl.float32), g.to(tl.float32), sums) if interpreted else tl.dot(a, g, sums)
    k = tl.arange(0, depth)
    at = (tl.program_id(0) * 9 * channels + tap * channels + k)[:, None] * made + out[None, :]
    tl.store(parts + at, sums, mask=(k < taps * channels)[:, None])


@triton.jit
def _add_up(
    parts, grad_weight, shares, channels: tl.constexpr, made: tl.constexpr, padded: tl.constexpr, wide: tl.constexpr
):
    """The sums of all programs: parts (shares, 3, 3, channels, made) to grad_weight (made, 3, 3, channels)."""
    number = tl.program_id(0) * wide + tl.arange(0, wide)
    size = 9 * channels * made
    share = tl.arange(0, padded)
    mask = (share < shares)[:, None] & (number < size)[None, :]
    total = tl.sum(tl.load(parts + share[:, None] * size + number[None, :], mask=mask, other=0.0), 0)
    at = number % made * (9 * channels) + number // made
    tl.store(grad_weight + at, total.to(grad_weight.dtype.element_ty), mask=number < size)


INTERPRETED = not isinstance(_convolve, JITFunction)
"""Whether Triton's interpreter runs the kernels, which multiplies the bits of bf16 numbers rather than their values."""


def _depth(channels: int) -> tuple[int, int]:
    """Taps of a product, and how long its inner dimension is, a power of two."""
    taps = 3 if channels <= 16 else 1
    return taps, triton.next_power_of_2(taps * channels)


def _run(x: Tensor, weight: Tensor, made: int, *, turned: bool) -> Tensor:
    n, channels, height, width = x.shape
    y = torch.empty((n, made, height, width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    taps, depth = _depth(channels)
    positions = n * height * width
    _convolve[(-(-positions // ROWS),)](
        x, weight, y, positions, height, width, channels=channels, made=made, turned=turned, taps=taps, depth=depth,
        rows=ROWS, interpreted=INTERPRETED, num_warps=WARPS,
    )  # fmt: skip
    return y


def forward(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of x (N, C, H, W) with weight (C', C, 3, 3), stride 1, a pixel of padding: (N, C', H, W).

    Both are channels-last and of one type, bf16 or fp16; C is one of `TAKEN`, C' of `WIDTHS`.
    """
    return _run(x, weight, weight.shape[0], turned=False)


def backward_x(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of x (N, C, H, W), C of `WIDTHS`, from that of y (N, C', H, W)."""
    return _run(grad, weight, weight.shape[1], turned=True)


def backward_weight(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of weight (C', C, 3, 3), channels-last and of the type of x, summed in fp32."""
    n, channels, height, width = x.shape
    made = grad.shape[1]
    taps, depth = _depth(channels)
    positions = n * height * width
    wanted = max(1, SHARES // (9 // taps))
    share = -(-positions // (wanted * WEIGHED)) * WEIGHED
    shares = -(-positions // share)
    parts = torch.empty(shares, 9 * channels, made, dtype=torch.float32, device=x.device)
    _weigh[shares, 9 // taps](
        x, grad, parts, positions, height, width, share, channels=channels, made=made, taps=taps, depth=depth,
        rows=WEIGHED, interpreted=INTERPRETED, num_warps=WEIGHING_WARPS,
    )  # fmt: skip
    weight = torch.empty((made, channels, 3, 3), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    padded = triton.next_power_of_2(shares)
    wide = max(16, min(SUMMED, 8192 // padded))
    _add_up[(-(-9 * channels * made // wide),)](
        parts, weight, shares, channels=channels, made=made, padded=padded, wide=wide, num_warps=SUMMING_WARPS
    )
    return weight
