"""``reslab detect study``."""

import dataclasses
import json
import math
import statistics
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from reslab import runs
from reslab.commands.detect import lasting, recipe_of, show_look
from reslab.commands.execution import asked_to_stop, start
from reslab.commands.options.detect import Study, Train
from reslab.detect.annotations import Annotations, read
from reslab.detect.loop import tested_on
from reslab.detect.loop import train as trained
from reslab.detect.recipe import DetectRecipe
from reslab.errors import InputError
from reslab.runs import RunDir
from reslab.studies import he2015_detection as study
from reslab.train.device import Execution
from reslab.train.loop import Stopped
from reslab.train.progress import say
from reslab.train.trainer import NonFiniteLoss

SUMMARY = "study.json"
SHARED = ("kind", "short", "long", "anchors", "regions", "pooling", "trainval", "iterations", "batch", "lr",
          "precision")  # fmt: skip
"""Options of a training that all of the study have in common."""


def run(options: Study) -> None:
    """Trains each network from each seed, in pairs, and says what they come to."""
    nets, weights = _networks(options)
    if options.data is None:
        raise InputError("name the images: reslab detect study DATA")
    data = read(options.data)
    show_look(data)
    recipes = {
        (net, seed): _recipe(options, data, net, source, seed)
        for seed in range(options.seeds) for net, source in zip(nets, weights, strict=True)
    }  # fmt: skip
    recipe = recipes[nets[0], 0]
    split, pictures = tested_on(data, recipe)
    if all(picture.ignored().all() for picture in pictures):
        raise InputError(f"expected boxes in the {split} images of {data.root}, found none: nothing can be compared")
    execution = start(options.device, options.threads)
    out = options.out or Path("runs") / f"detect-study-{data.root.resolve().stem}"
    found: dict[str, dict[int, float]] = {net: {} for net in nets}
    failed: list[str] = []
    try:
        with asked_to_stop() as stop:
            for number, ((net, seed), each) in enumerate(recipes.items(), 1):  # seed by seed: a stop leaves pairs
                place = out / "runs" / f"{_folder(net)}-seed{seed}"
                say(f"{number}/{len(recipes)} {place.name}: {each.iterations:,} iterations")
                source = lasting(weights[nets.index(net)])
                result = _one(each, data, place, execution, source, stop)
                found[net][seed] = 100 * (result["voc07"]["map"] or 0.0)
                if result.get("failed"):
                    failed.append(f"{place.name}: {result['failed']}")
    except (KeyboardInterrupt, Stopped):
        raise KeyboardInterrupt("repeat the command to continue; finished runs are not run again") from None
    summary = _summary(nets, found, failed, recipe) | {"split": split, "pictures": len(pictures)}
    runs.write_json(out / SUMMARY, summary)
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        _show(summary, Console())
        print(f"study: {out / SUMMARY}")


def _networks(options: Study) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    nets = options.nets or study.PAIR
    if len(nets) < 2 or len(set(nets)) < len(nets):
        raise InputError(f"--nets takes two networks or more, each once, got {' '.join(nets)}")
    if options.weights and len(options.weights) != len(nets):
        raise InputError(f"--from takes weights for each of the {len(nets)} networks, got {len(options.weights)}")
    if options.seeds < 1:
        raise InputError(f"--seeds takes 1 or more, got {options.seeds}")
    return nets, options.weights or (None,) * len(nets)


def _recipe(options: Study, data: Annotations, net: str, weights: str | None, seed: int) -> DetectRecipe:
    shared = {name: getattr(options, name) for name in SHARED}
    return recipe_of(dataclasses.replace(Train(), net=net, weights=weights, seed=seed, **shared), data)


def _one(
    recipe: DetectRecipe, data: Annotations, place: Path, execution: Execution, weights: str | None, stop: Any
) -> dict[str, Any]:
    try:
        return trained(recipe, data, place, execution=execution, weights=weights, stop=stop)
    except NonFiniteLoss as error:  # which is a result: it is not tried again
        result = {"failed": str(error), "net": recipe.detector.net.name, "seed": recipe.seed, "voc07": {"map": 0.0}}
        runs.write_json(RunDir(place).result, result)
        return result


def _folder(net: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in net).strip("-")


def _summary(
    nets: tuple[str, ...], found: dict[str, dict[int, float]], failed: list[str], recipe: DetectRecipe
) -> dict[str, Any]:
    rows = [
        {
            "net": net, "published": study.published_map(net), "seeds": found[net],
            "mean": statistics.fmean(found[net].values()),
            "std": statistics.stdev(found[net].values()) if len(found[net]) > 1 else None,
        }
        for net in nets
    ]  # fmt: skip
    verdicts = [
        {
            "net": each.net, "against": each.first, "verdict": each.verdict, "words": each.words(), "n": each.gain.n,
            "gain": each.gain.mean, "bounds": [_finite(each.gain.low), _finite(each.gain.high)],
            "published": each.in_paper, "p_for": each.speaks_for, "p_against": each.against,
        }
        for each in study.compared(found, nets)
    ]  # fmt: skip
    return {
        "question": study.QUESTION, "paper": study.PAPER, "rule": study.RULE, "caveat": study.CAVEAT, "rows": rows,
        "verdicts": verdicts, "failed": failed,
        "recipe": recipe.model_dump(mode="json", exclude={"seed": True, "detector": {"net"}}), "env": runs.describe(),
        "finished": runs.now(),
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _show(summary: dict[str, Any], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for title in ("network", "mAP@0.5 %", "std", "seeds", "paper, VOC 07"):
        table.add_column(title, justify="left" if title == "network" else "right")
    for row in summary["rows"]:
        std, paper = ("" if row[key] is None else f"{row[key]:.1f}" for key in ("std", "published"))
        table.add_row(row["net"], f"{row['mean']:.1f}", std, str(len(row["seeds"])), paper)
    console.print(table)
    lines = [each["words"] for each in summary["verdicts"]] + [f"failed: {each}" for each in summary["failed"]]
    for line in (*lines, summary["rule"], summary["caveat"]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
