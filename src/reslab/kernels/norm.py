"""BN, addition and ReLU or GELU in one kernel on the CPU, in two passes forward and two backward on a GPU.

Where there is no compiler or no Triton, or a tensor is not channels-last, the modules run as they are: the results
agree within rounding, only slower.
"""

import ctypes
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reslab.kernels import gpu
from reslab.kernels.build import SUFFIX, channels_last, kernel, library, pointer

Activation = Literal["none", "relu", "gelu"]
CODES: dict[Activation, int] = {"none": 0, "relu": 1, "gelu": 2}


def supports(x: Tensor, groups: int) -> bool:
    """Whether the kernels can take this activation (N, C, H, W) with BN statistics over so many groups."""
    on_gpu = gpu.takes(x)
    if not on_gpu and (x.device.type != "cpu" or x.dtype not in SUFFIX or x.dim() != 4 or not channels_last(x)):
        return False
    rows = x.shape[0] * x.shape[2] * x.shape[3]
    channels = x.shape[1]
    if rows % groups or rows <= groups:
        return False
    if on_gpu:
        return True
    # Mirrors fold_of() in the kernel: narrow layers are folded, two rows into one, to fill vectors of 16.
    width, lines = channels, rows // groups
    while width % 16 and lines % 2 == 0 and width < 16 * channels:
        width, lines = 2 * width, lines // 2
    return width % 16 == 0 and library() is not None


@dataclass(frozen=True)
class Tracked:
    """Running statistics (C,), fp32, that follow those of the batch, in place, with a weight for the newest."""

    mean: Tensor
    var: Tensor
    momentum: float
    batches: Tensor | None = None
    """how many batches they have followed, int64: one more"""


class _TrainingNorm(torch.autograd.Function):
    """y = act(BN(x) + residual) with batch statistics; returns y, y once more, and [mean, var, 1/std] (3, G, C).

    The second y is for the shortcut of the next block. Its gradient then comes apart from that of the branch, and the
    two are added inside the kernel rather than by a pass over memory.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float, groups: int,
        activation: Activation, tracked: Tracked | None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        if gpu.usable(x.device):
            running = None if tracked is None else (tracked.mean, tracked.var, tracked.momentum, tracked.batches)
            with torch.cuda.device_of(x):
                y, stats = gpu.kernels().forward(
                    x, residual, weight, bias, eps=eps, groups=groups, activation=CODES[activation], running=running
                )
        else:
            y, stats = torch.empty_like(x), torch.empty(3, groups, x.shape[1])
            _run_forward(x, residual, weight, bias, eps, groups, True, activation, y, stats, tracked)
            if tracked is not None and tracked.batches is not None:
                tracked.batches.add_(1)
        # Where a ReLU was open its output tells; GELU's slope is computed again from what went in.
        seen = residual if activation == "gelu" else y if residual is not None and activation == "relu" else None
        ctx.save_for_backward(x, seen, weight, bias, stats)
        ctx.groups, ctx.activation, ctx.has_residual, ctx.eps = groups, activation, residual is not None, eps
        ctx.mark_non_differentiable(stats)
        ctx.set_materialize_grads(False)
        return y, y.detach(), stats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, seen, weight, bias, stats = ctx.saved_tensors
        first, second = grads[:2] if grads[0] is not None else (grads[1], None)
        if first is None:
            return (None,) * 8
        if torch.is_grad_enabled():  # create_graph: somebody will differentiate this
            total = first if second is None else first + second
            return (*_differentiable_backward(total, x, seen, weight, bias, ctx), None, None, None, None)
        grad, also = _like(first, x), _like(second, x)
        if gpu.usable(x.device):
            with torch.cuda.device_of(x):
                found = gpu.kernels().backward(
                    grad, also, x, seen, weight, bias, stats, groups=ctx.groups, activation=CODES[ctx.activation],
                    has_residual=ctx.has_residual,
                )  # fmt: skip
            return (*found, None, None, None, None)
        channels = x.shape[1]
        grad_x = torch.empty_like(x)
        grad_residual = torch.empty_like(x) if ctx.has_residual else None
        grad_weight, grad_bias = torch.empty(channels), torch.empty(channels)
        failed = kernel("bn_backward", x.dtype)(
            pointer(grad), pointer(also), pointer(x),
            pointer(None if ctx.activation == "gelu" else seen), pointer(seen if ctx.activation == "gelu" else None),
            pointer(weight), pointer(bias), pointer(stats[0]), pointer(stats[2]),
            ctypes.c_int64(x.numel() // channels), channels, ctx.groups, CODES[ctx.activation],
            pointer(grad_x), pointer(grad_residual), pointer(grad_weight), pointer(grad_bias),
        )  # fmt: skip
        assert not failed, "supports() admitted a shape that the kernel refuses"
        return grad_x, grad_residual, grad_weight, grad_bias, None, None, None, None


def _differentiable_backward(
    grad: Tensor, x: Tensor, seen: Tensor | None, weight: Tensor, bias: Tensor, ctx: Any
) -> tuple[Tensor | None, ...]:
    """The same gradients from PyTorch's operations, so that second derivatives are right."""
    parts = x.float().unflatten(0, (ctx.groups, -1))  # (G, N/G, C, H, W)
    var, mean = torch.var_mean(parts, (1, 3, 4), keepdim=True, correction=0)
    invstd = (var + ctx.eps).rsqrt()
    normed = (parts - mean) * invstd
    scale = weight.view(1, 1, -1, 1, 1)
    g = grad.float()
    before = (normed * scale + bias.view(1, 1, -1, 1, 1)).flatten(0, 1)
    if ctx.activation == "relu":
        g = g * ((seen if seen is not None else before) > 0)
    elif ctx.activation == "gelu":
        u = before if seen is None else before + seen.float()
        g = g * (0.5 * (1 + torch.erf(u / math.sqrt(2))) + u * torch.exp(-u * u / 2) / math.sqrt(2 * math.pi))
    by_group = g.unflatten(0, (ctx.groups, -1))
    mean_g = by_group.mean((1, 3, 4), keepdim=True)
    mean_dot = (by_group * normed).mean((1, 3, 4), keepdim=True)
    grad_x = (scale * invstd * (by_group - mean_g - normed * mean_dot)).flatten(0, 1)
    grad_weight = (by_group * normed).sum((0, 1, 3, 4))
    return grad_x.to(x.dtype), g.to(x.dtype) if ctx.has_residual else None, grad_weight, g.sum((0, 2, 3))


