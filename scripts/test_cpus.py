"""Runs the tests that depend on the processor once for each lesser kind that this one can stand in for.

``make test`` has run them with all that the machine offers; here PyTorch, oneDNN and our own kernels are held to less
(``RESLAB_CPU``, see `reslab.processor`). Words given are passed on to pytest.
"""

import os
import subprocess
import sys
import time

from reslab.processor import LEVELS, VARIABLE, offered


def main(words: list[str]) -> int:
    """Runs them all; returns 1 if a test of any kind of processor failed."""
    here = offered()
    failed = []
    for name in LEVELS:
        if name not in here:
            print(f"{name}: skipped, this machine's processor has no {LEVELS[name].flag}", flush=True)
            continue
        if name == here[-1]:
            print(f"{name}: not again, it is all that this processor has, which `make test` uses", flush=True)
            continue
        print(f"{name}:", flush=True)
        command = [sys.executable, "-m", "pytest", "-n", "auto", "--dist", "worksteal", "-m", "cpu", *words]
        started = time.monotonic()
        code = subprocess.run(command, env=os.environ | {VARIABLE: name}, check=False).returncode
        print(f"{name}: {'passed' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
        failed += [name] if code else []
    if not here:
        print("no kind of processor is known here: nothing was run")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
