"""The head of a ResNet-18 at 224 pixels on 1,000 photographs: what fitting it costs beside one pass over the images.

    python benchmarks/head.py PHOTOGRAPHS --out results/transfer/head.json

PHOTOGRAPHS is any folder of JPEG files; five parts are cut from each, so that there are 1,000 of 200, in two classes.
The weights are drawn: what they are worth takes no other time. One pass is the network over the training images,
decoded from their files.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from reslab.nets.network import build
from reslab.runs import made, write_json
from reslab.train.device import Execution
from reslab.train.state import save
from reslab.transfer import worth
from reslab.transfer.embed import embedded
from reslab.transfer.finetune import fit, head_of, helpers, network, prepare
from reslab.transfer.recipe import Choice
from reslab.weights.load import header_of
from reslab.weights.preprocessing import Preprocessing

HOW = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=(224, 224), resize=256)


def cut(photographs: Path, folder: Path, count: int) -> None:
    """Four corners and the middle of each, of seven tenths of its sides."""
    found = [path for path in sorted(photographs.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    for number in range(count):
        path, part = found[number % len(found)], number // len(found)
        target = folder / ("one", "other")[number % 2] / f"{number:04d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            width, height = round(0.7 * image.width), round(0.7 * image.height)
            x, y = ((0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5))[part % 5]
            left, top = round(x * (image.width - width)), round(y * (image.height - height))
            image.convert("RGB").crop((left, top, left + width, top + height)).save(target, quality=90)


def main() -> None:
    """Measures, prints and writes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("photographs", type=Path)
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--images", type=int, default=1000)
    given = words.parse_args()
    execution = Execution(torch.device("cpu"))
    seconds: dict[str, float] = {}

    def timed(what: str, began: float) -> None:
        seconds[what] = round(time.perf_counter() - began, 2)
        print(what, seconds[what], flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        cut(given.photographs, place / "photos", given.images)
        net = build("resnet18")
        save(place / "w.safetensors", dict(net.state_dict()), header_of(net.spec, HOW, None))
        began = time.perf_counter()
        plan = prepare(
            place / "photos", str(place / "w.safetensors"), Choice(trains="head"), cache_dir=place / "cache",
            validation=0.0,
        )  # fmt: skip
        timed("look and plan", began)
        began = time.perf_counter()
        embedded(
            network(plan.weights, execution), plan.data.train, plan.preprocessing, precision="bf16",
            device=execution.device, weights="one pass", workers=helpers(execution, len(plan.division.train)),
            cache_dir=place / "other",
        )  # fmt: skip
        timed("one pass", began)
        began = time.perf_counter()
        head_of(plan, execution, cache_dir=place / "cache")
        timed("pass and head", began)
        began = time.perf_counter()
        head_of(plan, execution, cache_dir=place / "cache")
        timed("head again", began)
        began = time.perf_counter()
        fit(plan, place / "run", execution=execution, quiet=True, cache_dir=place / "cache")
        worth.measure(plan, place / "run", execution)
        timed("from embeddings to a tested run", began)
    ratio = round(seconds["pass and head"] / seconds["one pass"], 3)
    print("pass and head / one pass:", ratio)
    write_json(
        given.out,
        {
            "what": __doc__.splitlines()[0], "training_images": len(plan.division.train), "seconds": seconds,
            "ratio": ratio, "made": made(threads=torch.get_num_threads()),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
