"""What the protocols of an evaluation cost, on photographs and on CIFAR-10's test images.

    python benchmarks/protocols.py --data path/to/photographs --cifar10 path/to/cifar10 [--rounds 3]

Photographs, random weights: time for an image by one crop, by ten crops and by several scales, by turns in one process,
each from files to scores, decoding included. Ten crops are ten passes and one decoding. Several scales are set against
what their multiply-adds would take at the rate of one crop: the images' own shapes, mirror images and the head at each
position counted.

CIFAR-10: seconds for the 10,000 test images with ResNet-20 in bf16 and fp32, from pixels in memory to scores; and of
the whole command, start and reading included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console

from reslab import build, runs
from reslab.data.images import ImageSet
from reslab.data.loader import Eval
from reslab.data.sources import load
from reslab.data.stream import Listing, listing
from reslab.data.transforms import IMAGENET_MEAN, IMAGENET_STD, Normalizer
from reslab.data.views import Views
from reslab.evaluate.protocols import Kind, MultiScale, Single, suited
from reslab.evaluate.scores import how_shown, log_scores, trained_window
from reslab.nets.cost import cost
from reslab.nets.network import Network
from reslab.nets.spec import Size
from reslab.train.device import Execution, has_bf16, keep_freed_memory, pick_device
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of
from reslab.weights.preprocessing import Preprocessing

ROOT = Path(__file__).parents[1]
CROP = 224
CARRIED = Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD, crop=(CROP, CROP), resize=256)
KINDS: tuple[Kind, ...] = ("one-crop", "ten-crop", "multi-scale")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sizes_of(images: Listing) -> list[Size]:
    """Height and width of each image, from its header."""
    found = []
    for chunk in images.chunks():
        for item in chunk:
            assert isinstance(item.data, Path)
            with Image.open(item.data) as image:
                found.append((image.height, image.width))
    return found


def resized(size: Size, short: int) -> Size:
    height, width = size
    long = int(short * max(size) / min(size))
    return (short, long) if height <= width else (long, short)


def macs_of(net: Network, protocol: MultiScale, sizes: list[Size]) -> int:
    """Multiply-adds of all images at all scales."""
    total = 0
    for size in sizes:
        for short in protocol.scales:
            parts = cost(net.spec, resized(size, short)).parts
            height, width = parts[-2].out_size
            positions = max(1, height - protocol.window[0] + 1) * max(1, width - protocol.window[1] + 1)
            total += sum(part.macs for part in parts[:-1]) + parts[-1].macs * positions
    return total * (2 if protocol.flip else 1)


def photographs(net: Network, images: Listing, device: torch.device, *, batch: int, rounds: int) -> dict[str, Any]:
    window = trained_window(net.spec, CARRIED.crop)
    protocols: dict[Kind, Single] = {kind: suited(kind, CARRIED, window=window) for kind in KINDS}
    normalizer = Normalizer.from_values(CARRIED.mean, CARRIED.std)

    def run(protocol: Single, some: Listing) -> None:
        views = Views(some, how_shown(protocol, CARRIED), batch=batch, unit=CARRIED.crop)
        log_scores(net, views, normalizer, protocol, device=device)

    few = images.only([i < 2 for i in range(len(images.labels))])
    for protocol in protocols.values():
        run(protocol, few)  # compiles, and touches the memory
    seconds: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, protocol in protocols.items():
            seconds[kind].append(timed(lambda protocol=protocol: run(protocol, images)))  # type: ignore[misc]
            Console().print(f"{kind}: {seconds[kind][-1] / len(images.labels):.3f} s an image", highlight=False)
    scales = protocols["multi-scale"]
    assert isinstance(scales, MultiScale)
    macs = macs_of(net, scales, sizes_of(images)) / (len(images.labels) * cost(net.spec, CARRIED.crop).macs)
    ratios = {
        kind: statistics.median(a / b for a, b in zip(seconds[kind], seconds["one-crop"], strict=True))
        for kind in KINDS[1:]
    }
    return {
        "net": net.spec.name,
        "images": len(images.labels),
        "batch": batch,
        "seconds_per_image": {k: [round(s / len(images.labels), 4) for s in each] for k, each in seconds.items()},
        "ten_crop_to_one_crop": round(ratios["ten-crop"], 3),
        "multi_scale_to_one_crop": round(ratios["multi-scale"], 2),
        "multi_scale_macs_to_one_crop": round(macs, 2),
        "multi_scale_time_to_macs": round(ratios["multi-scale"] / macs, 3),
    }


def cifar10(data: str, execution: Execution, *, rounds: int, folder: Path) -> dict[str, Any]:
    device = execution.device
    net = build("resnet20").to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.fuse(execution.fuses)
    test = load(data).test
    carried = Preprocessing(mean=(0.49, 0.48, 0.45), std=(1.0, 1.0, 1.0), crop=(32, 32))
    protocol, normalizer = suited("one-crop", carried), Normalizer.from_values(carried.mean, carried.std)
    weights = folder / "resnet20.safetensors"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(to_bytes(net.state_dict(), header_of(net.spec, carried, None)))
    found: dict[str, Any] = {"net": "resnet20", "images": len(test)}
    for precision in ("bf16", "fp32"):
        if precision == "bf16" and not has_bf16(device):
            continue
        images = Eval(ImageSet(test.images, test.labels), normalizer, batch=100, device=device)

        def run(images: Eval = images, precision: str = precision) -> object:
            return log_scores(net, images, normalizer, protocol, device=device, precision=precision)

        times = [timed(run) for _ in range(rounds + 1)][1:]
        command = [
            sys.executable, "-m", "reslab", "eval", str(weights), "--data", data, "--precision", precision, "--json",
            "--threads", str(torch.get_num_threads()),
        ]  # fmt: skip
        start = time.perf_counter()
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        whole = time.perf_counter() - start
        found[precision] = {
            "seconds": [round(each, 2) for each in times],
            "of_the_command": {"whole": round(whole, 2), "once_started": said["seconds"]},
        }
        Console().print(
            f"CIFAR-10, {precision}: {statistics.median(times):.2f} s, command {whole:.2f}", highlight=False
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of photographs by class")
    parser.add_argument("--cifar10", required=True)
    parser.add_argument("--net", default="resnet18")
    parser.add_argument("--images", type=int, default=40, help="how many of the photographs")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--scratch", type=Path, default=ROOT / "runs" / "protocols", help="where weights are put")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "protocols.json")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    execution = Execution(pick_device(options.device))
    if execution.device.type == "cpu":
        keep_freed_memory()  # as the command does
    every = listing(options.data, "all")
    if every is None:
        raise SystemExit(f"{options.data} is no folder of images")
    n = len(every.labels)
    step = max(1, n // options.images)
    images = every.only([i % step == 0 and i // step < options.images for i in range(n)])
    net = build(options.net).to(execution.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.fuse(execution.fuses)
    summary = {
        "photographs": photographs(net, images, execution.device, batch=options.batch, rounds=options.rounds),
        "cifar10": cifar10(options.cifar10, execution, rounds=options.rounds, folder=options.scratch),
    }
    runs.write_json(
        options.out,
        {
            **runs.made(threads=torch.get_num_threads()),
            **summary,
        },
    )
    Console().print(summary)


if __name__ == "__main__":
    main()
