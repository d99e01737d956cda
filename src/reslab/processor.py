"""Which of its processor's instructions Reslab may use: all of them, or with ``RESLAB_CPU`` those of a lesser one.

``RESLAB_CPU=avx2`` (or another of `LEVELS`) makes this machine compute as a processor without the rest would: our C++
is compiled for it, ``--precision auto`` is resolved for it, and PyTorch's and oneDNN's own variables
(``ATEN_CPU_CAPABILITY``, ``ONEDNN_MAX_CPU_ISA``) are set to the same before their first use. The tests run so, and
results of another machine can be looked into.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from reslab.errors import InputError, nearest

VARIABLE = "RESLAB_CPU"


def allowed_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Level:
    """A kind of processor, with all that the kinds before it have."""

    flag: str
    """that Linux lists in /proc/cpuinfo for a processor of this kind"""
    compiler: tuple[str, ...]
    """options for C++, in place of those of the machine's own processor"""
    aten: str
    """ATEN_CPU_CAPABILITY"""
    onednn: str
    """ONEDNN_MAX_CPU_ISA"""
    bf16: bool
    """multiplies bf16 in hardware"""


LEVELS = {
    "avx2": Level("avx2", ("-march=x86-64-v3",), "avx2", "AVX2", False),
    "avx512": Level("avx512vl", ("-march=x86-64-v4",), "avx512", "AVX512_CORE", False),
    "avx512_bf16": Level("avx512_bf16", ("-march=x86-64-v4", "-mavx512bf16"), "avx512", "AVX512_CORE_BF16", True),
    "amx": Level("amx_bf16", ("-march=x86-64-v4", "-mavx512bf16"), "avx512", "AVX512_CORE_AMX", True),
}


def flags() -> frozenset[str]:
    """What this processor can do, in Linux's words; nothing where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(word for line in lines if line.startswith(("flags", "Features")) for word in line.split()[2:])


def offered() -> list[str]:
    """The levels that this processor reaches, the least first."""
    here = flags()
    return [name for name, level in LEVELS.items() if level.flag in here]


def level() -> Level | None:
    """The level that ``RESLAB_CPU`` asks for; None without one: everything that there is.

    Raises:
        InputError: there is no such level, or this processor does not reach it.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return None
    if name not in LEVELS:
        raise InputError(f"{VARIABLE}={name} is no kind of processor; {nearest(name, LEVELS)}")
    if name not in offered():
        here = ", ".join(offered()) or "none of the kinds that it can name"
        raise InputError(f"{VARIABLE}={name}: this processor has no {LEVELS[name].flag}; it offers {here}")
    return LEVELS[name]


def limit_libraries() -> None:
    """Holds PyTorch and oneDNN to the level; of use before either has computed anything."""
    asked = LEVELS.get(os.environ.get(VARIABLE, ""))  # a wrong name is said where the level is used, not on import
    if asked is not None:
        os.environ["ATEN_CPU_CAPABILITY"] = asked.aten
        os.environ["ONEDNN_MAX_CPU_ISA"] = asked.onednn
