"""Triton's compiler makes machine code of every kernel for cards that are not here: the interpreter takes more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed here")
AHEAD = Path(__file__).with_name("ahead.py")
SHARED = 227 * 1024
"""Bytes of shared memory that a program may have on an H100."""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is for Linux")
@pytest.mark.parametrize("capability", ["80", "90"])
def test_every_kernel_compiles(capability: str, tmp_path: Path) -> None:
    where = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, str(AHEAD), capability], capture_output=True, text=True, timeout=300,
        env=where | {"TRITON_CACHE_DIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [line.split() for line in run.stdout.splitlines()]
    names = {name for _, name, *_ in lines}
    assert names == {"_statistics", "_normalise", "_scaled", "_reduce", "_gradients", "_shifted"}
    assert all(int(shared) <= SHARED for *_, shared in lines)
