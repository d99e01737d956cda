"""Seconds to the first step on a folder of as many photographs as ImageNet has, the first time and the second.

    python benchmarks/start_large.py --data path/to/images [--images 1281167]

The folder is made of hard links to the images of a smaller one, in 1,000 classes, and removed again. The process is
watched from outside: the first line of its metrics is written right behind the first step.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from reslab import runs
from start import first_step

ROOT = Path(__file__).parents[1]
CLASSES = 1000


def made(root: Path, sources: list[Path], count: int) -> None:
    """``count`` training images and one validation image of each class, links to copies of a few."""
    copies = root / "copies"
    copies.mkdir()
    own = [Path(shutil.copy(path, copies / f"{i}.JPEG")) for i, path in enumerate(sources)]
    for label in range(CLASSES):
        name = f"n{label:08d}"
        for split, n in (("train", count // CLASSES + (label < count % CLASSES)), ("val", 1)):
            folder = root / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                os.link(own[(label + i) % len(own)], folder / f"{name}_{i}.JPEG")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--scratch", type=Path, help="where the folder is made; by default the system's own")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "start_large.json")
    options = parser.parse_args()
    sources = sorted(path for path in options.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:200]
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        root, cache = Path(scratch), Path(scratch) / "cache"
        shutil.copytree(Path.home() / ".cache" / "reslab" / "kernels", cache / "kernels")  # compiled before
        made(root, sources, options.images)
        words = ("modern_imagenet", "--net", "resnet18", "--data", str(root / "data"), "-b", "32")
        env = os.environ | {"RESLAB_CACHE": str(cache)}
        found = [round(first_step(*words, env=env), 2) for _ in range(4)]
        size = sum(path.stat().st_size for path in (cache / "listings").iterdir())
    print(f"first step after {found[0]:.1f} s, with the list of files kept {found[1:]} s")
    runs.write_json(
        options.out,
        {
            **runs.made(),
            "images": options.images,
            "first": found[0],
            "list_kept": found[1:],
            "list_bytes": size,
        },
    )


if __name__ == "__main__":
    main()
