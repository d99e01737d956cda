"""C++ of the package, compiled once with the machine's own compiler and cached.

What is compiled is a convenience: where it cannot be had, its owner does the work in another way. Any number of
processes may compile the same at once; none ever loads half of it.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from reslab.processor import level

NATIVE = "-march=native"


@dataclass(frozen=True)
class Source:
    """What a library is made of."""

    name: str
    package: str
    """that holds the files"""
    files: tuple[str, ...]
    """those that end in .cpp are compiled; the others are included by them"""
    flags: tuple[str, ...]
    links: tuple[str, ...] = ()
    """options that come after the files, as ``-l`` has to"""


class NotBuilt(Exception):
    """A library cannot be had here, and why."""


class NoCompiler(NotBuilt):
    """There is no C++ compiler."""


def cache_folder() -> Path:
    """Where libraries are kept, and what was measured of them."""
    root = os.environ.get("RESLAB_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "reslab") / "kernels"


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    except OSError:
        return platform.processor()


def _compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        raise NoCompiler("no C++ compiler found")
    return found


def _contents(source: Source) -> dict[str, bytes]:
    folder = resources.files(source.package)
    return {name: folder.joinpath(name).read_bytes() for name in source.files}


def _flags(source: Source) -> tuple[str, ...]:
    """The compiler's options, with the processor that ``RESLAB_CPU`` names in place of the machine's own.

    They stay where they are, so that an option behind them may take instructions away.
    """
    limit = level()
    if limit is None:
        return source.flags
    return tuple(word for flag in source.flags for word in (limit.compiler if flag == NATIVE else (flag,)))


def _key(source: Source, compiler: str) -> str:
    content = b"".join(name.encode() + code for name, code in sorted(_contents(source).items()))
    words = " ".join((compiler, *_flags(source), *source.links, _processor()))
    return hashlib.sha256(content + words.encode()).hexdigest()[:16]


@functools.cache
def fingerprint(source: Source) -> str:
    """What a library's speed depends on, in short: its code, how it is compiled, and the processor."""
    return _key(source, _compiler())


def _library(source: Source, compiler: str) -> Path:
    """The library: from the cache, or compiled into it."""
    contents, flags = _contents(source), _flags(source)
    key = _key(source, compiler)
    cache = cache_folder()
    target = cache / f"{source.name}-{key}.so"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        for name, code in contents.items():
            (Path(scratch) / name).write_bytes(code)
        units = [str(Path(scratch) / name) for name in source.files if name.endswith(".cpp")]
        built = Path(scratch) / "built.so"
        command = [compiler, *flags, "-o", str(built), *units, *source.links]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        built.replace(target)
    return target


def loaded(source: Source) -> ctypes.CDLL:
    """The library, loaded.

    Raises:
        NoCompiler: there is no compiler.
        NotBuilt: it cannot be compiled, kept or loaded here.
    """
    compiler = _compiler()
    try:
        path = _library(source, compiler)
        try:
            return ctypes.CDLL(str(path))
        except OSError:  # linked with a library that this machine has exchanged since
            path.unlink(missing_ok=True)
            return ctypes.CDLL(str(_library(source, compiler)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as why:  # RuntimeError: no home folder
        raise NotBuilt(f"could not be built with {compiler} ({why})") from why
