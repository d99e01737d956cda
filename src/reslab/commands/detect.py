"""``reslab detect train``."""

import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reslab import runs
from reslab.commands.execution import asked_to_stop, start
from reslab.commands.options.detect import Train
from reslab.detect.annotations import Annotations, read
from reslab.detect.loop import tested_on
from reslab.detect.loop import train as trained
from reslab.detect.recipe import DetectRecipe
from reslab.detect.saved import FINAL
from reslab.detect.spec import LOCALISER, DetectorSpec
from reslab.detect.trainer import learnt_from
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any
from reslab.report.words import plural
from reslab.runs import RunDir
from reslab.train.loop import Stopped
from reslab.train.progress import say
from reslab.train.recipe import Sgd, what_is_wrong

NET, PASSES, LOOKS, REGIONS = "resnet50", 12, 10, 512
WITH_RESUME = ("resume", "device", "threads", "json", "checkpoint_every", "data")
"""Options that may be given beside ``--resume``."""
LOCALISATION = {
    "top1": "localisation error, top-1", "top5": "localisation error, top-5", "class": "classification error, top-1",
    "given_class": "localisation error, given the class",
}  # fmt: skip


def train(options: Train) -> None:
    """Looks, trains, tests, and prints what the detector is worth."""
    if options.resume is not None:
        options, recipe, data, weights = _as_before(options)
        out = options.resume or Path()
    else:
        if options.data is None:
            raise InputError(
                "name the folder of your images: reslab detect train FOLDER; or resume a run with --resume DIR"
            )
        data = read(options.data)
        show_look(data)
        if options.look:
            if options.json:
                print(json.dumps(looked(data), indent=2))
            return
        recipe, weights = recipe_of(options, data), lasting(options.weights)
        name = f"detect-{recipe.detector.net.name}-{data.root.resolve().stem}-seed{recipe.seed}"
        out = options.out or Path("runs") / name
    execution = start(options.device, options.threads)
    split, pictures = tested_on(data, recipe)
    say(
        f"{recipe.detector.kind} on {recipe.detector.net.name}: {recipe.iterations:,} iterations of {recipe.batch} "
        f"images, {len(learnt_from(data, recipe)):,} to train on, {len(pictures):,} ({split}) to test on, into {out}"
    )
    try:
        with asked_to_stop() as stop:
            result = trained(
                recipe, data, out, execution=execution, weights=weights, checkpoint_every=options.checkpoint_every,
                stop=stop,
            )  # fmt: skip
    except (KeyboardInterrupt, Stopped):
        go_on = f"continue with: reslab detect train --resume {shlex.quote(str(out))}"
        raise KeyboardInterrupt(go_on if RunDir(out).exists else "nothing was written") from None
    if options.json:
        print(json.dumps({"out": str(out), **result}, indent=2))
    else:
        show_worth(result)
        print(f"detector: {out / FINAL}")


