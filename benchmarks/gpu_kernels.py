"""The GPU's kernels on a card: right against PyTorch in fp64, and how much of the memory's speed they reach.

    python benchmarks/gpu_kernels.py [--rehearse]

With ``--rehearse`` on the CPU, by Triton's interpreter, at sizes that show only that it runs. It is the first job of
`benchmarks/gpu.py`.
"""

import argparse
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from reslab.kernels import gpu

SHAPES = (  # (N, C, H, W), groups; each is compiled for: half a second for a kernel
    ((6, 129, 13, 11), 3), ((128, 16, 32, 32), 2), ((64, 256, 28, 28), 1), ((2, 2048, 7, 7), 1), ((1, 64, 113, 111), 1),
    ((2, 3, 1, 2), 1),
)  # fmt: skip
TINY = (((4, 16, 4, 4), 2), ((2, 3, 1, 2), 1))
TIMED = (((128, 16, 32, 32), 2), ((128, 64, 8, 8), 2), ((256, 64, 112, 112), 1), ((256, 256, 56, 56), 1))
TUNED = (
    ((128, 16, 32, 32), 2), ((128, 64, 8, 8), 2), ((256, 64, 112, 112), 1), ((256, 1024, 14, 14), 1),
)  # fmt: skip
WAYS: tuple[dict[str, int], ...] = (
    *({"TILE": tile, "WARPS": warps, "PROGRAMS": most} for tile, warps, most in (
        (4096, 8, 528), (2048, 4, 1056), (4096, 4, 528), (4096, 8, 264), (8192, 16, 264), (8192, 8, 528),
    )),
    *({"WRITES": tile, "WRITING_WARPS": warps} for tile, warps in ((2048, 4), (4096, 8), (8192, 8))),
    {"MOST_PARTS": 32},
)  # fmt: skip
"""How the passes may be cut into programs: the names are those of `reslab.kernels.triton_norm`."""
CONVOLVED: tuple[dict[str, int], ...] = (
    *({"ROWS": rows, "WARPS": warps, "WEIGHED": rows, "WEIGHING_WARPS": warps} for rows, warps in (
        (32, 1), (32, 2), (64, 1), (64, 2), (64, 4), (128, 2), (128, 4), (128, 8), (256, 4), (256, 8),
    )),
    *({"WEIGHED": rows, "WEIGHING_WARPS": 4, "SHARES": shares} for rows in (64, 128) for shares in (132, 528)),
)  # fmt: skip
"""The same of convolutions, with the names of `reslab.kernels.triton_conv`."""
NARROW = (
    ((128, 16, 32, 32), 16), ((128, 32, 16, 16), 32), ((128, 64, 8, 8), 64), ((256, 64, 56, 56), 64),
    ((3, 16, 7, 9), 32),
)  # fmt: skip
"""Convolutions: (N, C, H, W) and channels that are made."""
CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.02}
"""How far results may be from those of fp64, as a share of the largest."""


def apart(shape: tuple[int, ...], groups: int, dtype: torch.dtype, activation: int, device: torch.device) -> float:
    """The largest difference of y and all gradients from PyTorch in fp64, as a share of the largest number."""
    from reslab.kernels import triton_norm as own

    draw = torch.Generator().manual_seed(0)
    x, residual, grad, also = (
        torch.randn(shape, generator=draw).to(device, dtype, memory_format=torch.channels_last) for _ in range(4)
    )
    weight, bias = (torch.randn(shape[1], generator=draw).to(device) for _ in range(2))
    y, saved = own.forward(x, residual, weight, bias, eps=1e-5, groups=groups, activation=activation)
    seen = {own.NONE: None, own.RELU: y, own.GELU: residual}[activation]
    found = own.backward(
        grad, also, x, seen, weight, bias, saved, groups=groups, activation=activation, has_residual=True
    )
    leaves = [tensor.detach().double().requires_grad_() for tensor in (x, residual, weight, bias)]
    parts = [F.batch_norm(part, None, None, leaves[2], leaves[3], True, 0.0, 1e-5) for part in leaves[0].chunk(groups)]
    u = torch.cat(parts) + leaves[1]
    right = {own.NONE: u, own.RELU: F.relu(u), own.GELU: F.gelu(u)}[activation]
    total = grad.double() + also.double()
    if activation == own.RELU:  # open where y is: next to zero another order of adding may decide otherwise
        total = total * (y > 0)
    wanted = torch.autograd.grad(right, leaves, total)
    pairs = zip((y, *found), (right.detach(), *wanted), strict=True)
    return max(float((a.double() - b).abs().max() / b.abs().max().clamp_min(1)) for a, b in pairs if a is not None)


