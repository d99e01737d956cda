"""Fine-tuning on photographs at 224 pixels, end to end, by the command that a user types.

    python benchmarks/finetuning_photographs.py IMAGENET --also ODD --out results/transfer/photographs.json

IMAGENET is a folder with a folder for each WordNet id and few photographs in each. They are put together by broad
kind (`KINDS`): ranges of ids, chosen by what they mean before anything was trained. Weights of ImageNet would have seen
these classes; started from are the weights that come with Reslab, of CIFAR-10, at 64 pixels, and a ResNet-18 of random
weights at 224. Each accuracy stands beside the share of the largest class, which needs no network.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reslab.nets.network import build
from reslab.runs import made, write_json
from reslab.train.state import save
from reslab.weights.load import header_of
from reslab.weights.preprocessing import Preprocessing

KINDS = {
    "bird": (("n01514668", "n01622779"), ("n01795545", "n01860187")),
    "dog": (("n02085620", "n02113978"),),
    "other animal": (("n01440764", "n01498041"), ("n01629819", "n01784675"), ("n01871265", "n02077923"),
                     ("n02114367", "n02655020")),
    "thing": (("n02666196", "n04613696"),),
    "sign, food, plant, place": (("n06359193", "n15075141"),),
}  # fmt: skip
"""First and last WordNet id of what each kind takes, of the thousand classes of ILSVRC 2012."""
HOW = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=(224, 224), resize=256)
IMAGES = (".jpg", ".jpeg")


def kind_of(wordnet: str) -> str:
    """The kind that a WordNet id is of."""
    return next(name for name, ranges in KINDS.items() for first, last in ranges if first <= wordnet <= last)


def grouped(photographs: Path, folder: Path) -> None:
    """A folder for each kind, with copies of its photographs."""
    for path in sorted(photographs.rglob("*")):
        if path.suffix.lower() in IMAGES:
            target = folder / kind_of(path.parent.name) / f"{path.parent.name}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def finetuned(folder: Path, out: Path, *words: object) -> dict[str, object]:
    """What the command says of it, and what it took."""
    command = [sys.executable, "-m", "reslab", "finetune", folder, "--out", out, "--json", *words]
    began = time.perf_counter()
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(done.stdout)
    seconds = round(time.perf_counter() - began, 1)
    print(folder.name, *words, seconds, flush=True)
    said = {key: value for key, value in said.items() if key not in ("out", "page")}
    return {"words": [Path(str(word)).name for word in words], "seconds": seconds, "result": said}


def main() -> None:
    """Groups, fine-tunes, prints and writes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("photographs", type=Path)
    words.add_argument("--also", type=Path, action="append", default=[], help="another folder, at 64 pixels")
    words.add_argument("--out", type=Path, required=True)
    given = words.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        kinds, random = Path(scratch) / "kinds", Path(scratch) / "resnet18-random.safetensors"
        grouped(given.photographs, kinds)
        counts = {path.name: len(list(path.iterdir())) for path in sorted(kinds.iterdir())}
        net = build("resnet18", seed=0)
        save(random, dict(net.state_dict()), header_of(net.spec, HOW, None))
        ours = ("--from", "reslab:resnet20-cifar10", "--size", 64)
        found.append(finetuned(kinds, Path(scratch) / "folds", *ours, "--folds", 5))
        found.append(finetuned(kinds, Path(scratch) / "head", *ours, "--folds", 5, "--train", "head"))
        found.append(finetuned(kinds, Path(scratch) / "224", "--from", random))
        for number, folder in enumerate(given.also):
            found.append(finetuned(folder, Path(scratch) / f"also{number}", *ours))
    largest = 100 * max(counts.values()) / sum(counts.values())
    write_json(given.out, {"counts": counts, "largest_class_share": largest, "runs": found, "how": made()})


if __name__ == "__main__":
    main()
