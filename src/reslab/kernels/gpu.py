"""Whether a GPU's kernels can be used: asked once for each device, and tried on it before anything depends on them.

They are written in Triton, whose interpreter shows on any machine that they compute what they should; that the compiler
of a new version and a new card still does is not known before it has been tried. So they are, on a small activation,
when a device is first met. Where Triton or the card is missing, or something else comes out, PyTorch's own kernels run.
"""

import functools
import importlib.util
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from reslab.errors import first_line
from reslab.kernels import choice

log = logging.getLogger("reslab")

LEAST = (8, 0)
"""Compute capability from which on a card has bf16: Ampere."""
TYPES = (torch.bfloat16, torch.float16, torch.float32)
CLOSE = 1e-3
"""How far fp32 results may be from PyTorch's, as a share of the largest."""


def usable(device: torch.device) -> bool:
    """Whether the kernels run on a device; where a GPU has to do without, why is said once."""
    if device.type != "cuda" or choice.rule() == "library" or not torch.cuda.is_available():
        return False
    return unusable(torch.cuda.current_device() if device.index is None else device.index) is None


@functools.cache
def unusable(number: int) -> str | None:
    """Why the kernels cannot be used on a GPU; None where they can."""
    reason = _reason(torch.device("cuda", number))
    if reason is not None:
        log.warning("the GPU's own kernels cannot be used (%s): PyTorch's run, which are slower", reason)
    return reason


def _reason(device: torch.device) -> str | None:
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST:
        need = ".".join(map(str, LEAST))
        return f"they need compute capability {need}, and {device} has {'.'.join(map(str, capability))}"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # as it is, which Triton 3.9 warns of where it is not said
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            return tried(device)  # whatever it is first asked under
    except Exception as error:  # a compiler that is missing or fails: whatever it raises, there is another way
        return f"{type(error).__name__}: {first_line(error)}"


def takes(x: Tensor) -> bool:
    """Whether an activation (N, C, H, W) lies as the kernels read it, on a device that runs them.

    Tracers, counters of operations and tensors without numbers want to see PyTorch's own operators.
    """
    return (
        usable(x.device)
        and x.dtype in TYPES
        and x.dim() == 4
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_neg()
        and torch._C._len_torch_dispatch_stack() == 0
    )


def kernels() -> Any:
    """`reslab.kernels.triton_norm`, which imports Triton: only where `usable` has said yes."""
    from reslab.kernels import triton_norm

    return triton_norm


def pooling() -> Any:
    """`reslab.kernels.triton_pool`, likewise."""
    from reslab.kernels import triton_pool

    return triton_pool


def convolutions() -> Any:
    """`reslab.kernels.triton_conv`, likewise."""
    from reslab.kernels import triton_conv

    return triton_conv


def microseconds(work: Callable[[], object], device: torch.device, *, calls: int = 20, replays: int = 10) -> float:
    """Time of a call on the device alone, as in a captured step: what the host does to launch it is not counted.

    On the CPU, where Triton's interpreter runs kernels, it is that of one call.
    """
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        return 1e6 * (time.perf_counter() - start)
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(2):  # compiled, and the library's algorithm chosen
            work()
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
        for _ in range(calls):
            work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    best = float("inf")
    with torch.cuda.stream(aside):
        graph.replay()
        for _ in range(replays):
            begin.record(aside)
            graph.replay()
            end.record(aside)
            end.synchronize()
            best = min(best, 1e3 * begin.elapsed_time(end) / calls)
    torch.cuda.current_stream(device).wait_stream(aside)
    return best


def agrees(what: str, made: Callable[[], Tensor], wanted: Tensor, within: float = 0.0) -> bool:
    """Whether a kernel makes what PyTorch made, but for a share of the largest number; if not, that is said."""
    try:
        found = made()
        same = torch.equal(found, wanted) if not within else _near(found, wanted, within)
        reason = None if same else "it came out otherwise than by PyTorch"
    except Exception as error:  # as in `_reason`
        reason = f"{type(error).__name__}: {first_line(error)}"
    if reason is not None:
        log.warning("the GPU's own kernel of the %s cannot be used (%s): PyTorch's run", what, reason)
    return reason is None


def _near(found: Tensor, wanted: Tensor, within: float) -> bool:
    return float((found.float() - wanted.float()).abs().max()) <= within * max(1.0, float(wanted.abs().max()))


def tried(device: torch.device) -> str | None:
    """What came out wrong on a device of BN with groups, addition and ReLU, and of max pooling; None if nothing did."""
    draw = torch.Generator().manual_seed(0)
    given = [torch.randn(4, 24, 9, 7, generator=draw) for _ in range(3)]
    weight, bias = (torch.randn(24, generator=draw).to(device) for _ in range(2))
    for dtype, close in ((torch.float32, CLOSE), (torch.bfloat16, 0.05)):
        there = [tensor.to(device, dtype, memory_format=torch.channels_last) for tensor in given]
        if (wrong := _apart(there, weight, bias, close)) is not None:
            return f"{wrong} in {dtype} came out otherwise than by PyTorch"
    whole = given[0].mul(2).round().to(device, torch.bfloat16, memory_format=torch.channels_last)
    leaf = whole.float().requires_grad_()
    wanted = F.max_pool2d(leaf, 3, 2, 1)
    y, which = pooling().forward(whole, 3, 1)
    (right,) = torch.autograd.grad(wanted, leaf, torch.ones_like(wanted))
    back = pooling().backward(torch.ones_like(y), which, whole.shape, 3, 1)
    return (
        None
        if torch.equal(y.float(), wanted) and torch.equal(back.float(), right)
        else "max pooling came out otherwise"
    )


def _apart(given: list[Tensor], weight: Tensor, bias: Tensor, close: float) -> str | None:
    """What is further than ``close`` from PyTorch's, as a share of the largest."""
    own, (x, residual, grad) = kernels(), given
    y, saved = own.forward(x, residual, weight, bias, eps=1e-5, groups=2, activation=own.RELU)
    found = own.backward(
        grad, None, x, y, weight, bias, saved, groups=2, activation=own.RELU, has_residual=True
    )  # fmt: skip
    leaves = [tensor.detach().float().requires_grad_() for tensor in (x, residual, weight, bias)]
    parts = [F.batch_norm(part, None, None, leaves[2], leaves[3], True, 0.0, 1e-5) for part in leaves[0].chunk(2)]
    right = F.relu(torch.cat(parts) + leaves[1])
    # Open where y is: next to zero another order of adding may decide otherwise.
    wanted = torch.autograd.grad(right, leaves, grad.float() * (y > 0))
    names = ("y", "the gradient of x", "of the residual", "of the scale", "of the shift")
    for name, one, other in zip(names, (y, *found), (right.detach(), *wanted), strict=True):
        if not _near(one, other, close):
            return name
    return None
