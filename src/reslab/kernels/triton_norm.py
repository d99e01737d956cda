"""BN, addition and ReLU or GELU on a GPU: two passes over memory forward, two backward, as Triton kernels.

An activation that is channels-last lies in memory as rows of channels, one for each position of each image, so that the
images of a BN group are consecutive rows: groups need no copies. Forward, the first pass takes mean and squared
deviations of blocks of rows, and the second merges them (Chan 1979) and writes y; backward, the first takes the sums of
g and g xhat, and the second writes the gradients. Of a large activation the blocks are many, and a pass over the sums
merges them between the two. All sums are fp32, whatever the activations are.

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
TILE, WARPS = 4096, 8
"""Numbers that a program of a reducing pass works on at a time, and its warps."""
WRITES, WRITING_WARPS = 4096, 4
"""The same of a pass that writes, whose programs do one tile each."""
WIDEST = 128
"""Channels of a tile at the most."""
PROGRAMS = 528
"""Programs of a pass that reduces: four for each of an H100's 132 multiprocessors."""
MOST_PARTS = 64
"""Blocks of rows of a group, whose sums each program of the next pass merges by itself; of more a pass of its own."""
FEW = 2**23
"""Numbers of an activation up to which another launch takes longer than a few programs that do more each."""
MERGED_WIDTH, MERGING_WARPS = 16, 8
"""Channels that a program of the merging pass works on, and its warps."""


@dataclass(frozen=True)
class Cut:
    """How the passes are cut into programs."""

    width: int
    """channels of a tile, a power of two"""
    columns: int
    """tiles side by side"""
    height: int
    """rows of a tile of a reducing pass, a power of two"""
    parts: int
    """blocks of rows of a group"""
    part: int
    """rows of such a block, a multiple of the height"""
    lines: int
    """rows of a tile of a writing pass, a power of two"""
    tiles: int
    """of a group, one below the other, in a writing pass"""

    @property
    def merges(self) -> bool:
        """Whether a pass of its own puts the parts of a group together."""
        return self.parts > MOST_PARTS


