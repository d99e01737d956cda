"""What a result was measured on."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("reslab", "torch", "torchvision", "numpy", "safetensors")


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return "unknown"


def git_commit() -> str | None:
    """The commit of the checkout that Reslab runs from, with ``+`` if it was changed; None outside one."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(("git", *words), cwd=here, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", ".")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def describe() -> dict[str, str]:
    """Processor, memory, system and versions, as text."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": _memory(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions,
        "git_commit": git_commit() or "unknown",
    }


def now() -> str:
    """The time in UTC, to the second (ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def called() -> str:
    """The command line of this process; paths cut to their last part, as they are their owner's affair."""
    script, *words = sys.argv
    shown = [Path(word).name if "/" in word else word for word in words]
    return shlex.join(["python", "/".join(Path(script).parts[-2:]), *shown])


def made(**about: object) -> dict[str, Any]:
    """How a file of results came about: the command, when, and on which machine, with more ``about`` that."""
    more = {name: str(text) for name, text in about.items()}
    return {"command": called(), "when": now(), "machine": describe() | more}
