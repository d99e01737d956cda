"""`reslab predict` on a folder of JPEG files: its throughput beside the network's own, its memory, its first answer.

    python benchmarks/predict.py PHOTOGRAPHS --out results/predict.json

PHOTOGRAPHS is any folder of JPEG files; the folders that are predicted on hold as many links to them as needed. The
network's own throughput is that of the same network on a batch that is decoded already, by turns with a pass over
files, in this process. Memory is the peak of a process of its own, of 1,000 and of 10,000 pictures.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from reslab.evaluate.classify import Classifying
from reslab.nets.network import Network, build
from reslab.runs import made, write_json
from reslab.train.device import keep_freed_memory, resolve_precision
from reslab.train.state import save
from reslab.weights.load import header_of
from reslab.weights.preprocessing import Preprocessing

HOW = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=(224, 224), resize=256)


def links(photographs: Path, count: int, folder: Path) -> list[Path]:
    """So many files, linked to the photographs in turn."""
    found = [path for path in sorted(photographs.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    folder.mkdir()
    made_links = []
    for number, path in enumerate(islice(cycle(found), count)):
        target = folder / f"{number:05d}.jpg"
        os.symlink(path.resolve(), target)
        made_links.append(target)
    return made_links


def throughput(net: Network, files: list[Path], precision: str, batch: int, rounds: int) -> dict[str, Any]:
    """Images a second over files, and of the network alone, by turns."""
    classify = Classifying(net, HOW, 3, torch.device("cpu"), precision, batch)
    images = [classify.pixels(path) for path in files[:batch]]
    ours, alone = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        for _answers in classify(iter(files)):
            pass
        ours.append(len(files) / (time.perf_counter() - began))
        x = torch.stack([torch.from_numpy(each.copy()) for each in images]).permute(0, 3, 1, 2).float()
        x = x.contiguous(memory_format=torch.channels_last)
        times = len(files) // batch
        began = time.perf_counter()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            for _ in range(times):
                net(x)
        alone.append(times * batch / (time.perf_counter() - began))
    shares = [a / b for a, b in zip(ours, alone, strict=True)]
    return {
        "images_per_second": [round(each, 1) for each in ours], "network_alone": [round(each, 1) for each in alone],
        "share": round(statistics.median(shares), 3), "shares": [round(share, 3) for share in shares],
    }  # fmt: skip


def peak(weights: Path, folder: Path) -> float:
    """Megabytes at most of a process that predicts on a folder."""
    code = (
        "import resource, sys; from reslab.cli import main\n"
        "main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    words = [sys.executable, "-c", code, "predict", str(weights), str(folder), "--csv"]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    return int(done.stderr.split()[-1]) / 1024


def first_answer(weights: Path, image: Path, rounds: int) -> list[float]:
    """Seconds from the command's start to its end, of one image."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        words = [sys.executable, "-m", "reslab", "predict", str(weights), str(image)]
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        seconds.append(round(time.perf_counter() - began, 2))
    return seconds


def written(net: Network, path: Path) -> Path:
    save(path, dict(net.state_dict()), header_of(net.spec, HOW, None))
    return path


def main() -> None:
    """Measures, prints and writes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("photographs", type=Path)
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--images", type=int, default=320)
    words.add_argument("--rounds", type=int, default=3)
    given = words.parse_args()
    keep_freed_memory()
    precision = resolve_precision("auto", torch.device("cpu"))
    found: dict[str, Any] = {"what": __doc__.splitlines()[0], "precision": precision, "throughput": {}}
    with tempfile.TemporaryDirectory() as scratch:
        files = links(given.photographs, given.images, Path(scratch) / "some")
        for name in ("resnet18", "resnet50"):
            net = build(name).eval().to(memory_format=torch.channels_last).fuse()
            found["throughput"][name] = throughput(net, files, precision, 32, given.rounds)
            print(name, found["throughput"][name], flush=True)
        small = written(build("resnet18"), Path(scratch) / "w.safetensors")
        found["first_answer_seconds"] = first_answer(small, files[0], 5)
        print("first answer", found["first_answer_seconds"], flush=True)
        tiny = written(build("cifar_resnet(depth=8, width=4)"), Path(scratch) / "t.safetensors")
        found["peak_megabytes"] = {}
        for count in (1000, 10_000):
            folder = Path(scratch) / str(count)
            links(given.photographs, count, folder)
            found["peak_megabytes"][count] = round(peak(tiny, folder), 1)
            print(count, found["peak_megabytes"][count], flush=True)
    write_json(given.out, found | {"made": made(threads=torch.get_num_threads())})


if __name__ == "__main__":
    main()
