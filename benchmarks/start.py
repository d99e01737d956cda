"""Seconds from the start of `reslab train` to its first step, the data decoded before.

    python benchmarks/start.py --data path/to/cifar10 [--rounds 5]

The process is watched from outside: the first line of its metrics is written right behind the first step.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from reslab import runs

ROOT = Path(__file__).parents[1]


def first_step(*words: str, env: dict[str, str] | None = None) -> float:
    """Seconds until `reslab train WORDS` has done its first step and written it down."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        command = [sys.executable, "-m", "reslab", "train", *words, "--out", str(out), "--iterations", "1000"]
        command += ["--set", "log_every=1"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        try:
            while not (out / "metrics.jsonl").exists():
                if process.poll() is not None:
                    raise SystemExit(f"reslab train ended with {process.returncode} before its first step")
                time.sleep(0.01)
            return time.perf_counter() - start
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--net", default="resnet20")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "start.json")
    options = parser.parse_args()
    words = ("he2015_cifar", "--net", options.net, "--data", options.data)
    first_step(*words)  # decodes the data, compiles the kernels
    found = [round(first_step(*words), 3) for _ in range(options.rounds)]
    Console().print(f"{options.net}: {statistics.median(found):.2f} s to the first step ({min(found)} to {max(found)})")
    runs.write_json(
        options.out,
        {
            **runs.made(),
            "seconds": found,
            "median": statistics.median(found),
        },
    )


if __name__ == "__main__":
    main()
