"""Two ranks on CIFAR-10; one is killed, torchrun starts both again: is the end the one of an undisturbed run?

    python benchmarks/killed_rank.py --data path/to/cifar10 [--iterations 400]

Both runs are `torchrun --nproc-per-node 2 --max-restarts 3 -m reslab train he2015_cifar`. In the second, once there is
a checkpoint, the process of one rank gets SIGKILL: the leading rank's the first time, the other's the second.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from reslab import runs
from reslab.weights.files import read_safetensors

ROOT = Path(__file__).parents[1]


def command(data: str, out: Path, iterations: int) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "3"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "reslab"]
    words = ["train", "he2015_cifar", "--net", "resnet20", "--data", data, "--iterations", str(iterations)]
    return [*launch, *words, "--checkpoint-every", "20", "--out", str(out)]


def ranks_of(launcher: int) -> dict[int, int]:
    """The process of each rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rsplit(")")[-1].split()[1]) == launcher:
                env = dict(
                    word.split(b"=", 1) for word in (entry / "environ").read_bytes().split(b"\0") if b"=" in word
                )
                if b"RANK" in env:
                    found[int(env[b"RANK"])] = int(entry.name)
        except (OSError, ValueError, IndexError):
            continue
    return found


def checkpoints(out: Path) -> set[str]:
    return {path.name for path in (out / "checkpoints").glob("iteration-*.safetensors")}


def killed(data: str, out: Path, iterations: int, log: Path) -> list[dict[str, Any]]:
    """Runs with two kills; says at which checkpoints they fell."""
    kills: list[dict[str, Any]] = []
    with log.open("w") as handle:
        process = subprocess.Popen(command(data, out, iterations), stdout=handle, stderr=handle, env=os.environ)
        seen: set[str] = set()
        for victim in (0, 1):
            while not checkpoints(out) - seen:
                if process.poll() is not None:
                    raise SystemExit(f"ended with {process.returncode} before the kill; see {log}")
                time.sleep(0.05)
            time.sleep(1.0)
            seen = checkpoints(out)
            os.kill(ranks_of(process.pid)[victim], signal.SIGKILL)
            kills.append({"rank": victim, "last_checkpoint": max(seen)})
        code = process.wait()
    if code:
        raise SystemExit(f"ended with {code}; see {log}:\n{log.read_text()[-2000:]}")
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "killed_rank.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        start = time.perf_counter()
        subprocess.run(command(options.data, root / "whole", options.iterations), check=True, capture_output=True)
        undisturbed = time.perf_counter() - start
        start = time.perf_counter()
        kills = killed(options.data, root / "killed", options.iterations, root / "log")
        disturbed = time.perf_counter() - start
        said = [line for line in (root / "log").read_text().splitlines() if "another rank" in line]
        one, other = (
            read_safetensors(root / name / "checkpoints" / "final.safetensors")[0] for name in ("whole", "killed")
        )
        same = all(torch.equal(tensor, other[name]) for name, tensor in one.items())
        metrics = [(root / name / "metrics.jsonl").read_bytes() for name in ("whole", "killed")]
        result = runs.read_json(root / "killed" / "result.json")
    print(f"killed {kills}; weights equal bit for bit: {same}; metrics equal byte for byte: {metrics[0] == metrics[1]}")
    print(f"{undisturbed:.0f} s undisturbed, {disturbed:.0f} s with both kills; {said[:1]}")
    runs.write_json(
        options.out,
        {
            **runs.made(),
            "kills": kills,
            "weights_equal": same,
            "metrics_equal": metrics[0] == metrics[1],
            "seconds": {"undisturbed": round(undisturbed, 1), "killed": round(disturbed, 1)},
            "test_error": result["test_error"],
        },
    )
    if not same:
        raise SystemExit("the runs differ")


if __name__ == "__main__":
    main()