def correctness(device: torch.device, *, tiny: bool) -> dict[str, Any]:
    """Every shape, type and activation; and a batch of images, bit for bit. Raises where any is wrong, with all."""
    from reslab.data.spec import Augment
    from reslab.data.transforms import Normalizer, OnGpu, augment
    from reslab.kernels import triton_norm as own

    found, wrong = {}, list[str]()
    shapes = TINY if tiny else SHAPES
    for shape, groups in shapes:
        for dtype, close in CLOSE.items():
            for activation in (own.NONE, own.RELU, own.GELU) if shape == shapes[0][0] else (own.RELU,):
                far = apart(shape, groups, dtype, activation, device)
                found[f"{shape} in {groups}, {dtype}, activation {activation}"] = far
                if not far <= close:
                    wrong.append(f"BN of {shape} in {groups} groups, {dtype}, activation {activation}: {far:g}")
    draw = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (100, 3, 32, 32), dtype=torch.uint8, generator=draw)
    pictures = pictures.to(device, memory_format=torch.channels_last)
    index = torch.arange(4 if tiny else 100, device=device)
    for kind in ("per-channel", "per-pixel-mean"):
        for spec in (Augment(pad=4, flip=True), Augment(pad=2, flip="alternating", border="reflect")):
            normalizer = Normalizer.of(kind, pictures.cpu()).to(device)
            wanted = augment(pictures[index], index, normalizer=normalizer, spec=spec, seed=1, epoch=index + 5)
            if not torch.equal(OnGpu(pictures, normalizer, spec, 1)(index, index + 5), wanted):
                wrong.append(f"augmentation {spec}, {kind}: other numbers than PyTorch's")
    wrong += _convolutions(device, tiny=tiny) + _pooling(device, tiny=tiny)
    if wrong:
        raise AssertionError("\n".join(wrong))
    return {"apart": found}


def _drawn(shape: Sequence[int], device: torch.device) -> Tensor:
    """Small whole numbers, of which sums are exact in fp32."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(-2, 3, shape, generator=draw).to(device, torch.bfloat16, memory_format=torch.channels_last)


def _convolutions(device: torch.device, *, tiny: bool) -> list[str]:
    """Of narrow convolutions what is further from fp64 than bf16 rounds."""
    from reslab.kernels import triton_conv as own

    wrong = []
    for shape, made in NARROW[:1] if tiny else NARROW:
        n, channels, height, width = (2, 16, 4, 5) if tiny else shape
        x, weight = _drawn((n, channels, height, width), device), _drawn((made, channels, 3, 3), device)
        grad = _drawn((n, made, height, width), device)
        x64, weight64 = (each.double().requires_grad_() for each in (x, weight))
        y = F.conv2d(x64, weight64, padding=1)
        right = (y.detach(), *torch.autograd.grad(y, (x64, weight64), grad.double()))
        found = (own.forward(x, weight), own.backward_x(grad, weight), own.backward_weight(x, grad))
        for name, one, other in zip(("y", "gradient of x", "gradient of weight"), found, right, strict=True):
            far = float(((one.double() - other).abs() / other.abs().clamp_min(1)).max())
            if not far <= 2**-7:
                wrong.append(f"convolution of {shape} to {made} channels, {name}: {far:g}")
    return wrong


def _pooling(device: torch.device, *, tiny: bool) -> list[str]:
    from reslab.kernels import triton_pool as own

    x = _drawn((2, 16, 7, 8) if tiny else (16, 64, 111, 112), device)
    leaf = x.double().requires_grad_()
    wanted = F.max_pool2d(leaf, 3, 2, 1)
    grad = _drawn(wanted.shape, device)
    y, which = own.forward(x, 3, 1)
    (right,) = torch.autograd.grad(wanted, leaf, grad.double())
    same = torch.equal(y.double(), wanted) and torch.equal(own.backward(grad, which, x.shape, 3, 1).double(), right)
    return [] if same else ["max pooling: other numbers than PyTorch's"]


def passes(device: torch.device) -> dict[str, Any]:
    """Microseconds of narrow convolutions and of max pooling, by our kernels and by the library's."""
    from reslab.kernels import narrow, pool, triton_pool

    found: dict[str, Any] = {}
    for shape, made in NARROW:
        x, weight, grad = _convolution(shape, made, device)
        for name, ways in narrow._ways(x, weight, grad).items():
            times = [round(gpu.microseconds(way, device), 2) for way in ways]
            found[f"convolution of {shape} to {made} channels: {name}"] = dict(
                zip(("library", "own"), times, strict=True)
            )
    x = torch.randn(256, 64, 112, 112, device=device).to(torch.bfloat16, memory_format=torch.channels_last)
    y, which = triton_pool.forward(x, 3, pool.PADDING[3])
    library, places = torch.ops.aten.max_pool2d_with_indices, [[3, 3], [2, 2], [1, 1], [1, 1], False]
    _, at = library(x, *places)
    back = torch.ops.aten.max_pool2d_with_indices_backward
    pooled = {
        "forward": (lambda: library(x, *places), lambda: triton_pool.forward(x, 3, 1)),
        "backward": (lambda: back(y, x, *places, at), lambda: triton_pool.backward(y, which, x.shape, 3, 1)),
    }
    for way, works in pooled.items():
        times = [round(gpu.microseconds(work, device, calls=2, replays=5), 2) for work in works]
        found[f"max pooling of {tuple(x.shape)}: {way}"] = dict(zip(("library", "own"), times, strict=True))
    return {"microseconds": found}