def recipe_of(options: Train, data: Annotations) -> DetectRecipe:
    """The recipe that the options ask for. Raises `InputError` for what cannot be trained."""
    for name, number in (
        ("--batch-size", options.batch), ("--lr", options.lr), ("--iterations", options.iterations),
        ("--regions", options.regions), ("--evaluate-every", options.evaluate_every),
        ("--checkpoint-every", options.checkpoint_every),
    ):  # fmt: skip
        if number is not None and number <= 0:
            raise InputError(f"{name} takes a number above 0, got {number:g}")
    if options.norm == "group" and options.weights is not None:
        raise InputError("--norm group goes without --from: weights of a network with BN are nothing to GroupNorm")
    n = len(data.pictures("train")) + (len(data.splits.get("val", ())) if options.trainval else 0)
    iterations = options.iterations or max(1, round(PASSES * n / options.batch))
    try:
        detector = DetectorSpec(
            net=resolve_any(options.net or NET), classes=data.classes, kind=options.kind,
            norm=options.norm or ("batch" if options.weights is None else "frozen"), short=options.short,
            long=options.long, anchors=options.anchors, channels=options.channels,
            regions=options.regions or (LOCALISER if options.kind == "localise" else REGIONS),
            pooling=options.pooling, context=options.context, frozen_stages=options.frozen_stages,
        )  # fmt: skip
        return DetectRecipe(
            detector=detector, scales=options.scales, flip=not options.no_flip,
            learns="trainval" if options.trainval else "train", batch=options.batch, iterations=iterations,
            optimizer=Sgd(lr=options.lr, weight_decay=options.weight_decay),
            evaluate_every=options.evaluate_every or max(1, iterations // LOOKS), seed=options.seed,
            precision=options.precision,
        )  # fmt: skip
    except ValidationError as error:
        raise InputError(what_is_wrong(error)) from None


def lasting(weights: str | None) -> str | None:
    """Weights as they are found from another folder too."""
    local = weights is not None and Path(weights).expanduser().exists()
    return str(Path(weights or "").expanduser().resolve()) if local else weights


def _as_before(options: Train) -> tuple[Train, DetectRecipe, Annotations, str | None]:
    """Options, recipe, pictures and weights that the run in a folder was begun with; threads too, for the rounding."""
    assert options.resume is not None
    usual = Train()
    given = [
        f"--{each.name.replace('_', '-')}" for each in dataclasses.fields(options)
        if each.name not in WITH_RESUME and each.name != "_"
        and getattr(options, each.name) != getattr(usual, each.name)
    ]  # fmt: skip
    if given:
        raise InputError(f"--resume takes the recipe from the run's folder; leave out {', '.join(given)}")
    run = RunDir(options.resume)
    if not run.exists:
        raise InputError(f"--resume {options.resume}: expected a run (recipe.json in it), but there is none")
    try:
        recipe = DetectRecipe.model_validate(runs.read_json(run.recipe))
    except ValidationError as error:
        raise InputError(f"{run.recipe}: expected a recipe of a detector; {what_is_wrong(error)}") from None
    env = runs.read_json(run.env)
    options = dataclasses.replace(
        options,
        device=options.device or env["device"],
        threads=options.threads or env["threads"],
        checkpoint_every=options.checkpoint_every or env["checkpoint_every"],
    )
    return options, recipe, read(options.data or env["data"]["path"]), env["weights"]


def looked(data: Annotations) -> dict[str, Any]:
    """What the look found, as plain data."""
    splits = {split: {"pictures": len(found), "boxes": data.counts(split)} for split, found in data.splits.items()}
    problems = [{"kind": str(p.kind), "where": p.where, "detail": p.detail} for p in data.problems]
    return {"layout": data.layout, "classes": list(data.classes), "splits": splits, "problems": problems}


def show_look(data: Annotations) -> None:
    """What is there, and what is wrong with it and how it is treated, in lines on stderr."""
    for split, found in data.splits.items():
        boxes = ", ".join(f"{count:,} {name}" for name, count in data.counts(split).items())
        say(f"{split}: {plural(len(found), 'image')}; boxes: {boxes}")
    for line in data.said():
        say(f"  {line}")


def show_worth(result: dict[str, Any]) -> None:
    """Figures of a split, a line each."""
    for name, said in LOCALISATION.items() if "localisation" in result else ():
        found = result["localisation"][name]
        if found["error"] is not None:
            low, high = found["interval"]
            between = "" if low is None else f" (95 % interval over images: {100 * low:.1f} to {100 * high:.1f})"
            print(f"{said}: {100 * found['error']:.1f} %{between}")
    for name, said in (("voc07", "mAP@0.5, 11 points (VOC 07)"), ("voc10", "mAP@0.5, area (VOC 10+)"),
                       ("coco", "mAP@[.5:.95] (COCO)")):  # fmt: skip
        found = result[name]
        if found is None:
            print("COCO's figure needs faster-coco-eval: pip install 'reslab[detect]'", file=sys.stderr)
        elif found["map"] is None:
            print(f"{said}: these images have no boxes")
        else:
            low, high = found["interval"]
            between = "" if low is None else f" (95 % interval over images: {100 * low:.1f} to {100 * high:.1f})"
            classes = ", ".join(f"{c} {'-' if v is None else f'{100 * v:.1f}'}" for c, v in found["classes"].items())
            print(f"{said}: {100 * found['map']:.1f} %{between}; {classes}")
    errors = ", ".join(f"{number} {kind}" for kind, number in result["errors"].items())
    print(f"errors at scores of {result['errors_score']:g} or more, {result['boxes']} boxes: {errors}")
