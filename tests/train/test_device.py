"""Where a training runs."""

import resource
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from reslab.train.device import keep_freed_memory
keep_freed_memory(sys.argv[1] == "keep")
def touch():
    return torch.ones(16 * 2**20)  # 64 MB
for _ in range(40):  # until small blocks have found places between the large ones
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems manage memory otherwise")
def test_freed_memory_is_used_again() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    pages = 10 * 64 * 2**20 // resource.getpagesize()
    given_back = faults("give back")
    if given_back < pages / 2:
        pytest.skip("pages are larger here than they say")
    assert faults("keep") < given_back / 4