def _run_forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float, groups: int,
    training: bool, activation: Activation, y: Tensor, stats: Tensor, tracked: Tracked | None,
) -> None:  # fmt: skip
    channels = x.shape[1]
    failed = kernel("bn_forward", x.dtype)(
        pointer(x), pointer(residual), pointer(weight), pointer(bias), ctypes.c_float(eps),
        ctypes.c_int64(x.numel() // channels), channels, groups, int(training), CODES[activation],
        pointer(y), pointer(stats[0]), pointer(stats[1]), pointer(stats[2]),
        pointer(tracked.mean if tracked else None), pointer(tracked.var if tracked else None),
        ctypes.c_float(tracked.momentum if tracked else 0.0),
    )  # fmt: skip
    assert not failed, "supports() admitted a shape that the kernel refuses"


def _like(residual: Tensor | None, x: Tensor) -> Tensor | None:
    return None if residual is None else residual.to(x.dtype).contiguous(memory_format=torch.channels_last)


def norm_training(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, *, eps: float, groups: int,
    activation: Activation, tracked: Tracked | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """act(BN(x) + residual) with the statistics of each of ``groups`` equal parts of the batch.

    Args:
        x: (N, C, H, W), channels-last, bf16 or fp32, as `supports` requires.
        residual: of the same shape, or None.
        weight: BN's scale (C,), fp32.
        bias: BN's shift (C,), fp32.
        eps: added to the variance.
        groups: how many equal, consecutive parts of the batch are normalised separately.
        activation: what follows; GELU is the exact one, within 1e-6.
        tracked: running statistics to bring up to date.

    Returns:
        y (N, C, H, W); y once more, for the shortcut that begins at it; the groups' means (G, C); their biased
        variances (G, C).
    """
    y, twin, stats = _TrainingNorm.apply(x, _like(residual, x), weight, bias, eps, groups, activation, tracked)
    return y, twin, stats[0], stats[1]


def norm_inference(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor,
    *, eps: float, activation: Activation,
) -> Tensor:  # fmt: skip
    """act(BN(x) + residual) with given statistics (C,); no gradient. Shapes as in `norm_training`."""
    if gpu.usable(x.device):
        with torch.cuda.device_of(x):
            made: Tensor = gpu.kernels().inference(
                x, _like(residual, x), weight, bias, mean, var, eps=eps, activation=CODES[activation]
            )
        return made
    y = torch.empty_like(x)
    stats = torch.stack([mean, var, var]).unsqueeze(1)
    _run_forward(x, _like(residual, x), weight, bias, eps, 1, False, activation, y, stats, None)
    return y
