"""The protocols on photographs, as the command carries them out: one crop, ten crops, several scales, an ensemble.

    python benchmarks/photographs_by_protocol.py --data path/to/imagenet-samples [--net resnet18] [--weights FILE ...]

Without weights, three networks are drawn at random: their errors are those of guessing, and what is shown is that
each protocol goes through on photographs of all shapes, what it takes, and that an ensemble of saved predictions is
one of the networks.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from reslab import build, runs
from reslab.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of
from reslab.weights.preprocessing import Preprocessing

ROOT = Path(__file__).parents[1]
CARRIED = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD, crop=(224, 224), resize=256)
NETWORKS = 3


def drawn(net: str, folder: Path) -> list[str]:
    """Files of random weights."""
    found = []
    for seed in range(NETWORKS):
        module = build(net, seed=seed)
        path = folder / f"{net}-seed{seed}.safetensors"
        path.write_bytes(to_bytes(dict(module.state_dict()), header_of(module.spec, CARRIED, None)))
        found.append(str(path))
    return found


def said(folder: Path, *words: object) -> dict[str, Any]:
    """What the command says, as JSON, with its seconds."""
    command = [sys.executable, "-m", "reslab", "eval", *map(str, words), "--json"]
    start = time.perf_counter()
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder).stdout
    found: dict[str, Any] = json.loads(text)
    return found | {"seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--net", default="resnet18")
    parser.add_argument("--weights", nargs="+", help="of several networks, in place of random ones")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "photographs_by_protocol.json")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = options.weights or drawn(options.net, folder)
        shown = ("--data", options.data.resolve(), "--split", "all")
        for protocol in ("one-crop", "ten-crop", "multi-scale"):
            results[protocol] = said(folder, weights[0], *shown, "--protocol", protocol)
            Console().print(f"{protocol}: {results[protocol]['top1_error']:.2f} %, {results[protocol]['seconds']} s")
        saved = []
        for number, each in enumerate(weights):
            saved.append(f"{number}.npz")
            said(folder, each, *shown, "--protocol", "ten-crop", "--save", saved[-1])
        words = ("--protocol", "ensemble", "--best-subset")
        results["ensemble"] = said(folder, *weights, *shown, "--each", "ten-crop", *words)
        results["ensemble of saved predictions"] = said(folder, *saved, *words)
    one, other = (results[name]["top1_error"] for name in ("ensemble", "ensemble of saved predictions"))
    assert one == other, f"saved predictions give {other} %, the networks {one} %"
    runs.write_json(
        options.out,
        {
            **runs.made(threads=torch.get_num_threads()),
            "weights": "random, seeds 0 to 2" if options.weights is None else options.weights,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
