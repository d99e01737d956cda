"""The kernels' C++, compiled once with the machine's own compiler and cached.

Where there is no compiler the modules run as they are: the results agree within rounding, only slower.
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

import torch
from torch import Tensor

log = logging.getLogger("reslab")

SOURCES = ("norm.cpp", "conv.cpp", "pool.cpp", "simd.h")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
SUFFIX = {torch.bfloat16: "bf16", torch.float32: "f32"}


def _cache_dir() -> Path:
    root = os.environ.get("RESLAB_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "reslab") / "kernels"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    except OSError:
        return platform.processor()


def compiled(sources: dict[str, bytes], compiler: str) -> Path:
    """The library of some sources: from the cache, or compiled into it."""
    content = b"".join(name.encode() + code for name, code in sorted(sources.items()))
    key = hashlib.sha256(content + " ".join((compiler, *FLAGS, _processor())).encode()).hexdigest()[:16]
    folder = _cache_dir()
    target = folder / f"kernels-{key}.so"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        paths = [Path(scratch) / name for name in sources]
        for path in paths:
            path.write_bytes(sources[path.name])
        built = Path(scratch) / "kernels.so"
        words = [compiler, *FLAGS, "-o", str(built), *(str(path) for path in paths if path.suffix == ".cpp")]
        subprocess.run(words, check=True, capture_output=True, timeout=300)
        built.replace(target)
    return target


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None (with one line in the log) where they cannot be had."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        log.warning("no C++ compiler found: BN, addition and ReLU run unfused (install g++ for about 1.5 x the speed)")
        return None
    try:
        folder = resources.files("reslab.nets.kernels")
        return ctypes.CDLL(str(compiled({name: folder.joinpath(name).read_bytes() for name in SOURCES}, compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the fused kernels could not be built with %s (%s): running unfused", compiler, error)
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
    """Whether an activation (N, C, H, W) lies pixel by pixel."""
    return x.is_contiguous(memory_format=torch.channels_last)
