"""Seconds that `reslab export` takes for ResNet-50 with all of its checks.

    python benchmarks/export_gate.py PHOTOGRAPHS --out results/export_gate.json
    python benchmarks/export_gate.py PHOTOGRAPHS --to onnx openvino torch --out results/export_gate.json

PHOTOGRAPHS is any folder of JPEG files; 200 of them go through the network as it is and as it was written, at three
batch sizes, and both take turns for speed. Weights are drawn, those that `benchmarks/export.py speed` draws
(``--folder`` finds them again), so that predictions are as certain as of a network that was trained. Formats that an
older record has stay in it.
"""

import argparse
import json
import os
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
from reslab.runs import made, read_json, write_json


def timed(state: Path, photographs: str, formats: list[str]) -> dict[str, Any]:
    """The command once: its seconds, and what the checks found."""
    with tempfile.TemporaryDirectory() as scratch:
        words = ["export", str(state), "--net", "resnet50", "--data", photographs, "--split", "all", "--to", *formats]
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
    words.add_argument("--to", nargs="+", default=["onnx"])
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--out", type=Path, required=True)
    given = words.parse_args()
    found: dict[str, Any] = read_json(given.out)["by_formats"] if given.out.exists() else {}
    load = [round(each, 2) for each in os.getloadavg()]
    with tempfile.TemporaryDirectory() as scratch:
        state = (given.folder or Path(scratch)) / "state.pt"
        if not state.exists():
            files = sorted(Path(given.photographs).rglob("*"))
            paths = [path for path in files if path.suffix.lower() in (".jpg", ".jpeg")]
            torch.save(drawn(paths[:CALIBRATION])[0].state_dict(), state)
        turns = [timed(state, given.photographs, given.to) for _ in range(given.rounds)]
    versions = {name: metadata.version(name) for name in LIBRARIES}
    name = " ".join(given.to)
    found[name] = {key: [each[key] for each in turns] for key in ("seconds", "of_the_processor")}
    print(name, found[name], flush=True)
    found[name] |= {"said": turns[-1]["said"], "load_average": load} | made(**versions)
    write_json(given.out, {"net": "resnet50", "by_formats": found})


if __name__ == "__main__":
    main()
