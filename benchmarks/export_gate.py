"""Seconds that `reslab export` takes for ResNet-50 with all of its checks, for ONNX alone and for all three formats.

    python benchmarks/export_gate.py PHOTOGRAPHS --out results/export_gate.json

PHOTOGRAPHS is any folder of JPEG files; 200 of them go through the network as it is and as it was written, at three
batch sizes, and both take turns for speed. Weights are drawn, those that `benchmarks/export.py speed` draws
(``--folder`` finds them again), so that predictions are as certain as of a network that was trained.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from export import CALIBRATION, IMAGENET, LIBRARIES, drawn
from reslab.runs import made, write_json

SETS = (("onnx",), ("onnx", "openvino", "torch"))


def timed(state: Path, photographs: str, formats: tuple[str, ...]) -> dict[str, Any]:
    """The command once: its seconds, and what the checks found."""
    with tempfile.TemporaryDirectory() as scratch:
        words = ["export", str(state), "--net", "resnet50", "--data", photographs, "--to", *formats]
        words += ["--mean", *map(str, IMAGENET.mean), "--std", *map(str, IMAGENET.std)]
        words += ["--out", str(Path(scratch) / "resnet50"), "--json"]
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "reslab", *words], stdout=subprocess.PIPE, text=True, check=True)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "of_the_processor": round(spent, 2), "said": json.loads(done.stdout)}


def main() -> None:
    """Times, prints and records."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("photographs")
    words.add_argument("--folder", type=Path, help="of `benchmarks/export.py speed`, with its weights")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--out", type=Path, required=True)
    given = words.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        state = (given.folder or Path(scratch)) / "state.pt"
        if not state.exists():
            files = sorted(Path(given.photographs).rglob("*"))
            paths = [path for path in files if path.suffix.lower() in (".jpg", ".jpeg")]
            torch.save(drawn(paths[:CALIBRATION])[0].state_dict(), state)
        for formats in SETS:
            turns = [timed(state, given.photographs, formats) for _ in range(given.rounds)]
            found[" ".join(formats)] = {
                "seconds": [each["seconds"] for each in turns],
                "of_the_processor": [each["of_the_processor"] for each in turns],
                "said": turns[-1]["said"],
            }
            print(formats, found[" ".join(formats)]["seconds"], flush=True)
    versions = {name: metadata.version(name) for name in LIBRARIES}
    write_json(given.out, {"net": "resnet50", "by_formats": found} | {"made": made(**versions)})


if __name__ == "__main__":
    main()
