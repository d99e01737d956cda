"""`reslab finetune` beside fastai and PyTorch's tutorial, on the same images and weights, each in a process of its own.

Images and weights are those of ``benchmarks/finetuning.py``: a ResNet-20 of seven classes of CIFAR-10, fine-tuned on
bird, cat and dog. Each side gets the same folders of PNG files and is tested on the same 3,000 images.

- reslab: ``prepare`` and ``fit`` with the defaults.
- fastai, as its documentation has it: ``vision_learner(...).fine_tune(5)`` with ``aug_transforms``; and with as many
  passes over the images as ours has, at its own learning rate and at the one that its finder suggests (valley).
- tutorial: "Transfer Learning for Computer Vision" (pytorch.org) as people copy it: batch 4, SGD at 0.001, 25 passes,
  RandomResizedCrop and mirroring; the whole network, and the last layer alone.

    python benchmarks/finetuning_peers.py DATA --out results/transfer/peers.json

DATA is the folder that ``scripts/split_classes.py`` made of the three classes. fastai comes by ``pip install fastai``.
Finished rows are kept in the file and not repeated. ``cpu_seconds`` are of all threads and processes of a side.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reslab.data.find import find
from reslab.data.layouts.found import Asked
from reslab.data.stored import Stored
from reslab.runs import made, write_json
from reslab.train.device import Execution
from reslab.transfer import finetune
from reslab.transfer.recipe import BATCH, Choice, usual_steps
from reslab.weights.load import load

WEIGHTS = Path(__file__).parents[1] / "results" / "transfer" / "seven" / "final.safetensors"
SIDE = 32


def export(data: Path, each: int, seed: int, out: Path) -> None:
    """Folders train/ and test/ of PNG files; training images are drawn by the seed."""
    found = find(data, Asked())
    assert found.train is not None
    assert found.test is not None
    rng = np.random.default_rng(seed)
    parts: list[tuple[str, Stored, list[int]]] = [("test", found.test, list(range(len(found.test.labels))))]
    labels = found.train.labels.numpy()
    drawn = [rng.permutation(np.flatnonzero(labels == k))[:each] for k in range(len(found.classes))]
    parts.append(("train", found.train, np.sort(np.concatenate(drawn)).tolist()))
    for name, images, chosen in parts:
        for i in chosen:
            folder = out / name / found.classes[int(images.labels[i])]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i:05d}.png").write_bytes(images.read(i))


def network(classes: int) -> nn.Module:
    """The pretrained network with a new last layer."""
    weights = load(WEIGHTS)
    net = weights.network()
    net.fc = nn.Linear(net.fc.in_features, classes)
    return net


def reslab(folder: Path, seed: int, **choice: Any) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        prepared = finetune.prepare(
            folder, str(WEIGHTS), Choice(seed=seed, **choice), cache_dir=Path(scratch) / "cache"
        )
        result = finetune.fit(prepared, Path(scratch) / "run", execution=Execution(torch.device("cpu")), quiet=True)
    return float(result["test_error"])


def fastai(folder: Path, seed: int, epochs: int | None = None, find_rate: bool = False) -> float:
    from fastai.vision.all import (
        ImageDataLoaders,
        Normalize,
        aug_transforms,
        default_split,
        error_rate,
        get_image_files,
        model_meta,
        set_seed,
        vision_learner,
    )

    set_seed(seed, reproducible=True)
    how = load(WEIGHTS).preprocessing
    assert how is not None
    plain = how.of_any_size()
    n = sum(1 for _ in (folder / "train").rglob("*.png"))
    for of_class in (
        folder / "train"
    ).iterdir():  # it looks at images after each pass: at few, so that it costs nothing
        (folder / "valid" / of_class.name).mkdir(parents=True)
        first = sorted(of_class.iterdir())[0]
        (folder / "valid" / of_class.name / first.name).write_bytes(first.read_bytes())
    data = ImageDataLoaders.from_folder(
        folder, train="train", valid="valid", bs=min(64, n), num_workers=0,
        batch_tfms=[*aug_transforms(size=SIDE, min_scale=0.75), Normalize.from_stats(plain.mean, plain.std)],
    )  # fmt: skip

    def seven(pretrained: bool = True) -> nn.Module:
        return network(3)

    # What fastai knows of torchvision's networks: where the body ends, and which half is trained more slowly.
    cut = [name for name, _ in network(3).named_children()].index("avgpool")
    model_meta[seven] = {"cut": cut, "split": default_split}
    learner = vision_learner(data, seven, metrics=error_rate, normalize=False)
    with learner.no_bar(), learner.no_logging():
        rate = {"base_lr": learner.lr_find(show_plot=False).valley} if find_rate else {}
        learner.fine_tune(epochs or 5, **rate)
    test = data.test_dl(get_image_files(folder / "test"), with_labels=True)
    shutil.rmtree(folder / "valid")  # or Reslab, after it, would choose by it
    return 100 * float(learner.validate(dl=test)[1])


def tutorial(folder: Path, seed: int, head: bool = False) -> float:
    from torchvision import datasets, transforms

    torch.manual_seed(seed)
    how = load(WEIGHTS).preprocessing
    assert how is not None
    plain = how.of_any_size()
    normalize = transforms.Normalize(plain.mean, plain.std)
    seen = [transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
    train = datasets.ImageFolder(str(folder / "train"), transforms.Compose(seen))
    test = datasets.ImageFolder(str(folder / "test"), transforms.Compose([transforms.ToTensor(), normalize]))
    net = network(3)
    if head:
        for name, parameter in net.named_parameters():
            parameter.requires_grad = name.startswith("fc")
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    for _ in range(25):
        net.train()
        for images, labels in torch.utils.data.DataLoader(train, batch_size=4, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        wrong = sum(
            int((net(images).argmax(1) != labels).sum())
            for images, labels in torch.utils.data.DataLoader(test, batch_size=100)
        )
    return 100 * wrong / len(test)


def passes(each: int) -> int:
    """Passes over the images that our defaults come to."""
    n = 3 * each
    return max(1, round(usual_steps(n) * BATCH / n))


SIDES: dict[str, Callable[[Path, int, int], float]] = {
    "reslab": lambda folder, seed, each: reslab(folder, seed),
    "reslab, head alone": lambda folder, seed, each: reslab(folder, seed, trains="head"),
    "fastai, fine_tune(5)": lambda folder, seed, each: fastai(folder, seed),
    "fastai, as many passes": lambda folder, seed, each: fastai(folder, seed, passes(each)),
    "fastai, as many passes, rate found": lambda folder, seed, each: fastai(folder, seed, passes(each), True),
    "tutorial": lambda folder, seed, each: tutorial(folder, seed),
    "tutorial, head alone": lambda folder, seed, each: tutorial(folder, seed, head=True),
}


def main() -> None:
    """Runs what is not in the file yet."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("--out", type=Path)
    words.add_argument("--sizes", type=int, nargs="+", default=[20, 50, 200])
    words.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    given = words.parse_args()
    if given.alone:
        side, seed, each = given.alone
        started = time.monotonic()
        error = SIDES[side](given.data, int(seed), int(each))
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(one.ru_utime + one.ru_stime for one in used)
        print(json.dumps({"test_error": error, "seconds": time.monotonic() - started, "cpu_seconds": cpu}))
        return
    known = json.loads(given.out.read_text()) if given.out.exists() else {"rows": []}
    have = {(row["each"], row["side"], row["seed"]) for row in known["rows"]}
    for seed in range(given.seeds):
        for each in given.sizes:
            with tempfile.TemporaryDirectory() as scratch:
                export(given.data, each, seed, Path(scratch) / "images")
                for side in given.sides:
                    if (each, side, seed) in have:
                        continue
                    command = [sys.executable, __file__, str(Path(scratch) / "images"), "--alone", side, str(seed)]
                    done = subprocess.run([*command, str(each)], capture_output=True, text=True, check=False)
                    if done.returncode:
                        sys.exit(f"{side}: {done.stderr[-2000:]}")
                    row = {"each": each, "side": side, "seed": seed, **json.loads(done.stdout.splitlines()[-1])}
                    known["rows"].append(row)
                    known |= {"what": __doc__.splitlines()[0], "made": made()}
                    write_json(given.out, known)
                    print(
                        f"{each:5} {side:24} seed {seed}: {row['test_error']:.2f} % in {row['seconds']:.1f} s",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
