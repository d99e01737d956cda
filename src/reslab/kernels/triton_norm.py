"""BN, addition and ReLU or GELU on a GPU: two passes over memory forward, two backward, as Triton kernels.

An activation that is channels-last lies in memory as rows of channels, one for each position of each image, so that the
images of a BN group are consecutive rows: groups need no copies. Forward, the first pass takes mean and squared
deviations of blocks of rows, and the second merges them (Chan 1979) and writes y; backward, the first takes the sums of
g and g xhat, and the second writes the gradients. All sums are fp32, whatever the activations are.

Importing this needs Triton. `reslab.kernels.norm` asks `supports` first, and does without where it says no.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

NONE, RELU, GELU = 0, 1, 2
"""Activations, as the kernels know them."""
TILE = 4096
"""Numbers that a program works on at a time."""
WARPS = 4
"""Warps of a program."""
WIDEST = 128
"""Channels of a tile at the most."""
PROGRAMS = 528
"""Programs of a pass that reduces: four for each of an H100's 132 multiprocessors."""
WRITING = 2112
"""Programs of a pass that only writes: as many as the multiprocessors hold at a time."""
MOST_PARTS = 64
"""Blocks of rows of a group, whose sums each program of the next pass merges by itself."""


@dataclass(frozen=True)
class Cut:
    """How a pass is cut into programs."""

    rows: int
    """of a group"""
    channels: int
    width: int
    """channels of a tile, a power of two"""
    height: int
    """rows of a tile, a power of two"""
    parts: int
    """blocks of rows of a group"""
    part: int
    """rows of such a block, a multiple of the height"""
    shares: int
    """blocks of rows of a group in a pass that sums nothing, of which there may be more"""
    share: int
    """rows of such a block, a multiple of the height"""

    @property
    def columns(self) -> int:
        """Tiles side by side."""
        return -(-self.channels // self.width)


def cut(rows: int, channels: int, groups: int) -> Cut:
    """How rows of a group are shared out, so that every multiprocessor has work and partial sums stay few."""
    width = min(WIDEST, max(16, triton.next_power_of_2(channels)))
    height = TILE // width
    columns = -(-channels // width)
    wanted = max(1, PROGRAMS // (groups * columns))
    parts = max(1, min(MOST_PARTS, wanted, -(-rows // height)))
    part = -(-rows // (parts * height)) * height
    share = -(-rows // (max(1, WRITING // (groups * columns)) * height)) * height
    return Cut(rows, channels, width, height, -(-rows // part), part, -(-rows // share), share)


@triton.jit
def _activated(u, activation: tl.constexpr):
    if activation == 1:
        u = tl.where(u <= 0, 0.0, u)  # NaN is not at most zero, and stays
    elif activation == 2:
        u = 0.5 * u * (1 + tl.math.erf(u * 0.7071067811865476))
    return u


@triton.jit
def _merged(
    part_mean, part_m2, group, column, inside, rows, part, channels, parts: tl.constexpr, padded: tl.constexpr,
):  # fmt: skip
    """Mean and biased variance of a group, from those of its blocks of rows."""
    number = tl.arange(0, padded)
    count = tl.minimum(part, rows - number * part).to(tl.float32)[:, None]
    there = (number < parts)[:, None]
    count = tl.where(there, count, 0.0)
    at = (group * parts + number)[:, None] * channels + column[None, :]
    mask = there & inside[None, :]
    means = tl.load(part_mean + at, mask=mask, other=0.0)
    m2 = tl.load(part_m2 + at, mask=mask, other=0.0)
    mean = tl.sum(means * count, 0) / rows
    apart = means - mean[None, :]
    variance = (tl.sum(m2, 0) + tl.sum(apart * apart * count, 0)) / rows
    return mean, variance


@triton.jit
def _statistics(
    x, part_mean, part_m2, rows, channels, part, parts, width: tl.constexpr, height: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared deviations of each block of rows."""
    group, block = tl.program_id(0) // parts, tl.program_id(0) % parts
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column < channels
    first = block * part
    last = tl.minimum(first + part, rows)
    base = x + (group * rows).to(tl.int64) * channels
    mean = tl.zeros((width,), tl.float32)
    m2 = tl.zeros((width,), tl.float32)
    seen = 0.0
    for start in range(first, last, height):
        row = start + tl.arange(0, height)
        mask = (row < last)[:, None] & inside[None, :]
        value = tl.load(base + row.to(tl.int64)[:, None] * channels + column[None, :], mask=mask, other=0.0)
        value = value.to(tl.float32)
        count = tl.minimum(height, last - start).to(tl.float32)
        own = tl.sum(value, 0) / count
        apart = tl.where(mask, value - own[None, :], 0.0)
        total = seen + count
        delta = own - mean
        m2 += tl.sum(apart * apart, 0) + delta * delta * (seen * count / total)
        mean += delta * (count / total)
        seen = total
    at = (group * parts + block) * channels + column
    tl.store(part_mean + at, mean, mask=inside)
    tl.store(part_m2 + at, m2, mask=inside)


@triton.jit
def _normalise(
    x, residual, y, weight, bias, part_mean, part_m2, saved, running_mean, running_var, batches, eps, momentum, rows,
    channels, part, share, shares, groups: tl.constexpr, parts: tl.constexpr, padded: tl.constexpr,
    has_residual: tl.constexpr, tracks: tl.constexpr, counts: tl.constexpr, activation: tl.constexpr,
    width: tl.constexpr, height: tl.constexpr,
):  # fmt: skip
    """y = act((x - mean) / std * weight + bias + residual); mean and 1/std of each group; running statistics."""
    group, block = tl.program_id(0) // shares, tl.program_id(0) % shares
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column < channels
    mean, variance = _merged(part_mean, part_m2, group, column, inside, rows, part, channels, parts, padded)
    invstd = 1 / tl.sqrt(variance + eps)
    if block == 0:
        tl.store(saved + group * channels + column, mean, mask=inside)
        tl.store(saved + (groups + group) * channels + column, variance, mask=inside)
        tl.store(saved + (2 * groups + group) * channels + column, invstd, mask=inside)
    if counts and tl.program_id(0) + tl.program_id(1) == 0:
        tl.store(batches, tl.load(batches) + 1)
    if tracks and tl.program_id(0) == 0:
        all_means = tl.zeros((width,), tl.float32)
        all_variances = tl.zeros((width,), tl.float32)
        for number in range(groups):
            one, spread = _merged(part_mean, part_m2, number, column, inside, rows, part, channels, parts, padded)
            all_means += one / groups
            all_variances += spread * (rows / (rows - 1.0)) / groups
        old_mean = tl.load(running_mean + column, mask=inside, other=0.0)
        old_var = tl.load(running_var + column, mask=inside, other=0.0)
        tl.store(running_mean + column, old_mean + momentum * (all_means - old_mean), mask=inside)
        tl.store(running_var + column, old_var + momentum * (all_variances - old_var), mask=inside)
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32) * invstd
    shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32) - mean * scale
    first = block * share
    last = tl.minimum(first + share, rows)
    base = (group * rows).to(tl.int64) * channels
    for start in range(first, last, height):
        row = start + tl.arange(0, height)
        mask = (row < last)[:, None] & inside[None, :]
        at = base + row.to(tl.int64)[:, None] * channels + column[None, :]
        u = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) * scale[None, :] + shift[None, :]
        if has_residual:
            u += tl.load(residual + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(y + at, _activated(u, activation).to(y.dtype.element_ty), mask=mask)


@triton.jit
def _scaled(
    x, residual, y, weight, bias, given_mean, given_var, eps, rows, channels, share, has_residual: tl.constexpr,
    activation: tl.constexpr, width: tl.constexpr, height: tl.constexpr,
):  # fmt: skip
    """y = act((x - mean) / std * weight + bias + residual) with given statistics."""
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column < channels
    invstd = 1 / tl.sqrt(tl.load(given_var + column, mask=inside, other=1.0).to(tl.float32) + eps)
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32) * invstd
    mean = tl.load(given_mean + column, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32) - mean * scale
    first = tl.program_id(0) * share
    last = tl.minimum(first + share, rows)
    for start in range(first, last, height):
        row = start + tl.arange(0, height)
        mask = (row < last)[:, None] & inside[None, :]
        at = row.to(tl.int64)[:, None] * channels + column[None, :]
        u = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) * scale[None, :] + shift[None, :]
        if has_residual:
            u += tl.load(residual + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(y + at, _activated(u, activation).to(y.dtype.element_ty), mask=mask)


@triton.jit
def _slope(
    grad, also, x, seen, at, mask, mean, invstd, weight, bias, has_also: tl.constexpr, has_seen: tl.constexpr,
    activation: tl.constexpr,
):  # fmt: skip
    """Gradient before the activation, and xhat. ``seen``: of ReLU behind an addition y, of GELU the residual."""
    g = tl.load(grad + at, mask=mask, other=0.0).to(tl.float32)
    if has_also:
        g += tl.load(also + at, mask=mask, other=0.0).to(tl.float32)
    normed = (tl.load(x + at, mask=mask, other=0.0).to(tl.float32) - mean[None, :]) * invstd[None, :]
    normed = tl.where(mask, normed, 0.0)
    if activation == 1:
        if has_seen:
            u = tl.load(seen + at, mask=mask, other=0.0).to(tl.float32)
        else:
            u = normed * weight[None, :] + bias[None, :]
        g = tl.where(u <= 0, 0.0, g)
    elif activation == 2:
        u = normed * weight[None, :] + bias[None, :]
        if has_seen:
            u += tl.load(seen + at, mask=mask, other=0.0).to(tl.float32)
        bell = tl.exp(-0.5 * u * u) * 0.3989422804014327
        g = g * (0.5 * (1 + tl.math.erf(u * 0.7071067811865476)) + u * bell)
    return g, normed


@triton.jit
def _reduce(
    grad, also, x, seen, weight, bias, saved, part_g, part_dot, rows, channels, part, groups, parts,
    has_also: tl.constexpr, has_seen: tl.constexpr, activation: tl.constexpr, width: tl.constexpr,
    height: tl.constexpr,
):  # fmt: skip
    """Sums of g and of g xhat over each block of rows."""
    group, block = tl.program_id(0) // parts, tl.program_id(0) % parts
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column < channels
    mean = tl.load(saved + group * channels + column, mask=inside, other=0.0)
    invstd = tl.load(saved + (2 * groups + group) * channels + column, mask=inside, other=0.0)
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    first = block * part
    last = tl.minimum(first + part, rows)
    base = (group * rows).to(tl.int64) * channels
    total = tl.zeros((width,), tl.float32)
    dot = tl.zeros((width,), tl.float32)
    for start in range(first, last, height):
        row = start + tl.arange(0, height)
        mask = (row < last)[:, None] & inside[None, :]
        at = base + row.to(tl.int64)[:, None] * channels + column[None, :]
        g, normed = _slope(grad, also, x, seen, at, mask, mean, invstd, scale, shift, has_also, has_seen, activation)
        total += tl.sum(g, 0)
        dot += tl.sum(g * normed, 0)
    at = (group * parts + block) * channels + column
    tl.store(part_g + at, total, mask=inside)
    tl.store(part_dot + at, dot, mask=inside)


@triton.jit
def _summed(
    values, group, column, inside, channels, parts: tl.constexpr, padded: tl.constexpr,
):  # fmt: skip
    number = tl.arange(0, padded)
    at = (group * parts + number)[:, None] * channels + column[None, :]
    return tl.sum(tl.load(values + at, mask=(number < parts)[:, None] & inside[None, :], other=0.0), 0)


@triton.jit
def _gradients(
    grad, also, x, seen, weight, bias, saved, part_g, part_dot, grad_x, grad_residual, grad_weight, grad_bias, rows,
    channels, share, shares, groups: tl.constexpr, parts: tl.constexpr, padded: tl.constexpr, has_also: tl.constexpr,
    has_seen: tl.constexpr, has_residual: tl.constexpr, activation: tl.constexpr, width: tl.constexpr,
    height: tl.constexpr,
):  # fmt: skip
    """Gradients of x, of the residual, and, from the sums of all groups, of weight and bias."""
    group, block = tl.program_id(0) // shares, tl.program_id(0) % shares
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column < channels
    if tl.program_id(0) == 0:
        all_g = tl.zeros((width,), tl.float32)
        all_dot = tl.zeros((width,), tl.float32)
        for number in range(groups):
            all_g += _summed(part_g, number, column, inside, channels, parts, padded)
            all_dot += _summed(part_dot, number, column, inside, channels, parts, padded)
        tl.store(grad_bias + column, all_g, mask=inside)
        tl.store(grad_weight + column, all_dot, mask=inside)
    mean_g = _summed(part_g, group, column, inside, channels, parts, padded) / rows
    mean_dot = _summed(part_dot, group, column, inside, channels, parts, padded) / rows
    mean = tl.load(saved + group * channels + column, mask=inside, other=0.0)
    invstd = tl.load(saved + (2 * groups + group) * channels + column, mask=inside, other=0.0)
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    first = block * share
    last = tl.minimum(first + share, rows)
    base = (group * rows).to(tl.int64) * channels
    for start in range(first, last, height):
        row = start + tl.arange(0, height)
        mask = (row < last)[:, None] & inside[None, :]
        at = base + row.to(tl.int64)[:, None] * channels + column[None, :]
        g, normed = _slope(grad, also, x, seen, at, mask, mean, invstd, scale, shift, has_also, has_seen, activation)
        own = (scale * invstd)[None, :] * (g - mean_g[None, :] - normed * mean_dot[None, :])
        tl.store(grad_x + at, own.to(grad_x.dtype.element_ty), mask=mask)
        if has_residual:
            tl.store(grad_residual + at, g.to(grad_residual.dtype.element_ty), mask=mask)


def forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, *, eps: float, groups: int, activation: int,
    running: tuple[Tensor, Tensor, float, Tensor | None] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """act(BN(x) + residual) with the statistics of each of ``groups`` equal, consecutive parts of the batch.

    Args:
        x: (N, C, H, W), channels-last, bf16, fp16 or fp32.
        residual: the same, or None.
        weight: BN's scale (C,).
        bias: BN's shift (C,).
        eps: added to the variance.
        groups: parts of the batch.
        activation: `NONE`, `RELU` or `GELU` (the exact one).
        running: running mean and variance (C,), fp32, to be brought up to date, the weight of the newest, and a number
            of batches, int64, that becomes one more.

    Returns:
        y like x, and [mean, biased variance, 1/std] (3, groups, C) in fp32.
    """
    channels = x.shape[1]
    rows = x.numel() // (channels * groups)
    plan = cut(rows, channels, groups)
    scratch = torch.empty(2, groups, plan.parts, channels, dtype=torch.float32, device=x.device)
    saved = torch.empty(3, groups, channels, dtype=torch.float32, device=x.device)
    y = torch.empty_like(x)
    shape: dict[str, Any] = {"width": plan.width, "height": plan.height, "num_warps": WARPS}
    _statistics[groups * plan.parts, plan.columns](
        x, scratch[0], scratch[1], rows, channels, plan.part, plan.parts, **shape
    )  # fmt: skip
    mean, var, momentum, batches = running if running is not None else (saved, saved, 0.0, None)
    _normalise[groups * plan.shares, plan.columns](
        x, x if residual is None else residual, y, weight, bias, scratch[0], scratch[1], saved, mean, var,
        saved if batches is None else batches, eps, momentum, rows, channels, plan.part, plan.share,
        plan.shares, groups=groups, parts=plan.parts, padded=triton.next_power_of_2(plan.parts),
        has_residual=residual is not None, tracks=running is not None, counts=batches is not None,
        activation=activation, **shape,
    )  # fmt: skip
    return y, saved


def inference(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *, eps: float,
    activation: int,
) -> Tensor:  # fmt: skip
    """act(BN(x) + residual) with given statistics (C,); the rest as in `forward`."""
    channels = x.shape[1]
    rows = x.numel() // channels
    plan = cut(rows, channels, 1)
    y = torch.empty_like(x)
    _scaled[plan.shares, plan.columns](
        x, x if residual is None else residual, y, weight, bias, mean, var, eps, rows, channels, plan.share,
        has_residual=residual is not None, activation=activation, width=plan.width, height=plan.height,
        num_warps=WARPS,
    )  # fmt: skip
    return y


def backward(
    grad: Tensor, also: Tensor | None, x: Tensor, seen: Tensor | None, weight: Tensor, bias: Tensor, saved: Tensor, *,
    groups: int, activation: int, has_residual: bool,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:  # fmt: skip
    """The gradients of x, residual, weight and bias.

    Args:
        grad: of y, channels-last like x.
        also: a second one, to be added; or None.
        x: as it went into `forward`.
        seen: behind an addition, y for ReLU and the residual for GELU; else None.
        weight: BN's scale (C,).
        bias: BN's shift (C,).
        saved: what `forward` returned.
        groups: parts of the batch.
        activation: as in `forward`.
        has_residual: whether the residual's gradient is wanted.

    Returns:
        Gradients like x; like x or None; (C,) and (C,) in fp32.
    """
    channels = x.shape[1]
    rows = x.numel() // (channels * groups)
    plan = cut(rows, channels, groups)
    scratch = torch.empty(2, groups, plan.parts, channels, dtype=torch.float32, device=x.device)
    grad_x = torch.empty_like(x)
    grad_residual = torch.empty_like(x) if has_residual else None
    of_weight, of_bias = torch.empty(2, channels, dtype=torch.float32, device=x.device)
    given: dict[str, Any] = {
        "has_also": also is not None, "has_seen": seen is not None, "activation": activation,
        "width": plan.width, "height": plan.height, "num_warps": WARPS,
    }  # fmt: skip
    second, known = x if also is None else also, x if seen is None else seen
    _reduce[groups * plan.parts, plan.columns](
        grad, second, x, known, weight, bias, saved, scratch[0], scratch[1], rows, channels, plan.part, groups,
        plan.parts, **given,
    )  # fmt: skip
    _gradients[groups * plan.shares, plan.columns](
        grad, second, x, known, weight, bias, saved, scratch[0], scratch[1], grad_x,
        grad_x if grad_residual is None else grad_residual, of_weight, of_bias, rows, channels, plan.share,
        plan.shares, groups=groups, parts=plan.parts, padded=triton.next_power_of_2(plan.parts),
        has_residual=has_residual, **given,
    )  # fmt: skip
    return grad_x, grad_residual, of_weight, of_bias
