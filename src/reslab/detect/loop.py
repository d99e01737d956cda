"""`train`: from a recipe and pictures to a run's folder, from which it goes on after a stop."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from reslab import runs
from reslab.detect.annotations.types import Annotations, Picture
from reslab.detect.average_precision import voc
from reslab.detect.find import find_in
from reslab.detect.networks import load_backbone
from reslab.detect.recipe import DetectRecipe
from reslab.detect.saved import FINAL, save_detector
from reslab.detect.trainer import Trainer, learnt_from
from reslab.detect.worth import worth
from reslab.errors import InputError
from reslab.runs import RunDir
from reslab.train import state as checkpoints
from reslab.train.device import Execution
from reslab.train.loop import Stopped
from reslab.train.progress import TrainingProgress
from reslab.train.start import as_saved
from reslab.weights.load import load

LOG_EVERY = 20
CHECKPOINT_SECONDS = 300.0


def fingerprint(data: Annotations) -> str:
    """16 hex digits of BLAKE2b over classes, names, sizes and boxes of all splits."""
    digest = hashlib.blake2b(repr(data.classes).encode(), digest_size=8)
    for split, pictures in data.splits.items():
        for each in pictures:
            digest.update(repr((split, each.name, each.height, each.width, each.boxes)).encode())
    return digest.hexdigest()


def train(
    recipe: DetectRecipe, data: Annotations, out: Path, *, execution: Execution, weights: str | None = None,
    checkpoint_every: int | None = None, stop: Callable[[], bool] | None = None, quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Trains a detector and tests it; goes on where a run of the same recipe was stopped.

    Args:
        recipe: what is trained.
        data: pictures with boxes; ``test`` is tested on, or ``val`` where there is none.
        out: the run's folder.
        execution: where it runs.
        weights: a classifier of the same network to start from, as `reslab.weights.load` takes it.
        checkpoint_every: iterations between checkpoints; by default every five minutes, and where it is evaluated.
        stop: asked after each step; once it says yes, a checkpoint is written and `Stopped` raised.
        quiet: no progress.

    Returns:
        The content of ``result.json``.

    Raises:
        Stopped: ``stop`` said so; the run can be gone on with.
        InputError: the data does not fit, ``out`` holds another run, a loss is not finite.
    """
    run = RunDir(out)
    pictures = learnt_from(data, recipe)
    tested = tested_on(data, recipe)
    if data.classes != recipe.detector.classes:
        raise InputError(f"the detector is of the classes {recipe.detector.classes}, the data of {data.classes}")
    plain = as_saved(run, recipe)
    run.check(plain)
    trainer = Trainer(recipe, pictures, execution)
    env = {
        **runs.describe(), "device": str(execution.device), "precision": trainer.precision, "weights": weights,
        "threads": torch.get_num_threads(), "checkpoint_every": checkpoint_every, "started": runs.now(),
        "data": {"path": str(data.root.resolve()), "layout": data.layout, "fingerprint": fingerprint(data)},
    }  # fmt: skip
    fresh = not run.exists
    if not fresh:
        _check_same(run, env)
    elif weights is not None:
        load_backbone(trainer.detector, load(weights).tensors)
    with run.lock():
        run.create(plain, env)
        if run.finished:
            return dict(runs.read_json(run.result))
        saved = checkpoints.newest_checkpoint(run.checkpoints)
        if saved is not None:
            trainer.restore(*saved)
        elif weights is not None and not fresh:  # of a fresh one they were read before anything was written
            load_backbone(trainer.detector, load(weights).tensors)
        run.clean()
        run.truncate_metrics(trainer.iteration)
        _fit(trainer, run, data, tested, checkpoint_every, stop, quiet)
        return _finish(trainer, run, tested)


def tested_on(data: Annotations, recipe: DetectRecipe) -> tuple[str, tuple[Picture, ...]]:
    """The split that a run is tested on, at its end, and its pictures."""
    for split in ("test", "val"):
        if data.splits.get(split) and not (split == "val" and recipe.learns == "trainval"):
            return split, data.splits[split]
    raise InputError(
        f"expected images to test on in {data.root}: a split 'test', or 'val' if it is not trained on; set some aside"
    )


def _check_same(run: RunDir, env: dict[str, Any]) -> None:
    """A run goes on with the pictures, weights and kind of arithmetic that it began with."""
    before = runs.read_json(run.env)
    for name, was, now in (
        ("pictures or boxes", before["data"]["fingerprint"], env["data"]["fingerprint"]),
        ("weights to start from", before["weights"], env["weights"]),
        ("precision", before["precision"], env["precision"]),
    ):
        if was != now:
            raise InputError(
                f"{run.path} was started with other {name} ({was}, now {now}); choose another --out folder"
            )


def _fit(
    trainer: Trainer, run: RunDir, data: Annotations, tested: tuple[str, tuple[Picture, ...]],
    checkpoint_every: int | None, stop: Callable[[], bool] | None, quiet: bool,
) -> None:  # fmt: skip
    recipe = trainer.recipe
    # Test pictures are read once, at the end; on the way those of `val` are, where they are neither learnt nor tested.
    watched = data.splits.get("val", ()) if recipe.learns == "train" and tested[0] != "val" else ()
    title = f"{recipe.detector.kind} on {recipe.detector.net.name}"
    saved_at, recent, since = time.monotonic(), time.monotonic(), 0
    with TrainingProgress(title, recipe.iterations, trainer.iteration, quiet=quiet) as progress:
        while trainer.iteration < recipe.iterations:
            loss = trainer.step()
            since += recipe.batch
            i = trainer.iteration
            last = i == recipe.iterations
            evaluate = i % recipe.evaluate_every == 0 or last
            if i % LOG_EVERY == 0 or evaluate:
                speed = since / (time.monotonic() - recent)
                line = trainer.recorded()
                progress.update(i, line["train_loss"], None, speed, 0.0)
                if evaluate and watched:
                    found = find_in(trainer.detector, watched, precision=trainer.precision)
                    line["val_map50"] = voc(watched, found, len(data.classes), "voc10", resamples=0).value
                runs.append_line(run.metrics, line)
                runs.append_line(run.speed, {"iteration": i, "images_per_second": speed})
                recent, since = time.monotonic(), 0
            else:
                progress.update(i, loss, None, since / max(time.monotonic() - recent, 1e-9), 0.0)
            leave = stop is not None and not last and stop()
            due = i % checkpoint_every == 0 if checkpoint_every else evaluate
            if due or last or leave or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                checkpoints.save_checkpoint(run.checkpoints, i, *trainer.state())
                saved_at = time.monotonic()
            if leave:
                raise Stopped(f"stopped at iteration {i} of {recipe.iterations}; --resume continues it")


def _finish(trainer: Trainer, run: RunDir, tested: tuple[str, tuple[Picture, ...]]) -> dict[str, Any]:
    recipe = trainer.recipe
    split, pictures = tested
    if recipe.scales:  # drawn from in training alone
        trainer.detector.model.transform.min_size = (recipe.detector.short,)
    found = find_in(trainer.detector, pictures, precision=trainer.precision)
    result = {
        "net": recipe.detector.net.name, "kind": recipe.detector.kind, "seed": recipe.seed,
        "iterations": recipe.iterations, "split": split, "precision": trainer.precision,
        "train_pictures": len(trainer.feed.pictures),
        **worth(pictures, found, recipe.detector.classes, kind=recipe.detector.kind),
    }  # fmt: skip
    save_detector(run.path / FINAL, trainer.detector, iteration=trainer.iteration)
    runs.write_json(run.result, result)
    return result