def cut(rows: int, channels: int, groups: int) -> Cut:
    """How rows of a group are shared out, so that every multiprocessor has work and partial sums stay few."""
    width = min(WIDEST, max(16, triton.next_power_of_2(channels)))
    columns, height, lines = -(-channels // width), TILE // width, WRITES // width
    wanted = max(1, PROGRAMS // (groups * columns))
    if groups * rows * channels <= FEW:
        wanted = min(MOST_PARTS, wanted)
    parts = min(wanted, -(-rows // height))
    part = -(-rows // (parts * height)) * height
    return Cut(width, columns, height, -(-rows // part), part, lines, -(-rows // lines))


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
    """Mean and sum of squared deviations of each block of rows (Welford 1962, each place of a tile by itself)."""
    group, block = tl.program_id(0) // parts, tl.program_id(0) % parts
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column < channels
    first = block * part
    last = tl.minimum(first + part, rows)
    base = x + (group * rows).to(tl.int64) * channels
    mean = tl.zeros((height, width), tl.float32)
    m2 = tl.zeros((height, width), tl.float32)
    count = tl.zeros((height,), tl.float32)
    for start in range(first, last, height):
        row = start + tl.arange(0, height)
        mask = (row < last)[:, None] & inside[None, :]
        value = tl.load(base + row.to(tl.int64)[:, None] * channels + column[None, :], mask=mask, other=0.0)
        value = value.to(tl.float32)
        count += tl.where(row < last, 1.0, 0.0)
        delta = tl.where(mask, value - mean, 0.0)
        mean += delta * (1 / tl.maximum(count, 1.0))[:, None]
        m2 += delta * (value - mean)
    total = (last - first).to(tl.float32)
    own = tl.sum(mean * count[:, None], 0) / total
    apart = mean - own[None, :]
    at = (group * parts + block) * channels + column
    tl.store(part_mean + at, own, mask=inside)
    tl.store(part_m2 + at, tl.sum(m2 + apart * apart * count[:, None], 0), mask=inside)


@triton.jit
def _merge(
    first, second, whole_first, whole_second, rows, channels, part, of_moments: tl.constexpr, parts: tl.constexpr,
    padded: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    """The blocks of a group put together as if they were one: means and squared deviations, or sums."""
    group = tl.program_id(0)
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column < channels
    if of_moments:
        one, variance = _merged(first, second, group, column, inside, rows, part, channels, parts, padded)
        other = variance * rows
    else:
        one = _summed(first, group, column, inside, channels, parts, padded)
        other = _summed(second, group, column, inside, channels, parts, padded)
    tl.store(whole_first + group * channels + column, one, mask=inside)
    tl.store(whole_second + group * channels + column, other, mask=inside)


@triton.jit
def _normalise(
    x, residual, y, weight, bias, part_mean, part_m2, saved, running_mean, running_var, batches, eps, momentum, rows,
    channels, part, tiles, groups: tl.constexpr, parts: tl.constexpr, padded: tl.constexpr,
    has_residual: tl.constexpr, tracks: tl.constexpr, counts: tl.constexpr, activation: tl.constexpr,
    width: tl.constexpr, height: tl.constexpr,
):  # fmt: skip
    """y = act((x - mean) / std * weight + bias + residual); mean and 1/std of each group; running statistics.

    The first program of each column only tracks, so that no other waits for it.
    """
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column < channels
    if tl.program_id(0) == 0:
        all_means = tl.zeros((width,), tl.float32)
        all_variances = tl.zeros((width,), tl.float32)
        for number in range(groups):
            mean, variance = _merged(part_mean, part_m2, number, column, inside, rows, part, channels, parts, padded)
            tl.store(saved + number * channels + column, mean, mask=inside)
            tl.store(saved + (groups + number) * channels + column, variance, mask=inside)
            tl.store(saved + (2 * groups + number) * channels + column, 1 / tl.sqrt(variance + eps), mask=inside)
            all_means += mean / groups
            all_variances += variance * (rows / (rows - 1.0)) / groups
        if tracks:
            old_mean = tl.load(running_mean + column, mask=inside, other=0.0)
            old_var = tl.load(running_var + column, mask=inside, other=0.0)
            tl.store(running_mean + column, old_mean + momentum * (all_means - old_mean), mask=inside)
            tl.store(running_var + column, old_var + momentum * (all_variances - old_var), mask=inside)
        if counts and tl.program_id(1) == 0:
            tl.store(batches, tl.load(batches) + 1)
    else:
        group, block = (tl.program_id(0) - 1) // tiles, (tl.program_id(0) - 1) % tiles
        row = block * height + tl.arange(0, height)
        mask = (row < rows)[:, None] & inside[None, :]
        at = (group * rows + row).to(tl.int64)[:, None] * channels + column[None, :]
        # What is far comes first: the sums arrive meanwhile.
        value = tl.load(x + at, mask=mask, other=0.0)
        if has_residual:
            added = tl.load(residual + at, mask=mask, other=0.0)
        scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
        shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
        mean, variance = _merged(part_mean, part_m2, group, column, inside, rows, part, channels, parts, padded)
        scale *= 1 / tl.sqrt(variance + eps)
        shift -= mean * scale
        u = value.to(tl.float32) * scale[None, :] + shift[None, :]
        if has_residual:
            u += added.to(tl.float32)
        tl.store(y + at, _activated(u, activation).to(y.dtype.element_ty), mask=mask)


@triton.jit
def _scaled(
    x, residual, y, weight, bias, given_mean, given_var, eps, rows, channels, has_residual: tl.constexpr,
    activation: tl.constexpr, width: tl.constexpr, height: tl.constexpr,
):  # fmt: skip
    """y = act((x - mean) / std * weight + bias + residual) with given statistics."""
    column = tl.program_id(1) * width + tl.arange(0, width)
    inside = column < channels
    row = tl.program_id(0) * height + tl.arange(0, height)
    mask = (row < rows)[:, None] & inside[None, :]
    at = row.to(tl.int64)[:, None] * channels + column[None, :]
    invstd = 1 / tl.sqrt(tl.load(given_var + column, mask=inside, other=1.0).to(tl.float32) + eps)
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32) * invstd
    mean = tl.load(given_mean + column, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32) - mean * scale
    u = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) * scale[None, :] + shift[None, :]
    if has_residual:
        u += tl.load(residual + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(y + at, _activated(u, activation).to(y.dtype.element_ty), mask=mask)


@triton.jit
def _read(
    grad, also, x, seen, at, mask, has_also: tl.constexpr, has_seen: tl.constexpr,
):  # fmt: skip
    """The gradient of y, x, and what tells of the activation: y of ReLU behind an addition, the residual of GELU."""
    g = tl.load(grad + at, mask=mask, other=0.0).to(tl.float32)
    if has_also:
        g += tl.load(also + at, mask=mask, other=0.0).to(tl.float32)
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    known = value
    if has_seen:
        known = tl.load(seen + at, mask=mask, other=0.0).to(tl.float32)
    return g, value, known


@triton.jit
def _slope(
    g, value, known, mask, mean, invstd, weight, bias, has_seen: tl.constexpr, activation: tl.constexpr,
):  # fmt: skip
    """Gradient before the activation, and xhat."""
    normed = tl.where(mask, (value - mean[None, :]) * invstd[None, :], 0.0)
    if activation == 1:
        u = known if has_seen else normed * weight[None, :] + bias[None, :]
        g = tl.where(u <= 0, 0.0, g)
    elif activation == 2:
        u = normed * weight[None, :] + bias[None, :]
        if has_seen:
            u += known
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
    total = tl.zeros((height, width), tl.float32)
    dot = tl.zeros((height, width), tl.float32)
    for start in range(first, last, height):
        row = start + tl.arange(0, height)
        mask = (row < last)[:, None] & inside[None, :]
        at = base + row.to(tl.int64)[:, None] * channels + column[None, :]
        g, value, known = _read(grad, also, x, seen, at, mask, has_also, has_seen)
        g, normed = _slope(g, value, known, mask, mean, invstd, scale, shift, has_seen, activation)
        total += g
        dot += g * normed
    at = (group * parts + block) * channels + column
    tl.store(part_g + at, tl.sum(total, 0), mask=inside)
    tl.store(part_dot + at, tl.sum(dot, 0), mask=inside)


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
    channels, tiles, groups: tl.constexpr, parts: tl.constexpr, padded: tl.constexpr, has_also: tl.constexpr,
    has_seen: tl.constexpr, has_residual: tl.constexpr, activation: tl.constexpr, width: tl.constexpr,
    height: tl.constexpr,
):  # fmt: skip
    """Gradients of x, of the residual, and, by the first program of each column, of weight and bias."""
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
    else:
        group, block = (tl.program_id(0) - 1) // tiles, (tl.program_id(0) - 1) % tiles
        row = block * height + tl.arange(0, height)
        mask = (row < rows)[:, None] & inside[None, :]
        at = (group * rows + row).to(tl.int64)[:, None] * channels + column[None, :]
        g, value, known = _read(grad, also, x, seen, at, mask, has_also, has_seen)
        mean = tl.load(saved + group * channels + column, mask=inside, other=0.0)
        invstd = tl.load(saved + (2 * groups + group) * channels + column, mask=inside, other=0.0)
        scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
        shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
        mean_g = _summed(part_g, group, column, inside, channels, parts, padded) / rows
        mean_dot = _summed(part_dot, group, column, inside, channels, parts, padded) / rows
        g, normed = _slope(g, value, known, mask, mean, invstd, scale, shift, has_seen, activation)
        own = (scale * invstd)[None, :] * (g - mean_g[None, :] - normed * mean_dot[None, :])
        tl.store(grad_x + at, own.to(grad_x.dtype.element_ty), mask=mask)
        if has_residual:
            tl.store(grad_residual + at, g.to(grad_residual.dtype.element_ty), mask=mask)


def _put_together(
    sums: Tensor, rows: int, channels: int, groups: int, plan: Cut, *, of_moments: bool
) -> tuple[Tensor, int, int]:
    """Sums (2, G, parts, C) as the next pass takes them, with the parts of a group and their rows: many become one."""
    if not plan.merges:
        return sums, plan.parts, plan.part
    whole = torch.empty(2, groups, 1, channels, dtype=torch.float32, device=sums.device)
    _merge[groups, -(-channels // MERGED_WIDTH)](
        sums[0], sums[1], whole[0], whole[1], rows, channels, plan.part, of_moments=of_moments, parts=plan.parts,
        padded=triton.next_power_of_2(plan.parts), width=MERGED_WIDTH, num_warps=MERGING_WARPS,
    )  # fmt: skip
    return whole, 1, rows


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
    channels, rows = x.shape[1], x.numel() // (x.shape[1] * groups)
    plan = cut(rows, channels, groups)
    sums = torch.empty(2, groups, plan.parts, channels, dtype=torch.float32, device=x.device)
    saved = torch.empty(3, groups, channels, dtype=torch.float32, device=x.device)
    y = torch.empty_like(x)
    _statistics[groups * plan.parts, plan.columns](
        x, sums[0], sums[1], rows, channels, plan.part, plan.parts, width=plan.width, height=plan.height,
        num_warps=WARPS,
    )  # fmt: skip
    sums, parts, part = _put_together(sums, rows, channels, groups, plan, of_moments=True)
    mean, var, momentum, batches = running if running is not None else (saved, saved, 0.0, None)
    _normalise[1 + groups * plan.tiles, plan.columns](
        x, x if residual is None else residual, y, weight, bias, sums[0], sums[1], saved, mean, var,
        saved if batches is None else batches, eps, momentum, rows, channels, part, plan.tiles, groups=groups,
        parts=parts, padded=triton.next_power_of_2(parts), has_residual=residual is not None,
        tracks=running is not None, counts=batches is not None, activation=activation, width=plan.width,
        height=plan.lines, num_warps=WRITING_WARPS,
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
    _scaled[plan.tiles, plan.columns](
        x, x if residual is None else residual, y, weight, bias, mean, var, eps, rows, channels,
        has_residual=residual is not None, activation=activation, width=plan.width, height=plan.lines,
        num_warps=WRITING_WARPS,
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
    channels, rows = x.shape[1], x.numel() // (x.shape[1] * groups)
    plan = cut(rows, channels, groups)
    sums = torch.empty(2, groups, plan.parts, channels, dtype=torch.float32, device=x.device)
    grad_x = torch.empty_like(x)
    grad_residual = torch.empty_like(x) if has_residual else None
    of_weight, of_bias = torch.empty(2, channels, dtype=torch.float32, device=x.device)
    given: dict[str, Any] = {
        "has_also": also is not None, "has_seen": seen is not None, "activation": activation, "width": plan.width,
    }  # fmt: skip
    second, known = x if also is None else also, x if seen is None else seen
    _reduce[groups * plan.parts, plan.columns](
        grad, second, x, known, weight, bias, saved, sums[0], sums[1], rows, channels, plan.part, groups,
        plan.parts, height=plan.height, num_warps=WARPS, **given,
    )  # fmt: skip
    sums, parts, _ = _put_together(sums, rows, channels, groups, plan, of_moments=False)
    _gradients[1 + groups * plan.tiles, plan.columns](
        grad, second, x, known, weight, bias, saved, sums[0], sums[1], grad_x,
        grad_x if grad_residual is None else grad_residual, of_weight, of_bias, rows, channels, plan.tiles,
        groups=groups, parts=parts, padded=triton.next_power_of_2(parts), has_residual=has_residual,
        height=plan.lines, num_warps=WRITING_WARPS, **given,
    )  # fmt: skip
    return grad_x, grad_residual, of_weight, of_bias
