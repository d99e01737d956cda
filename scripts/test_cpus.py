"""Runs the tests that depend on the processor once for each lesser kind that this one can stand in for.

``make test`` has run them with all that the machine offers; here PyTorch, oneDNN and our own kernels are held to less
(``RESLAB_CPU``, see `reslab.processor`). Words given are passed on to pytest.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from reslab.processor import LEVELS, VARIABLE, offered


def run(name: str, workers: int, words: list[str]) -> bool:
    """Runs the tests as on a processor of this kind; returns whether all passed. What is said comes at the end."""
    command = [sys.executable, "-m", "pytest", "-n", str(workers), "--dist", "worksteal", "-m", "cpu", *words]
    started = time.monotonic()
    done = subprocess.run(
        command, env=os.environ | {VARIABLE: name}, check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    verdict = "passed" if done.returncode == 0 else "FAILED"
    print(f"{name}:\n{done.stdout}{name}: {verdict} in {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0


def main(words: list[str]) -> int:
    """Runs them all, as many kinds at a time as there are cores; returns 1 if a test of any of them failed."""
    here = offered()
    lesser = []
    for name in LEVELS:
        if name not in here:
            print(f"{name}: skipped, this machine's processor has no {LEVELS[name].flag}", flush=True)
        elif name == here[-1]:
            print(f"{name}: not again, it is all that this processor has, which `make test` uses", flush=True)
        else:
            lesser.append(name)
    if not here:
        print("no kind of processor is known here: nothing was run")
    if not lesser:
        return 0
    # Each worker imports all there is, which takes a third of these tests' time: a kind gets as few as fill the cores.
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    at_a_time = min(len(lesser), cores)
    with ThreadPoolExecutor(at_a_time) as pool:
        passed = pool.map(lambda name: run(name, max(1, cores // at_a_time), words), lesser)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
