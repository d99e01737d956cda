"""What each part of a quick recipe is worth: the recipe with one thing changed at a time, on held-out images.

    python benchmarks/ablation.py fast_cifar --data path/to/cifar10 [--seeds 3] [--jobs 2] [--epochs 3]
    python benchmarks/ablation.py fast_cifar --data path/to/cifar10 --only "mirrored at random"   # at its own length

Trains on 45,000 images and reads the error on the 5,000 others; the test images decide nothing. A difference is
taken seed by seed. Runs that are there are not run again. The recipe is cut short in proportion by --epochs: the parts
of a recipe for six passes show their worth in three, at half the price.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from reslab import recipes, runs
from reslab.data.sources import load
from reslab.data.spec import DataInfo
from reslab.runs import RunDir
from reslab.studies.plan import of_no_study
from reslab.studies.runner import run_all
from reslab.studies.sequential import half_width
from reslab.train.device import Execution
from reslab.train.recipe import Recipe, override

ROOT = Path(__file__).parents[1]
HOLDOUT = 5000
BASE = "as it is"
SGD = '{"kind":"sgd","lr":1.0,"momentum":0.9,"momentum_form":"lr-outside","nesterov":true,"weight_decay":5e-4}'
"""Tried on one seed, with a ramp up first: logits as they are, rates 0.01 to 0.1 (33 % error at best), times 1/8, rates
0.1, 0.4 and 1 (13 %), times 1/64, rate 2 (14 %)."""
ROWS: dict[str, dict[str, tuple[str, ...]]] = {
    "fast_cifar": {
        "no shortcuts": ("net=cifar_fast(shortcut='none')",),
        "two convolutions in a branch": ("net=cifar_fast(convs=2)",),
        "a learned stem with BN": ('net.stem={"kind":"conv","width":24}',),
        "patches of 4x4": ("net=cifar_fast(stem='4x4')",),
        "ReLU": ("net.activation=relu",),
        "average pool at the end": ("net.pool=average",),
        "BN statistics slower (0.1)": ("net.norm.momentum=0.1",),
        "Muon without normalised filters": ("optimizer.normalize=false",),
        "a ramp up first": ("schedule.start=0.2", "schedule.peak=0.15"),
        "no label smoothing": ("label_smoothing=0",),
        "mirrored at random": ("data.augment.flip=true",),
        "not shifted": ("data.augment.pad=0",),
        "images of 24 pixels first": ('resolution={"start":24,"end":32,"ramp":[0.3,0.6],"step":8}',),
        "weights averaged (0.95, every 5)": ('average={"decay":0.95,"every":5}',),
        "SGD": ("net=cifar_fast(logit_scale=0.125)", f"optimizer={SGD}", "schedule.start=0.2", "schedule.peak=0.15"),
        "two convolutions in a branch, equal time": ("net=cifar_fast(convs=2)", "passes=0.75"),
    },
}
"""By recipe, what is changed: settings as of `reslab train --set`, ``net=NAME`` for another network, and
``passes=SHARE`` of the passes where a change makes each dearer."""


def plan(name: str, info: DataInfo, seeds: int, epochs: float | None, rows: Sequence[str]) -> dict[str, Recipe]:
    """The recipe of each run by its name: seed by seed, so that an early stop leaves whole rows."""
    entry = recipes.find(name)
    found = {}
    for seed in range(seeds):
        for number, (row, settings) in enumerate({BASE: (), **ROWS[name]}.items()):
            if row not in (BASE, *rows):
                continue
            net = next((text.removeprefix("net=") for text in settings if text.startswith("net=")), entry.net)
            share = next((float(text.removeprefix("passes=")) for text in settings if text.startswith("passes=")), 1.0)
            recipe = entry.make(net, info, seed=seed, holdout=HOLDOUT, **({} if epochs is None else {"epochs": epochs}))
            if share != 1.0:
                length = round(share * recipe.iterations)
                recipe = entry.make(net, info, seed=seed, holdout=HOLDOUT, iterations=length)
            others = [text for text in settings if not text.startswith(("net=", "passes="))]
            found[f"{number:02d}-{_plain(row)}-seed{seed}"] = override(recipe, others)
    return found


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text).strip("-")


def errors(folder: Path, planned: dict[str, Recipe]) -> dict[str, list[float]]:
    """Validation errors in per cent, seed by seed, by the name of the row."""
    found: dict[str, list[float]] = {}
    for name in planned:
        row = name.rpartition("-seed")[0]
        found.setdefault(row, []).append(runs.read_json(RunDir(folder / name).result)["validation_error"])
    return found


def compared(own: list[float], base: list[float]) -> dict[str, Any]:
    """Mean and spread, and the difference to the base over paired seeds with its 95 % t-interval."""
    apart = [a - b for a, b in zip(own, base, strict=True)]
    return {
        "validation_error": own,
        "mean": round(statistics.mean(own), 3),
        "std": round(statistics.stdev(own), 3) if len(apart) > 1 else None,
        "difference": round(statistics.fmean(apart), 3),
        "half_width": round(half_width(apart, 0.025), 3) if len(apart) > 1 else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=ROWS)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, help="instead of the recipe's")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="these rows, besides the recipe as it is")
    parser.add_argument("--runs", type=Path, help="folder of the runs; by default runs/ablation-RECIPE")
    parser.add_argument("--out", type=Path, help="by default results/ablation_RECIPE.json")
    options = parser.parse_args()
    changes = ROWS[options.recipe]
    if unknown := sorted(set(options.only or ()) - set(changes)):
        parser.error(f"--only {unknown[0]!r}: the rows are {', '.join(map(repr, changes))}")
    changes = {row: settings for row, settings in changes.items() if options.only is None or row in options.only}
    data = load(options.data)
    planned = plan(options.recipe, data.info, options.seeds, options.epochs, list(changes))
    folder = options.runs or ROOT / "runs" / f"ablation-{options.recipe}"
    console = Console()
    execution = Execution(torch.device("cpu"))
    run_all(of_no_study(planned), data, options.data, folder, execution=execution, jobs=options.jobs, console=console)
    found = errors(folder, planned)
    base = next(iter(found.values()))
    rows = {
        row: compared(own, base) | {"settings": list(settings)}
        for (row, settings), own in zip({BASE: (), **changes}.items(), found.values(), strict=True)
    }
    runs.write_json(
        options.out or ROOT / "results" / f"ablation_{options.recipe}.json",
        {
            **runs.made(threads=torch.get_num_threads()),
            "images": {"trained on": data.info.n_train - HOLDOUT, "validated on": HOLDOUT},
            "recipe": next(iter(planned.values())).model_dump(mode="json"),
            "rows": rows,
        },
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", "validation error %", "difference, 95 %"):
        table.add_column(heading, justify="left" if not heading else "right")
    for row, each in rows.items():
        spread = "" if each["std"] is None else f" ± {each['std']:.2f}"
        half = "" if each["half_width"] is None else f" ± {each['half_width']:.2f}"
        table.add_row(row, f"{each['mean']:.2f}{spread}", f"{each['difference']:+.2f}{half}")
    console.print(table)


if __name__ == "__main__":
    main()
