"""``reslab finetune``."""

import dataclasses
import json
import shlex
from pathlib import Path

from rich.console import Console

from reslab import runs
from reslab.commands.execution import asked_to_stop, start
from reslab.commands.finetune_print import show_folds, show_look, show_plan, show_result
from reslab.commands.options.finetune import WEIGHTS, Options
from reslab.data.find import find
from reslab.data.layouts.found import Asked
from reslab.errors import InputError, writing
from reslab.runs import RunDir
from reslab.runs.rundir import FINETUNE
from reslab.train.device import Execution
from reslab.train.loop import Stopped
from reslab.transfer import page
from reslab.transfer.finetune import Prepared, fit, prepare
from reslab.transfer.folds import cross_validated
from reslab.transfer.look import look
from reslab.transfer.recipe import Choice
from reslab.transfer.worth import measure
from reslab.weights.load import load

AGAIN = ("weights", "train", "stages", "head", "freeze_bn", "stage_decay", "balanced", "augment", "mixup", "epochs",
         "lr", "batch", "early_stop", "validation", "seed", "precision", "size", "net", "which", "labels",
         "oriented")  # fmt: skip
"""Options that are kept with a run, and cannot be given beside ``--resume``."""


def run(options: Options) -> Path | None:
    """Looks, trains, tests, and writes the page; returns its path."""
    if options.resume is not None:
        options = _as_before(options)
    if options.folder is None:
        raise InputError("name the folder of your images: reslab finetune FOLDER; or resume a run with --resume DIR")
    _check(options)
    folder = Path(options.folder).expanduser()
    if not folder.exists():
        raise InputError(f"expected a folder of images at {folder}, but nothing is there")
    console = Console(stderr=True)
    execution = start(options.device, options.threads, workers=options.workers)
    if options.folds is not None:
        _folded(options, folder, execution, console)
        return None
    prepared = prepare(
        folder, options.weights or WEIGHTS, _choice(options), size=options.size, which=options.which,
        oriented=options.oriented, labels=options.labels, validation=options.validation, net=options.net,
        told=lambda found: show_look(found, console),
    )  # fmt: skip
    out = options.out or prepared.usual_out
    show_plan(prepared, out, execution, console)
    if options.look:
        if options.json:
            plan = {"look": prepared.looked.as_dict(), "recipe": prepared.recipe.model_dump(mode="json")}
            print(json.dumps(plan, indent=2))
        return None
    _keep(options, prepared, out)
    try:
        with asked_to_stop() as stop:
            fit(prepared, out, execution=execution, title=prepared.weights.spec.name, stop=stop)
    except (KeyboardInterrupt, Stopped):
        raise KeyboardInterrupt(f"continue with: reslab finetune --resume {shlex.quote(str(out))}") from None
    worth = measure(prepared, out, execution)
    result = runs.read_json(RunDir(out).result)
    path = page.write(prepared, worth, out, execution)
    if options.json:
        print(json.dumps({"out": str(out), "page": str(path), **result}, indent=2))
    else:
        show_result(worth, result, out, path, Console(highlight=False))
    return path


def _folded(options: Options, folder: Path, execution: Execution, console: Console) -> None:
    """Cross-validation in place of one training."""
    assert options.folds is not None
    if options.look:
        raise InputError("--look trains nothing, and --folds trains several times; give one of the two")
    oriented = options.oriented is not False
    found = find(folder, Asked(labels=options.labels, oriented=oriented))
    weights = load(options.weights or WEIGHTS, net=options.net, which=options.which)
    looked = look(found)
    show_look(looked, console)
    out = options.out or Path("runs") / f"finetune-{weights.spec.name}-{folder.resolve().name}-folds{options.folds}"
    try:
        with asked_to_stop() as stop:
            made = cross_validated(
                found, looked, weights, _choice(options), options.folds, out, source=options.weights or WEIGHTS,
                execution=execution, size=options.size, validation=options.validation, oriented=oriented, stop=stop,
                told=lambda fold, accuracy: console.print(f"fold {fold}: {accuracy:.1f} %", highlight=False),
            )  # fmt: skip
    except (KeyboardInterrupt, Stopped):
        raise KeyboardInterrupt("repeat the command to continue") from None
    if options.json:
        print(json.dumps({"out": str(out), **made.as_dict()}, indent=2))
    else:
        show_folds(made, looked, Console(highlight=False))


def _check(options: Options) -> None:
    for name, value, most in (("--validation", options.validation, 0.9), ("--stage-decay", options.stage_decay, 1.0)):
        if value is not None and not 0 <= value <= most:
            raise InputError(f"{name} takes a fraction, 0 to {most:g}, got {value:g}")
    for name, number in (("--epochs", options.epochs), ("--lr", options.lr), ("--size", options.size)):
        if number is not None and number <= 0:
            raise InputError(f"{name} takes a number above 0, got {number:g}")
    if options.folds is not None and options.resume is not None:
        raise InputError("--folds resumes when the command is repeated; leave out --resume")


def _choice(options: Options) -> Choice:
    return Choice(
        trains=options.train, stages=options.stages, head=options.head, freeze_bn=options.freeze_bn,
        decay=options.stage_decay, balanced=options.balanced, augment=options.augment, mixup=options.mixup,
        epochs=options.epochs, lr=options.lr, batch=options.batch, early_stop=options.early_stop,
        precision=options.precision, seed=options.seed,
    )  # fmt: skip


def _keep(options: Options, prepared: Prepared, out: Path) -> None:
    """Writes what was asked for into the run's folder, so that it can be gone on with by its folder alone."""
    run = RunDir(out)
    if run.exists:  # the training itself says whether it is the same
        return
    run.check(prepared.recipe.model_dump(mode="json"))
    asked = {name: getattr(options, name) for name in AGAIN}
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}
    local = options.weights is not None and Path(options.weights).expanduser().exists()
    weights = str(Path(options.weights or "").expanduser().resolve()) if local else options.weights
    with writing(f"--out {out}"):
        out.mkdir(parents=True, exist_ok=True)
        runs.write_json(out / FINETUNE, asked | {"folder": str(prepared.looked.root.resolve()), "weights": weights})


def _as_before(options: Options) -> Options:
    """The options that the run in a folder was begun with."""
    assert options.resume is not None
    usual = Options()
    given = ["FOLDER"] if options.folder is not None else []
    given += ["--out"] if options.out is not None else []
    given += [_word(name) for name in AGAIN if getattr(options, name) != getattr(usual, name)]
    if given:
        raise InputError(f"--resume takes what was asked for from the run's folder; leave out {', '.join(given)}")
    path = options.resume / FINETUNE
    if not path.exists():
        raise InputError(f"--resume {options.resume}: expected a fine-tuning ({FINETUNE} in it), but there is none")
    asked = runs.read_json(path)
    asked["labels"] = None if asked["labels"] is None else Path(asked["labels"])
    return dataclasses.replace(options, out=options.resume, **asked)


def _word(name: str) -> str:
    return {"weights": "--from", "batch": "--batch-size", "oriented": "--orient"}.get(
        name, "--" + name.replace("_", "-")
    )
