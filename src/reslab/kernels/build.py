"""The kernels' C++, compiled once with the machine's own compiler and cached.

Where there is no compiler the modules run as they are: the results agree within rounding, only slower.
"""

import ctypes
import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from reslab.compiled import NoCompiler, NotBuilt, Source, loaded

log = logging.getLogger("reslab")

SOURCE = Source(
    "kernels",
    "reslab.kernels",
    ("norm.cpp", "conv.cpp", "winograd.cpp", "pool.cpp", "shift.cpp", "simd.h"),
    ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC"),
)
SUFFIX = {torch.bfloat16: "bf16", torch.float32: "f32"}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None (with one line in the log) where they cannot be had."""
    try:
        return loaded(SOURCE)
    except NoCompiler:
        log.warning("no C++ compiler found: BN, addition and ReLU run unfused (install g++ for about 1.5 x the speed)")
    except NotBuilt as why:
        log.warning("the fused kernels %s: running unfused", why)
    return None


def has(name: str, dtype: torch.dtype) -> bool:
    """Whether there is such a kernel for numbers of a type on this processor."""
    lib = library()
    return lib is not None and dtype in SUFFIX and hasattr(lib, f"{name}_{SUFFIX[dtype]}")


def kernel(name: str, dtype: torch.dtype) -> Callable[..., int]:
    """A kernel that is there."""
    lib = library()
    assert lib is not None
    function: Callable[..., int] = getattr(lib, f"{name}_{SUFFIX[dtype]}")
    return function


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where a tensor's numbers begin; null for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def channels_last(x: Tensor) -> bool:
    """Whether an activation (N, C, H, W) lies pixel by pixel, where a kernel may read it."""
    return x.is_contiguous(memory_format=torch.channels_last) and readable(x)


def readable(x: Tensor) -> bool:
    """Whether a tensor's numbers are those that lie in its memory, and nobody wants to see PyTorch's own operators.

    Tracers (`make_fx`), counters of operations and tensors without numbers do: a kernel is invisible to them.
    """
    return x.device.type == "cpu" and not x.is_neg() and torch._C._len_torch_dispatch_stack() == 0
