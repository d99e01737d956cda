"""Photographs a second and core, from JPEG bytes to a training crop, beside torchvision's usual transforms.

    python benchmarks/decode.py --data path/to/images [--rounds 5]

One thread decodes all images of a folder by turns in each way. The peer is what people write: Pillow, torchvision's
RandomResizedCrop (or Resize and CenterCrop), flip, ToTensor, Normalize. Ours ends in uint8: normalising is left to the
device, and its time here is measured with the training. Other decoders are tried where they are installed.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch.nn import functional as F
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_jpeg

from reslab import runs
from reslab.data.crops import Choose, Draws, centre_crop, decoded_crop, resized_crop, scale_crop
from reslab.data.spec import ResizedCrop, ScaleCrop

ROOT = Path(__file__).parents[1]
SIZE = (224, 224)
Way = Callable[[int, bytes], object]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZE = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def with_torchvision_io(data: bytes, choose: Choose) -> torch.Tensor:
    """Decoded whole by torchvision.io, the part resized by PyTorch's kernels for uint8."""
    image = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    box = choose(image.shape[1], image.shape[2])
    top, left = int(box.top), int(box.left)
    part = image[:, top : top + max(1, round(box.height)), left : left + max(1, round(box.width))]
    return F.interpolate(
        part[None].contiguous(memory_format=torch.channels_last), SIZE, mode="bilinear", antialias=True
    )[0]


def ways() -> dict[str, dict[str, Way]]:
    """By what is asked for, the ways to it; the first is the peer."""
    inception, scale, centre = ResizedCrop(), ScaleCrop(), centre_crop(256, SIZE)
    peer_crop = transforms.Compose(
        [transforms.RandomResizedCrop(SIZE[0]), transforms.RandomHorizontalFlip(), NORMALIZE]
    )
    peer_centre = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIZE[0]), NORMALIZE])

    def draw(index: int) -> Any:
        return Draws(torch.tensor([index]), 0, torch.tensor([0])).of(0)

    found: dict[str, dict[str, Way]] = {
        "random resized crop": {
            "torchvision": lambda i, data: peer_crop(opened(data)),
            "reslab": lambda i, data: decoded_crop(data, resized_crop(inception, draw(i)), SIZE),
            "torchvision.io": lambda i, data: with_torchvision_io(data, resized_crop(inception, draw(i))),
        },
        "short side 256 to 480": {
            "reslab": lambda i, data: decoded_crop(data, scale_crop(scale, SIZE, draw(i)), SIZE),
            "torchvision.io": lambda i, data: with_torchvision_io(data, scale_crop(scale, SIZE, draw(i))),
        },
        "centre": {
            "torchvision": lambda i, data: peer_centre(opened(data)),
            "reslab": lambda i, data: decoded_crop(data, centre, SIZE),
            "torchvision.io": lambda i, data: with_torchvision_io(data, centre),
        },
        "decoding alone": {
            "Pillow": lambda i, data: opened(data).load(),
            "torchvision.io": lambda i, data: decode_jpeg(
                torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB
            ),
        },
    }
    try:
        import simplejpeg  # type: ignore[import-not-found]

        found["decoding alone"]["simplejpeg"] = lambda i, data: simplejpeg.decode_jpeg(data)
        found["decoding alone"]["simplejpeg, quick"] = lambda i, data: simplejpeg.decode_jpeg(
            data, fastdct=True, fastupsample=True
        )
    except ImportError:
        pass
    try:
        import cv2  # type: ignore[import-not-found]

        cv2.setNumThreads(1)
        found["decoding alone"]["OpenCV"] = lambda i, data: cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR
        )
    except ImportError:
        pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "decode.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = sorted(path for path in options.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    images = [path.read_bytes() for path in files]
    rates: dict[str, dict[str, list[float]]] = {}
    for number in range(options.rounds):
        for what, each in ways().items():
            for name, way in each.items() if number % 2 == 0 else reversed(each.items()):
                start = time.perf_counter()
                for i, data in enumerate(images):
                    way(i, data)
                rate = len(images) / (time.perf_counter() - start)
                rates.setdefault(what, {}).setdefault(name, []).append(round(rate, 2))
    for what, each_rate in rates.items():
        peer = next(iter(each_rate.values()))
        for name, values in each_rate.items():
            ratio = statistics.median(a / b for a, b in zip(values, peer, strict=True))
            Console().print(f"{what}: {name} {statistics.median(values):.0f} images/s, {ratio:.2f} x", highlight=False)
    sizes = [Image.open(io.BytesIO(data)).size for data in images]
    runs.write_json(
        options.out,
        {
            "command": f"python benchmarks/decode.py --rounds {options.rounds}",
            "when": runs.now(),
            "machine": runs.describe() | {"threads": "1"},
            "images": len(images),
            "median_pixels": statistics.median(w * h for w, h in sizes),
            "images_per_second": rates,
        },
    )


if __name__ == "__main__":
    main()
