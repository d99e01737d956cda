"""A dry run: checks everything that can be checked, times a few steps, and estimates the whole training."""

import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from reslab.data.sources import AnyDataset
from reslab.data.spec import Source
from reslab.evaluate.metrics import autocast, evaluating, logits_of
from reslab.runs import RunDir
from reslab.train.device import Execution
from reslab.train.feed import OnDisk
from reslab.train.loop import in_words
from reslab.train.recipe import Recipe
from reslab.train.schedule import side
from reslab.train.start import InitialWeights, begin, disk_of, prepared
from reslab.train.trainer import Trainer

WARM = 5
"""Steps that are not counted: buffers are made, kernels chosen, the first images waited for."""
SECONDS = 4.0
MOST = 50
"""Counted steps: as many as take so long, but no more than this."""
EVALUATED = 3
"""Batches of an evaluation that are timed, after a first one; for photographs, as many for each that decodes."""


@dataclass(frozen=True)
class Rehearsal:
    """Times in seconds, sizes in bytes; the times are estimates."""

    steps: int
    """that are left"""
    batch: int
    epochs: float
    measured_steps: int
    seconds_per_step: float
    """on average over the whole length, if the resolution changes on the way"""
    waiting: float
    """share of it spent waiting for data"""
    evaluations: int
    seconds_per_evaluation: float
    step_memory: int
    """predicted memory of a step (`reslab.train.memory`), which ``--memory-budget`` limits"""
    plan: str
    """what the memory budget requires, if there is one"""
    peak_memory: int
    """of this process, or on its GPU, data in memory included"""
    disk: int
    disk_free: int
    checked: tuple[str, ...]
    damaged: tuple[str, ...] = ()
    """photographs that could not be decoded on the way"""

    @property
    def seconds(self) -> float:
        """Estimated seconds of the rest of the training."""
        return self.steps * self.seconds_per_step + self.evaluations * self.seconds_per_evaluation

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"seconds": self.seconds}


def rehearse(
    recipe: Recipe,
    data: AnyDataset,
    out: Path,
    *,
    execution: Execution,
    source: Source | None = None,
    checkpoint_every: int | None = None,
    weights: InitialWeights | None = None,
    seconds: float = SECONDS,
) -> Rehearsal:
    """Does all that `train` does before its first step, then a few steps; writes nothing.

    ``seconds``: that the counted steps take, about.

    Raises what `train` raises before its first step, and where memory does not suffice for one.
    """
    with in_words(execution.world) as under_way:
        run = RunDir(out)
        trainer, env = begin(
            recipe, data, run, execution, source=source, weights=weights, checkpoint_every=checkpoint_every
        )
        under_way.append(trainer)
        checked = [f"{data.info.n_train:,} training and {data.info.n_test:,} test images of {data.info.name}"]
        if execution.world.leads:
            prepared(trainer, run, env, weights)
            checked.append(f"the folder {out} can hold this run")
            if weights is not None:
                checked.append(f"the weights {weights.source} fit")
        need, free = disk_of(trainer, run)
        done = _done(run)
        steps, per_step, waiting = _steps(trainer, seconds)
        seen = min(trainer.iteration * recipe.global_batch, trainer.feed.n)  # each once, before any comes again
        per_evaluation, tested = _evaluation(trainer)
        damage = trainer.gathered_damage()
        looked = []
        if isinstance(trainer.feed, OnDisk):
            of = {"train": (seen, trainer.feed.n, "training"), "test": (tested, data.info.n_test, "test")}
            looked = [
                f"{count:,} of {n:,} {kind} images checked, {len(damage[split]):,} damaged"
                for split, (count, n, kind) in of.items()
            ]
        every = recipe.evaluate_every
        evaluations = -(-recipe.iterations // every) - done // every
        return Rehearsal(
            steps=recipe.iterations - done,
            batch=recipe.global_batch,
            epochs=(recipe.iterations - done) * recipe.global_batch / trainer.feed.n,
            measured_steps=steps,
            seconds_per_step=per_step * _growth(recipe),
            waiting=waiting,
            evaluations=evaluations,
            seconds_per_evaluation=per_evaluation,
            step_memory=trainer.account().total,
            plan=trainer.plan.said() if trainer.plan else "",
            peak_memory=_peak(trainer.device),
            disk=need,
            disk_free=free,
            checked=(*checked, *looked),
            damaged=tuple(why for found in damage.values() for _, why in found),
        )


def _done(run: RunDir) -> int:
    """Iterations that an earlier process of this run has done."""
    names = [path.stem.rpartition("-")[2] for path in run.checkpoints.glob("iteration-*.safetensors")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def _steps(trainer: Trainer, seconds: float) -> tuple[int, float, float]:
    """How many steps were measured, seconds of each, and the share that was waiting for data."""
    length = trainer.recipe.iterations
    trainer.training_mode()
    # Batches that were ready before the first one was asked for say nothing of how quickly they are made.
    ready = trainer.feed.batches.ready if isinstance(trainer.feed, OnDisk) else 0
    warm = min(WARM + ready, max(1, length // 2))
    start = time.perf_counter()
    for _ in range(warm):
        trainer.step()
        trainer.look()
    quick = (time.perf_counter() - start) / warm
    # The first steps are the slowest, so that the guess is rather too few; all ranks have to take the same.
    count = max(1, min(MOST, length - warm, int(seconds / quick)))
    count = trainer.world.from_lead(count)
    if length == warm:
        return warm, quick, trainer.total.waiting
    trainer.recent = type(trainer.recent)()
    start = time.perf_counter()
    for _ in range(count):
        trainer.step()
    trainer.look()
    return count, (time.perf_counter() - start) / count, trainer.recent.waiting


def _growth(recipe: Recipe) -> float:
    """Mean number of pixels over the length, against those of the first step."""
    rule = recipe.resolution
    if rule is None:
        return 1.0
    points = [side(rule, i * recipe.iterations // 1000, recipe.iterations) ** 2 for i in range(1000)]
    return sum(points) / len(points) / points[0]


def _evaluation(trainer: Trainer) -> tuple[float, int]:
    """Seconds of an evaluation, from a few of its batches, and how many images all ranks saw of them."""
    images = trainer.test if trainer.validation is None else trainer.validation
    recipe, trainer_net = trainer.recipe, trainer.net
    seen, first, woken = 0, 0, 0.0
    most = EVALUATED * (1 + (trainer.feed.batches.workers if isinstance(trainer.feed, OnDisk) else 0))
    start = time.perf_counter()
    with torch.no_grad(), evaluating(trainer_net):
        for number, (x, labels) in enumerate(images):
            with autocast(trainer.device, recipe.precision):
                logits_of(trainer_net, x, recipe.test_time).sum().item()
            seen += len(labels)
            if number == 0:  # it wakes everything up, processes that decode included
                woken, first = time.perf_counter() - start, seen
            if number == most:
                break
    rest = (time.perf_counter() - start - woken) / (seen - first) if seen > first else 0.0
    every = sum(trainer.world.gathered(seen))
    return woken + rest * (len(images) - first), every


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
