"""Triton's compiler makes machine code of every kernel for cards that are not here: the interpreter takes more."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed here")
AHEAD = Path(__file__).with_name("ahead.py")
CAPABILITIES = ("80", "90")
"""Of an A100 and an H100."""
KERNELS = (
    "_statistics", "_merge", "_normalise", "_scaled", "_reduce", "_gradients", "_shifted", "_convolve", "_weigh",
    "_add_up", "_largest", "_put_back",
)  # fmt: skip
SHARED = {"80": 163 * 1024, "90": 227 * 1024}
"""Bytes of shared memory that a program may have, by capability."""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is for Linux")
def test_every_kernel_compiles(tmp_path: Path) -> None:
    where = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, str(AHEAD), *CAPABILITIES], capture_output=True, text=True, timeout=300,
        env=where | {"TRITON_CACHE_DIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [line.split() for line in run.stdout.splitlines()]
    assert {(capability, name) for capability, name, _ in lines} == set(product(CAPABILITIES, KERNELS))
    assert all(int(shared) <= SHARED[capability] for capability, _, shared in lines)
