"""What ``reslab finetune`` says: of the images, of what it is going to do, and of the result."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reslab.evaluate.figures import ClassFigures, per_class
from reslab.report.words import plural
from reslab.train.device import Execution, describe, resolve_precision
from reslab.transfer.finetune import Prepared
from reslab.transfer.folds import Folded
from reslab.transfer.look import Look
from reslab.transfer.worth import Worth

MOST = 12
"""Classes that a table lists."""


def show_look(look: Look, console: Console) -> None:
    """The images in a few lines, and by name what is wrong with some."""
    counts = look.counts
    train, validation, test = (int(n) for n in counts.sum(0))
    images = plural(train, "image")
    if look.has_test:
        chosen_by = f", {validation:,} to validate on" if look.has_validation else ""
        images += f" to train on{chosen_by} and {test:,} to test on"
    sides = look.shorter
    modes = ", ".join(f"{mode} {n:,}" for mode, n in Counter(mode for mode in look.modes if mode).most_common())
    _say(console, f"{look.root}: {images} of {len(look.classes)} classes")
    _say(console, f"shorter side {sides.min()} to {sides.max()} pixels, median {int(np.median(sides))}; {modes}")
    _say(console, f"images by class: {_counted(look)}")
    for text in look.warnings():
        _say(console, f"warning: {text}")


def _counted(look: Look) -> str:
    each = look.counts.sum(1)
    order = np.argsort(-each, kind="stable")
    named = [f"{look.classes[i]} {each[i]:,}" for i in order]
    if len(named) > MOST:
        named = [*named[: MOST - 3], f"... ({len(named) - MOST + 1} more)", *named[-2:]]
    return ", ".join(named)


def show_plan(prepared: Prepared, out: Path, execution: Execution, console: Console) -> None:
    """What is going to be trained, on how many images, and where."""
    parts, recipe = prepared.division, prepared.recipe
    rule = recipe.transfer
    assert rule is not None
    held = " (a fifth of each class, held out)" if parts.held_out else ""
    _say(console, f"train {len(parts.train):,}, validation {len(parts.validation):,}, test {len(parts.test):,}{held}")
    for text in prepared.said:
        _say(console, f"weights: {text}")
    words = {
        "head": "the last layer only, fitted to convergence",
        "last": f"the last layer and the last {plural(rule.stages, 'stage')}",
        "all": "all layers",
        "gradual": "the last layer, then stage after stage",
    }
    length = f", {recipe.iterations:,} steps of {recipe.global_batch} images" if recipe.iterations else ""
    bn = ", BN's statistics frozen" if rule.freeze_bn and recipe.iterations else ""
    _say(console, f"{recipe.net.name} from {prepared.source}: {words[rule.trains]}{length}{bn}, into {out}")
    precision = resolve_precision(recipe.precision, execution.device)
    _say(console, describe(execution.device, precision, execution.fuses))


def show_result(worth: Worth, result: dict[str, Any], out: Path, page: Path, console: Console) -> None:
    """The accuracy with its interval, the classes that fare worst, and what to do next."""
    plain, calibrated = worth.figures()
    low, high = (100 - bound for bound in reversed(plain.top1_interval))
    console.print(
        f"[bold]{100 - plain.top1_error:.1f} %[/] of {plain.n_images:,} test images are classified correctly "
        f"(95 % interval {low:.1f} to {high:.1f} %)",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for title in ("class", "images", "correct", "95 % interval"):
        table.add_column(title, justify="left" if title == "class" else "right")
    classes = per_class(worth.test.logs, worth.test.labels, worth.classes, range(len(worth.classes)))
    for each in classes[:MOST]:
        table.add_row(*_row(each))
    console.print(table)
    if len(classes) > MOST:
        console.print(f"({len(classes) - MOST} more, all of them better, on the page)")
    if worth.temperature is None:
        console.print("too few validation images to tell how well its probabilities are calibrated", soft_wrap=True)
    else:
        console.print(
            f"probabilities: calibration error {plain.calibration_error:.1f} points, "
            f"{calibrated.calibration_error:.1f} at temperature {worth.temperature:.2f}, which predict uses",
            soft_wrap=True,
        )
    if result.get("at_chance") or result.get("test_at_chance"):
        console.print("warning: this is no better than always predicting the most frequent class", soft_wrap=True)
    console.print(f"page: {escape(str(page))}", soft_wrap=True)
    console.print(f"next: reslab predict {escape(str(out))} IMAGE", soft_wrap=True)


def show_folds(made: Folded, look: Look, console: Console) -> None:
    """Mean and spread over the folds, and the interval over all images."""
    low, high = made.interval
    console.print(
        f"[bold]{made.mean:.1f} %[/] correct on average over {len(made.accuracies)} folds, standard deviation "
        f"{made.spread:.1f} points; 95 % interval over all {made.images:,} images {low:.1f} to {high:.1f} %",
        soft_wrap=True,
    )
    rest = " and test it on the test split, which took no part" if look.has_test else ""
    console.print(f"next: repeat without --folds, to train one network on all of them{rest}", soft_wrap=True)


def _row(each: ClassFigures) -> tuple[str, str, str, str]:
    low, high = each.interval
    return escape(each.name), f"{each.n_images:,}", f"{each.accuracy:.1f} %", f"{low:.0f} to {high:.0f} %"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
