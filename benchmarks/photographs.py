"""ResNet-18 at 224 pixels on photographs from disk: as a folder, as WebDataset and as Parquet, some of them damaged.

    python benchmarks/photographs.py --data path/to/images [--steps 300] [--batch 32]

The images of a folder are repeated to 10,000 (as links, or written into shards), 2 % of the files are damaged on
purpose (cut short, or replaced by noise), and `reslab train modern_imagenet` trains on each form. Recorded are
images/s, the share of time that the training waited for data, and the images left out.
"""

import argparse
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reslab import runs

ROOT = Path(__file__).parents[1]
COUNT, DAMAGED = 10_000, 0.02
SHARD = 1000

Image = tuple[str, int, str, Path, bool]
"""Split, class, name, file, whether it is to be damaged."""


def plan(source: Path) -> tuple[list[str], list[Image]]:
    """What is written in each form: the classes, and the images of both splits."""
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    found = [
        (label, path)
        for label, folder in enumerate(folders)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".jpg", ".jpeg")
    ]
    draw = random.Random(2015)
    bad = set(draw.sample(range(COUNT), round(COUNT * DAMAGED)))
    images: list[Image] = []
    for i in range(COUNT):
        label, path = found[i % len(found)]
        images.append(("train", label, f"{i:05d}", path, i in bad))
    images += [("val", label, f"v{i:04d}", path, False) for i, (label, path) in enumerate(found)]
    return [folder.name for folder in folders], images


def damaged(data: bytes, number: int) -> bytes:
    """Half are cut short, half are no image at all."""
    return data[: len(data) // 3] if number % 2 else random.Random(number).randbytes(len(data))


def content(image: Image) -> bytes:
    _, _, name, path, broken = image
    data = path.read_bytes()
    return damaged(data, int(name)) if broken else data


def as_folder(root: Path, classes: list[str], images: list[Image]) -> None:
    for image in images:
        split, label, name, path, broken = image
        folder = root / split / classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{name}.JPEG"
        if broken:
            target.write_bytes(content(image))
        else:
            target.symlink_to(path.resolve())


def shards(images: list[Image]) -> Iterator[tuple[str, int, int, list[Image]]]:
    """Split, number of the shard and how many there are, and its images."""
    for split in ("train", "val"):
        own = [image for image in images if image[0] == split]
        random.Random(1).shuffle(own)
        for number, start in enumerate(range(0, len(own), SHARD)):
            yield split, number, -(-len(own) // SHARD), own[start : start + SHARD]


def as_webdataset(root: Path, classes: list[str], images: list[Image]) -> None:
    root.mkdir()
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    for split, number, _, own in shards(images):
        with tarfile.open(root / f"{split}-{number:04d}.tar", "w") as tar:
            for image in own:
                for kind, data in (("jpg", content(image)), ("cls", str(image[1]).encode())):
                    info = tarfile.TarInfo(f"{image[2]}.{kind}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def as_parquet(root: Path, classes: list[str], images: list[Image]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir()
    for split, number, count, own in shards(images):
        name = "train" if split == "train" else "validation"
        cells = [{"bytes": content(image), "path": f"{image[2]}.jpg"} for image in own]
        table = pa.table({"image": cells, "label": [image[1] for image in own]})
        pq.write_table(
            table, root / f"{name}-{number:05d}-of-{count:05d}.parquet", row_group_size=100, compression="none"
        )


FORMS: dict[str, Callable[[Path, list[str], list[Image]], None]] = {
    "folder": as_folder,
    "webdataset": as_webdataset,
    "parquet": as_parquet,
}


def trained(data: Path, out: Path, steps: int, batch: int, more: list[str]) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "reslab", "train", "modern_imagenet", "--net", "resnet18", "--data", str(data),
        "--out", str(out), "-b", str(batch), "--iterations", str(steps), "--damaged", "0.05", "--json",
        "--set", f"evaluate_every={steps}", "resolution=null", *more,
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"reslab train ended with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of images for each class")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "photographs.json")
    options = parser.parse_args()
    classes, images = plan(options.data)
    more = [] if options.workers is None else ["--workers", str(options.workers)]
    record: dict[str, Any] = {
        **runs.made(),
        "files": COUNT,
        "damaged_files": round(COUNT * DAMAGED),
        "images_trained_on": options.steps * options.batch,
        "forms": {},
    }
    kept = ("images_per_second", "waiting_for_data", "damaged_images", "seconds", "train_error", "n_test_images")
    with tempfile.TemporaryDirectory() as scratch:
        for form in options.forms:
            data = Path(scratch) / form
            FORMS[form](data, classes, images)
            result = trained(data, Path(scratch) / f"run-{form}", options.steps, options.batch, more)
            record["forms"][form] = {key: result[key] for key in kept}
            runs.write_json(options.out, record)
            print(
                f"{form}: {result['images_per_second']} images/s, {100 * result['waiting_for_data']:.1f} % waiting for "
                f"data, {result['damaged_images']} damaged images left out",
                flush=True,
            )


if __name__ == "__main__":
    main()