def speed(device: torch.device, *, tiny: bool) -> dict[str, Any]:
    """Bytes a second of BN with addition and ReLU, forward and backward, as `benchmarks/gpu_floor.py` counts them."""
    found = {}
    for shape, groups in TINY[:1] if tiny else TIMED:
        forward, backward = _passes(shape, groups, device)
        seconds = {
            "forward": 1e-6 * gpu.microseconds(forward, device),
            "backward": 1e-6 * gpu.microseconds(backward, device),
        }
        moved = {"forward": 4, "backward": 4 + 4 + 2}  # times the activation
        found[str(shape)] = {
            way: {"seconds": each, "gigabytes_per_second": moved[way] * 2 * math.prod(shape) / each / 1e9}
            for way, each in seconds.items()
        }
    return {"speed": found}


@contextmanager
def _cut_so(own: ModuleType, way: Mapping[str, int]) -> Iterator[None]:
    """With these constants of a module of kernels instead of its own."""
    usual = {name: getattr(own, name) for name in way}
    for name, value in way.items():
        setattr(own, name, value)
    try:
        yield
    finally:
        for name, value in usual.items():
            setattr(own, name, value)


def _passes(
    shape: tuple[int, ...], groups: int, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    """BN, addition and ReLU of a training step, forward and backward.

    Each operand has memory of its own: the same tensor in the place of several is read once, and the rest from a cache.
    """
    from reslab.kernels import triton_norm as own

    x, residual, grad, also = (
        torch.randn(shape, device=device).to(torch.bfloat16, memory_format=torch.channels_last) for _ in range(4)
    )
    one, mean, var = (torch.ones(shape[1], device=device) for _ in range(3))
    running = (mean, var, 0.1, torch.zeros((), dtype=torch.int64, device=device))

    def forward() -> tuple[Tensor, Tensor]:
        return own.forward(x, residual, one, one, eps=1e-5, groups=groups, activation=own.RELU, running=running)

    y, saved = forward()

    def backward() -> object:
        return own.backward(grad, also, x, y, one, one, saved, groups=groups, activation=own.RELU, has_residual=True)

    return forward, backward


def _convolution(shape: tuple[int, ...], made: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """An activation, a 3x3 weight that makes so many channels of it, and a gradient of what comes out."""
    n, channels, height, width = shape
    x, weight, grad = (
        torch.randn(size, device=device).to(torch.bfloat16, memory_format=torch.channels_last)
        for size in (shape, (made, channels, 3, 3), (n, made, height, width))
    )
    return x, weight, grad


Cuts = dict[str, int]
Works = Iterator[tuple[dict[str, Any], Sequence[Callable[[], object]]]]
"""What is timed: a shape, and its passes."""


def _norms(device: torch.device, tiny: bool) -> Works:
    """BN at each shape: forward and backward."""
    for shape, groups in TINY if tiny else TUNED:
        yield {"shape": shape, "groups": groups}, _passes(shape, groups, device)


def _convolved(device: torch.device, tiny: bool) -> Works:
    """Convolutions at each shape: y, gradient of x, gradient of the weight."""
    from reslab.kernels import triton_conv as own

    for shape, made in (((2, 16, 4, 4), 16),) if tiny else NARROW[:3]:
        x, weight, grad = _convolution(shape, made, device)
        works = (partial(own.forward, x, weight), partial(own.backward_x, grad, weight))
        yield {"shape": shape, "made": made}, (*works, partial(own.backward_weight, x, grad))


def _kinds() -> tuple[tuple[ModuleType, Sequence[Cuts], Callable[[torch.device, bool], Works]], ...]:
    """Modules of kernels, ways to cut their passes, and the passes."""
    from reslab.kernels import triton_conv, triton_norm

    return (triton_conv, CONVOLVED, _convolved), (triton_norm, WAYS, _norms)


def _compile(device: torch.device, tiny: bool, kind: int, way: Cuts) -> None:
    own, _, works = _kinds()[kind]
    with _cut_so(own, way):
        for _, each in works(device, tiny):
            for work in each:
                work()


def tune(device: torch.device, *, tiny: bool) -> None:
    """Prints microseconds of each pass at each way to cut it; compiled by several processes at once."""
    for kind, (own, ways, works) in enumerate(_kinds()):
        ways = ways[:2] if tiny else ways
        with ProcessPoolExecutor(min(len(ways), 14), multiprocessing.get_context("spawn")) as pool:
            list(pool.map(partial(_compile, device, tiny, kind), ways))
        for way in ways:
            with _cut_so(own, way):
                for about, each in works(device, tiny):
                    taken = [round(gpu.microseconds(work, device), 2) for work in each]
                    print(json.dumps(about | {"microseconds": taken} | way), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, by Triton's interpreter")
    parser.add_argument("--tune", action="store_true", help="only time the ways to cut the passes into programs")
    given = parser.parse_args()
    if given.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"
    device = torch.device("cpu" if given.rehearse else "cuda")
    if given.tune:
        tune(device, tiny=given.rehearse)
    else:
        found = correctness(device, tiny=given.rehearse) | speed(device, tiny=given.rehearse)
        found |= {} if given.rehearse else passes(device)
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
