"""Photographs a second and core, from JPEG bytes to a training crop, beside torchvision's usual transforms.

    python benchmarks/decode.py --data path/to/images [--rounds 5]

One thread decodes all images of a folder by turns in each way, in batches. The peer is what people write: Pillow,
torchvision's RandomResizedCrop (or Resize and CenterCrop), flip, ToTensor, Normalize. Ours ends in uint8: normalising
is left to the device, and its time here is measured with the training. "whole" is ours where libjpeg's header is
missing, "Pillow" where there is no compiler. Other decoders are tried where they are installed, with PyTorch's uint8
kernel to resize the part, rounded to whole pixels.
"""

import argparse
import io
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch.nn import functional as F
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_jpeg

from reslab import runs
from reslab.data.crops import Box, Choose, Draws, Pixels, centre_crop, resized_crop, scale_crop
from reslab.data.decode import jpeg
from reslab.data.decode.part import decoded_crop
from reslab.data.decode.whole import Resized
from reslab.data.spec import ResizedCrop, ScaleCrop

ROOT = Path(__file__).parents[1]
SIZE = (224, 224)
BATCH = 50
Chooser = Callable[[Draws, int], Choose]
Way = Callable[[bytes, Callable[[], Choose], Pixels], object]
"""An image, the part that is wanted if it is asked for, and where it may be written."""
Decode = Callable[[bytes], torch.Tensor]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZE = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def peer(*steps: Any) -> Way:
    usual = transforms.Compose([*steps, NORMALIZE])
    return lambda data, choose, out: usual(opened(data))


def ours(data: bytes, choose: Callable[[], Choose], out: Pixels) -> object:
    return decoded_crop(data, choose(), SIZE, out)


def resized_by_torch(decode: Decode) -> Way:
    def way(data: bytes, choose: Callable[[], Choose], out: Pixels) -> object:
        image = decode(data)  # (3, H, W), pixel by pixel in memory
        box = choose()(image.shape[1], image.shape[2])
        if isinstance(box, Resized):  # the same part, cut out before it is resized
            tall, wide = image.shape[1] / box.height, image.shape[2] / box.width
            box = Box(box.top * tall, box.left * wide, SIZE[0] * tall, SIZE[1] * wide)
        top, left = int(box.top), int(box.left)
        part = image[None, :, top : top + max(1, round(box.height)), left : left + max(1, round(box.width))]
        made = F.interpolate(part, SIZE, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        out[:] = made.numpy()[:, ::-1] if box.flip else made.numpy()
        return out

    return way


def nothing() -> None:
    return None


@contextmanager
def without(*ways: str) -> Iterator[None]:
    """As if some of ours could not be had."""
    with ExitStack() as stack:
        for name in ways:
            stack.enter_context(mock.patch.object(jpeg, name, nothing))
        yield


def by_torchvision(data: bytes) -> torch.Tensor:
    image: torch.Tensor = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    return image


def decoders() -> dict[str, Decode]:
    found: dict[str, Decode] = {"torchvision.io": by_torchvision}
    try:
        import simplejpeg  # type: ignore[import-not-found]

        found["simplejpeg"] = lambda data: torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1)
        found["simplejpeg, quick"] = lambda data: torch.from_numpy(
            simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True)
        ).permute(2, 0, 1)
    except ImportError:
        pass
    try:
        import cv2  # type: ignore[import-not-found]

        cv2.setNumThreads(1)
        found["OpenCV"] = lambda data: torch.from_numpy(
            cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        ).permute(2, 0, 1)
    except ImportError:
        pass
    return found


def ways() -> dict[str, tuple[Chooser, dict[str, Way]]]:
    """By what is asked for, how it is chosen and the ways to it; the first is the peer."""
    inception, scale, centre = ResizedCrop(), ScaleCrop(), centre_crop(256, SIZE)

    def reduced(*names: str) -> Way:
        def way(data: bytes, choose: Callable[[], Choose], out: Pixels) -> object:
            with without(*names):
                return ours(data, choose, out)

        return way

    mine: dict[str, Way] = {
        "reslab": ours,
        "reslab, whole": reduced("part"),
        "reslab, Pillow": reduced("part", "whole"),
    }
    others = {name: resized_by_torch(decode) for name, decode in decoders().items()}
    alone: dict[str, Way] = {"Pillow": lambda data, choose, out: opened(data)}
    for name, decode in decoders().items():
        alone[name] = lambda data, choose, out, decode=decode: decode(data)  # type: ignore[misc]
    rest = mine | others
    random = peer(transforms.RandomResizedCrop(SIZE[0]), transforms.RandomHorizontalFlip())
    middle = peer(transforms.Resize(256), transforms.CenterCrop(SIZE[0]))
    return {
        "random resized crop": (lambda d, row: resized_crop(inception, d.of(row)), {"torchvision": random} | rest),
        "short side 256 to 480": (lambda d, row: scale_crop(scale, SIZE, d.of(row)), rest),
        "centre": (lambda d, row: centre, {"torchvision": middle} | rest),
        "decoding alone": (lambda d, row: centre, alone),
    }


def run(images: list[bytes], seed: int, chooser: Chooser, way: Way) -> float:
    """Images a second."""
    batch = np.empty((BATCH, *SIZE, 3), np.uint8)
    start = time.perf_counter()
    for first in range(0, len(images), BATCH):
        some = images[first : first + BATCH]
        index = torch.arange(first, first + len(some))
        draws = Draws(index, seed, torch.zeros_like(index))  # what is not asked for is not drawn
        for row, data in enumerate(some):
            way(data, lambda draws=draws, row=row: chooser(draws, row), batch[row])  # type: ignore[misc]
    return len(images) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "decode.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "The image decoding", DeprecationWarning)  # torchvision's of its own decoder
    files = sorted(path for path in options.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    images = [path.read_bytes() for path in files]
    rates: dict[str, dict[str, list[float]]] = {}
    found = ways()
    for chooser, each in found.values():
        for way in each.values():
            run(images[:5], 0, chooser, way)  # compiles and imports
    for number in range(options.rounds):
        for what, (chooser, each) in found.items():
            for name, way in each.items() if number % 2 == 0 else reversed(each.items()):
                rate = run(images, number, chooser, way)
                rates.setdefault(what, {}).setdefault(name, []).append(round(rate, 2))
    for what, each_rate in rates.items():
        base = each_rate[next(iter(found[what][1]))]
        for name in found[what][1]:
            values = each_rate[name]
            ratio = statistics.median(a / b for a, b in zip(values, base, strict=True))
            Console().print(f"{what}: {name} {statistics.median(values):.0f} images/s, {ratio:.2f} x", highlight=False)
    sizes = [Image.open(io.BytesIO(data)).size for data in images]
    runs.write_json(
        options.out,
        {
            **runs.made(threads=1),
            "images": len(images),
            "median_pixels": statistics.median(w * h for w, h in sizes),
            "images_per_second": rates,
        },
    )


if __name__ == "__main__":
    main()
