"""What to fine-tune, and how long, by the number of images: the defaults of `reslab finetune` are chosen from it.

A ResNet-20 that was trained on seven classes of CIFAR-10 (results/transfer/seven) is fine-tuned on the other three,
bird, cat and dog, with 20, 50, 200, 2,000 and all (5,000) images a class, a fifth of them for validation; each way
several times, by seeds that also draw the images; tested on all 3,000 test images. Beside it, training from scratch for
as many steps.

    python benchmarks/finetuning.py DATA --out results/transfer/grid.json

DATA is the folder that ``scripts/split_classes.py`` made of the three classes. Finished trainings are kept in the file
and not repeated.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reslab.data.find import find
from reslab.data.layouts.found import Asked
from reslab.data.stored import Some
from reslab.runs import made, write_json
from reslab.train.device import Execution
from reslab.train.loop import NonFiniteLoss, train
from reslab.transfer import finetune
from reslab.transfer.finetune import Prepared
from reslab.transfer.look import look
from reslab.transfer.recipe import Choice
from reslab.weights.load import load

WEIGHTS = Path(__file__).parents[1] / "results" / "transfer" / "seven" / "final.safetensors"
SIZES = (20, 50, 200, 2000, 5000)
USUAL: dict[str, Any] = {
    "trains": "all",
    "freeze_bn": False,
    "decay": 1.0,
    "augment": "standard",
    "lr": 0.01,
    "batch": 32,
}
"""What every row has but for what it names."""
STEPS = {20: 200, 50: 300, 200: 600, 2000: 1900, 5000: 3000}
WAYS: dict[str, dict[str, Any]] = {
    "head, linear": {"trains": "head", "head": "linear"},
    "head, BN + linear": {"trains": "head"},
    "last stage": {"trains": "last"},
    "last stage, BN frozen": {"trains": "last", "freeze_bn": True},
    "all": {},
    "all, BN frozen": {"freeze_bn": True},
    "all, BN frozen, rate 0.001": {"freeze_bn": True, "lr": 0.001},
    "all, from a drawn head": {"head": "drawn"},
    "all, rates halved by stage": {"decay": 0.5},
    "gradual": {"trains": "gradual"},
    "all, rate 0.003": {"lr": 0.003},
    "all, rate 0.03": {"lr": 0.03},
    "all, rate 0.1": {"lr": 0.1},
    "all, light augmentation": {"augment": "light"},
    "all, no augmentation": {"augment": "none"},
    "all, mixup 0.2": {"mixup": 0.2},
    "all, half as long": {"length": 0.5},
    "all, twice as long": {"length": 2.0},
    "all, last weights": {"select": "last"},
    "all, from a drawn head, last weights": {"head": "drawn", "select": "last"},
    "gradual, last weights": {"trains": "gradual", "select": "last"},
    "all, nothing held out": {"select": "last", "validation": 0.0},
    "all, from a drawn head, nothing held out": {"head": "drawn", "select": "last", "validation": 0.0},
    "gradual, nothing held out": {"trains": "gradual", "select": "last", "validation": 0.0},
    "head, linear, nothing held out": {"trains": "head", "head": "linear", "validation": 0.0},
    "scratch": {"scratch": True, "lr": 0.1},
}


def some(folder: Path, each: int, seed: int, cache: Path, choice: Choice, validation: float) -> Prepared:
    """A fine-tuning on so many training images of each class, drawn by the seed; a fifth of them for validation."""
    found = find(folder, Asked(oriented=True, cache_dir=cache))
    assert found.train is not None
    labels = found.train.labels.numpy()
    rng = np.random.default_rng(seed)
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:each] for label in range(len(found.classes))]
    )
    found = dataclasses.replace(found, train=Some(found.train, np.sort(chosen)))
    return finetune.prepare_found(
        found, look(found, cache_dir=cache), load(WEIGHTS), choice, source=str(WEIGHTS), validation=validation
    )


def trained(prepared: Prepared, steps: int, scratch: bool, select: str | None, out: Path) -> dict[str, Any]:
    """The result of a fine-tuning, or of a training of the same network from drawn weights."""
    execution = Execution(torch.device("cpu"))
    recipe = prepared.recipe
    if recipe.iterations:
        recipe = recipe.model_copy(
            update={"iterations": steps, "evaluate_every": steps // 20, "log_every": steps // 20}
        )
    if select:
        recipe = recipe.model_copy(update={"select": select})
    if scratch:
        return train(recipe.model_copy(update={"transfer": None}), prepared.data, out, execution=execution, quiet=True)
    return finetune.fit(dataclasses.replace(prepared, recipe=recipe), out, execution=execution, quiet=True)


def rows(sizes: list[int], ways: list[str], seeds: int) -> Iterator[tuple[int, str, int]]:
    """Each size, way and seed, all ways of a seed before the next."""
    for seed in range(seeds):
        for each in sizes:
            for way in ways:
                yield each, way, seed


def main() -> None:
    """Trains what is not in the file yet."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    words.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    words.add_argument("--seeds", type=int, default=3)
    given = words.parse_args()
    known = json.loads(given.out.read_text()) if given.out.exists() else {"rows": []}
    have = {(row["each"], row["way"], row["seed"]) for row in known["rows"]}
    with tempfile.TemporaryDirectory() as scratch:
        for each, way, seed in rows(given.sizes, given.ways, given.seeds):
            if (each, way, seed) in have:
                continue
            fields = USUAL | WAYS[way]
            length, fresh, select = fields.pop("length", 1.0), fields.pop("scratch", False), fields.pop("select", None)
            held = fields.pop("validation", 0.2)
            started = time.monotonic()
            prepared = some(given.data, each, seed, Path(scratch) / "cache", Choice(seed=seed, **fields), held)
            out = Path(scratch) / f"{each}-{way}-{seed}".replace(" ", "-")
            begun = time.monotonic()
            try:
                result = trained(prepared, round(STEPS[each] * length), fresh, select, out)
            except NonFiniteLoss as why:  # guessing
                result = {"test_error": 100 * (1 - 1 / 3), "iterations": prepared.recipe.iterations, "failed": str(why)}
            row = {
                "each": each, "way": way, "seed": seed, "test_error": result["test_error"],
                "validation_error": result.get("validation_error"), "test_loss": result.get("test_loss"),
                "failed": result.get("failed"),
                "selected_iteration": result.get("selected_iteration"), "iterations": result["iterations"],
                "seconds": round(time.monotonic() - begun, 1), "of_which_before": round(begun - started, 1),
            }  # fmt: skip
            known["rows"].append(row)
            known |= {"what": __doc__.splitlines()[0], "made": made()}
            write_json(given.out, known)
            print(f"{each:5} {way:28} seed {seed}: {row['test_error']:.2f} % in {row['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
