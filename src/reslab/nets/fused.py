"""BN, addition and ReLU in one kernel on the CPU: an execution mode on top of the module graph.

The kernel (``fused_cpu.cpp``) is compiled once with the machine's own C++ compiler and cached. Where
there is no compiler, or a tensor is not channels-last, the modules run as they are: the results agree
within rounding, only slower.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger("reslab")

_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
_SUFFIX = {torch.bfloat16: "bf16", torch.float32: "f32"}


def _cache_dir() -> Path:
    root = os.environ.get("RESLAB_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "reslab") / "kernels"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    except OSError:
        return platform.processor()


def _compile(source: bytes, compiler: str) -> Path:
    key = hashlib.sha256(source + " ".join((compiler, *_FLAGS, _processor())).encode()).hexdigest()[:16]
    folder = _cache_dir()
    target = folder / f"fused-{key}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        code, built = Path(scratch) / "fused.cpp", Path(scratch) / "fused.so"
        code.write_bytes(source)
        subprocess.run([compiler, *_FLAGS, "-o", str(built), str(code)], check=True, capture_output=True, timeout=300)
        built.replace(target)
    return target


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None (with one line in the log) where they cannot be had."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        log.warning("no C++ compiler found: BN, addition and ReLU run unfused (install g++ for about 1.4 x the speed)")
        return None
    try:
        source = resources.files("reslab.nets").joinpath("fused_cpu.cpp").read_bytes()
        return ctypes.CDLL(str(_compile(source, compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the fused kernels could not be built with %s (%s): running unfused", compiler, error)
        return None


def _kernel(name: str, dtype: torch.dtype) -> Callable[..., int]:
    lib = library()
    assert lib is not None
    function: Callable[..., int] = getattr(lib, f"{name}_{_SUFFIX[dtype]}")
    return function


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def supports(x: Tensor, groups: int) -> bool:
    """Whether the kernels can take this activation (N, C, H, W) with BN statistics over so many groups."""
    if x.device.type != "cpu" or x.dtype not in _SUFFIX or x.dim() != 4 or not _channels_last(x):
        return False
    rows = x.shape[0] * x.shape[2] * x.shape[3]
    channels = x.shape[1]
    if rows % groups or rows == groups:
        return False
    # Mirrors fold_of() in the kernel: narrow layers are folded, two rows into one, to fill vectors of 16.
    width, lines = channels, rows // groups
    while width % 16 and lines % 2 == 0 and width < 16 * channels:
        width, lines = 2 * width, lines // 2
    return width % 16 == 0 and library() is not None


class _TrainingNorm(torch.autograd.Function):
    """y = act(BN(x) + residual) with batch statistics; returns y and the statistics [mean, var, 1/std] (3, G, C)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        groups: int,
        relu: bool,
    ) -> tuple[Tensor, Tensor]:
        channels = x.shape[1]
        y = torch.empty_like(x)
        stats = torch.empty(3, groups, channels)
        _run_forward(x, residual, weight, bias, eps, groups, True, relu, y, stats)
        ctx.save_for_backward(x, y if residual is not None else None, weight, bias, stats)
        ctx.groups, ctx.relu, ctx.has_residual, ctx.eps = groups, relu, residual is not None, eps
        ctx.mark_non_differentiable(stats)
        return y, stats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight, bias, stats = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: somebody will differentiate this
            return (*_differentiable_backward(grads[0], x, y, weight, bias, ctx), None, None, None)
        grad = grads[0].to(x.dtype).contiguous(memory_format=torch.channels_last)
        channels = x.shape[1]
        grad_x = torch.empty_like(x)
        grad_residual = torch.empty_like(x) if ctx.has_residual else None
        grad_weight, grad_bias = torch.empty(channels), torch.empty(channels)
        failed = _kernel("bn_backward", x.dtype)(
            _pointer(grad), _pointer(x), _pointer(y),
            _pointer(weight), _pointer(bias), _pointer(stats[0]), _pointer(stats[2]),
            ctypes.c_int64(x.numel() // channels), channels, ctx.groups, int(ctx.relu),
            _pointer(grad_x), _pointer(grad_residual), _pointer(grad_weight), _pointer(grad_bias),
        )  # fmt: skip
        assert not failed, "supports() admitted a shape that the kernel refuses"
        return grad_x, grad_residual, grad_weight, grad_bias, None, None, None


def _differentiable_backward(
    grad: Tensor, x: Tensor, y: Tensor | None, weight: Tensor, bias: Tensor, ctx: Any
) -> tuple[Tensor | None, ...]:
    """The same gradients from PyTorch's operations, so that second derivatives are right."""
    parts = x.float().unflatten(0, (ctx.groups, -1))  # (G, N/G, C, H, W)
    var, mean = torch.var_mean(parts, (1, 3, 4), keepdim=True, correction=0)
    invstd = (var + ctx.eps).rsqrt()
    normed = (parts - mean) * invstd
    scale = weight.view(1, 1, -1, 1, 1)
    g = grad.float()
    if ctx.relu:
        open_ = y > 0 if y is not None else (normed * scale + bias.view(1, 1, -1, 1, 1)).flatten(0, 1) > 0
        g = g * open_
    by_group = g.unflatten(0, (ctx.groups, -1))
    mean_g = by_group.mean((1, 3, 4), keepdim=True)
    mean_dot = (by_group * normed).mean((1, 3, 4), keepdim=True)
    grad_x = (scale * invstd * (by_group - mean_g - normed * mean_dot)).flatten(0, 1)
    grad_weight = (by_group * normed).sum((0, 1, 3, 4))
    return grad_x.to(x.dtype), g.to(x.dtype) if ctx.has_residual else None, grad_weight, g.sum((0, 2, 3))


def _run_forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float, groups: int,
    training: bool, relu: bool, y: Tensor, stats: Tensor,
) -> None:  # fmt: skip
    channels = x.shape[1]
    failed = _kernel("bn_forward", x.dtype)(
        _pointer(x), _pointer(residual), _pointer(weight), _pointer(bias), ctypes.c_float(eps),
        ctypes.c_int64(x.numel() // channels), channels, groups, int(training), int(relu),
        _pointer(y), _pointer(stats[0]), _pointer(stats[1]), _pointer(stats[2]),
    )  # fmt: skip
    assert not failed, "supports() admitted a shape that the kernel refuses"


def _like(residual: Tensor | None, x: Tensor) -> Tensor | None:
    return None if residual is None else residual.to(x.dtype).contiguous(memory_format=torch.channels_last)


def norm_training(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, *, eps: float, groups: int, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """act(BN(x) + residual) with the statistics of each of ``groups`` equal parts of the batch.

    Args:
        x: (N, C, H, W), channels-last, bf16 or fp32, as `supports` requires.
        residual: of the same shape, or None.
        weight: BN's scale (C,), fp32.
        bias: BN's shift (C,), fp32.
        eps: added to the variance.
        groups: how many equal, consecutive parts of the batch are normalised separately.
        relu: whether a ReLU follows.

    Returns:
        y (N, C, H, W); the groups' means (G, C); their biased variances (G, C).
    """
    y, stats = _TrainingNorm.apply(x, _like(residual, x), weight, bias, eps, groups, relu)
    return y, stats[0], stats[1]


def norm_inference(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor,
    *, eps: float, relu: bool,
) -> Tensor:  # fmt: skip
    """act(BN(x) + residual) with given statistics (C,); no gradient. Shapes as in `norm_training`."""
    y = torch.empty_like(x)
    stats = torch.stack([mean, var, var]).unsqueeze(1)
    _run_forward(x, _like(residual, x), weight, bias, eps, 1, False, relu, y, stats)
    return y
