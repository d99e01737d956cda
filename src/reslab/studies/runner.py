"""Carrying out the runs of a study: one after the other, or several at a time. Finished runs are not run again."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from reslab import runs
from reslab.data.sources import Dataset, load
from reslab.data.spec import Source
from reslab.errors import InputError
from reslab.nets.cost import cost_any
from reslab.processes import end_with_parent, leaving_interrupts_here
from reslab.runs import RunDir
from reslab.studies.measures import measure
from reslab.studies.plan import MARK, Planned
from reslab.studies.start import constructed
from reslab.train.device import Execution, resolve_precision
from reslab.train.loop import train
from reslab.train.recipe import Recipe
from reslab.train.start import InitialWeights, as_saved
from reslab.train.trainer import NonFiniteLoss

Result = dict[str, Any]
NOT_LINKED = (".lock", "tensorboard")


class Workers(Protocol):
    """Executes runs outside this process."""

    def submit(self, run: Planned) -> None:
        """Begins a run, or puts it in the queue."""

    def finished(self, seconds: float) -> Sequence[tuple[str, Result]]:
        """Those that have ended since the last call, by name, waiting so long for one; raises what a run raised."""

    def close(self, *, at_once: bool) -> None:
        """Lets go of the workers; ``at_once``: ends what they do."""


def run_all(
    planned: Sequence[Planned],
    data: Dataset,
    source: str,
    folder: Path,
    *,
    execution: Execution,
    measured: str | None = None,
    jobs: int = 1,
    workers: Workers | None = None,
    console: Console,
) -> None:
    """Trains every run in its own folder under ``folder``, and measures what the study measures of each.

    Args:
        planned: the runs; one that starts from another's result comes behind it.
        data: for runs in this process.
        source: where the processes of several jobs load the same data from.
        folder: where the runs lie.
        execution: device and mode.
        measured: name of what is measured of each.
        jobs: how many runs at a time; the CPU's threads are shared out among them.
        workers: other places to run at; None: processes beside this one, or this one alone.
        console: for progress.
    """
    checked(planned, folder, execution)
    waiting = [run for run in planned if not complete(run, folder, measured)]
    if len(waiting) < len(planned):
        console.print(f"{len(planned) - len(waiting)} of {len(planned)} runs are finished already")
    if not waiting:
        return
    if workers is None and jobs > 1:  # of a single run too: its rounding depends on its share of the threads
        workers = Processes(min(jobs, len(planned)), source, folder, execution, measured)
    if workers is not None:
        _gather(waiting, folder, workers, console, f"{len(planned)} runs, {jobs} at a time")
        return
    for number, run in enumerate(planned, 1):
        if run in waiting:
            title = f"{number}/{len(planned)} {run.name}"
            result = carry_out(run, data, source, folder, execution, measured, title=title)
            console.print(_line(title, result), soft_wrap=True)


def checked(planned: Sequence[Planned], folder: Path, execution: Execution) -> None:
    """Raises `InputError` if a folder holds another run: one by another version, or in another precision, is none
    of this study's."""
    for run in planned:
        there = RunDir(folder / run.name)
        there.check(as_saved(there, _resolved(run.recipe, execution)))


def _resolved(recipe: Recipe, execution: Execution) -> Recipe:
    return recipe.model_copy(update={"precision": resolve_precision(recipe.precision, execution.device)})


def complete(run: Planned, folder: Path, measured: str | None) -> bool:
    """Whether nothing is left to do for a run."""
    from reslab.studies.measures import FILE

    there = RunDir(folder / run.name)
    if not there.finished:
        return False
    if measured is None or runs.read_json(there.result).get("failed"):
        return True
    return (there.path / FILE).exists() and measured in runs.read_json(there.path / FILE)


def carry_out(
    run: Planned, data: Dataset, source: str, folder: Path, execution: Execution, measured: str | None, *,
    title: str | None = None, stop: Callable[[], bool] | None = None,
) -> Result:  # fmt: skip
    """One run from its start, or where it was, to its measurement; ``stop`` as `train` takes it."""
    weights = None
    if run.after is not None:
        made = constructed(folder / run.after, run.recipe.own_net, folder.parent / "starts" / run.name)
        weights = InitialWeights(str(made))
    out = RunDir(folder / run.name)
    try:
        result = train(
            run.recipe, data, out.path, execution=execution, source=Source(name=source), title=title, weights=weights,
            stop=stop, quiet=title is None,
        )  # fmt: skip
    except NonFiniteLoss as error:  # which is a result: some networks of the papers fail, and that is their finding
        return _failed(run.recipe, data, out, error)
    if measured is not None and not result.get("failed"):
        measure(measured, run.recipe, data, out, execution.device)
    return result


def _failed(recipe: Recipe, data: Dataset, run: RunDir, error: NonFiniteLoss) -> Result:
    """The result of a training that came to no end: from there on it guesses."""
    last = run.read_metrics()[-1:]
    guess = 100 * (1 - 1 / len(data.info.classes))
    if not last or last[0]["iteration"] < recipe.iterations:
        at = {"iteration": recipe.iterations, "train_error": guess, "train_loss": None, "test_error": guess}
        runs.append_line(run.metrics, at)
    found = {
        "failed": str(error), "net": recipe.net.name, "params": cost_any(recipe.net).params,
        "iterations": recipe.iterations, "train_error": guess, "test_error": guess, "best_test_error": guess,
        "seconds": 0.0, "images_per_second": 0.0, "finished": runs.now(),
    }  # fmt: skip
    runs.write_json(run.result, found)
    return found


def _line(title: str, result: Mapping[str, Any]) -> str:
    if result.get("failed"):
        return f"{title}: failed; {result['failed']}"
    return (
        f"{title}: training error {result['train_error']:.1f} %, test error {result['test_error']:.1f} %, "
        f"{result['seconds']:.0f} s"
    )


# --- runs of other studies ---------------------------------------------------------------------------------------


def adopt(
    planned: Sequence[Planned], folder: Path, fingerprint: str, execution: Execution, *, measured: str | None = None
) -> dict[str, Path]:
    """Takes over finished runs of the studies beside this one that trained the same recipe on the same data.

    Their files are linked, so that it costs no space, and either folder may be removed. A run whose weights are gone is
    left where it is if something is to be measured of it, or to start from it. Returns where each came from.
    """
    wanted = {run.name for run in planned if measured} | {run.after for run in planned if run.after}
    missing = {run.name: run for run in planned if run.after is None and not (folder / run.name).exists()}
    if not missing:
        return {}
    recipes = {name: _resolved(run.recipe, execution) for name, run in missing.items()}
    found: dict[str, Path] = {}
    for other, recipe in _others(folder, fingerprint):
        bare = not (other / "checkpoints" / "final.safetensors").exists()
        for name in [name for name, each in recipes.items() if each == recipe and not (bare and name in wanted)]:
            _link(other, folder / name)
            found[name] = other
            del recipes[name]
    return found


def _others(folder: Path, fingerprint: str) -> Iterator[tuple[Path, Recipe]]:
    """Finished runs of other studies, from random weights, on the data of a fingerprint."""
    studies = [mark.parent for mark in folder.parent.parent.glob(f"*/{MARK}") if mark.parent != folder.parent]
    for path in (path for study in sorted(studies) for path in sorted(study.glob("runs/*/result.json"))):
        if path.parent.name.startswith("."):
            continue  # being linked by another process
        run = RunDir(path.parent)
        try:
            env = runs.read_json(run.env)
            if env["data"]["fingerprint"] == fingerprint and env.get("weights") is None:
                yield path.parent, Recipe.model_validate(runs.read_json(run.recipe))
        except (InputError, ValidationError, KeyError):
            continue  # another version's, or damaged: none of ours


def _link(source: Path, target: Path) -> None:
    """A whole folder at once: a half-linked one would look like a run that was cut short."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(
        source, temporary, ignore=shutil.ignore_patterns(*NOT_LINKED, ".*.tmp"), copy_function=_link_or_copy
    )
    temporary.rename(target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


# --- several at a time -------------------------------------------------------------------------------------------


def done(folder: Path, planned: Sequence[Planned]) -> int:
    """Iterations that the runs have recorded so far."""
    return sum(lines[-1]["iteration"] for run in planned if (lines := RunDir(folder / run.name).read_metrics()))


def _gather(waiting: Sequence[Planned], folder: Path, workers: Workers, console: Console, title: str) -> None:
    """Hands out runs, those that start from another's result once it is there, until all are done."""
    total = sum(run.recipe.iterations for run in waiting)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    at_once = True
    try:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, completed=done(folder, waiting))
            left = {run.name: run for run in waiting}
            later = [run for run in waiting if run.after in left]
            for run in waiting:
                if run not in later:
                    workers.submit(run)
            while left:
                for name, result in workers.finished(1.0):
                    bar.console.print(_line(name, result), soft_wrap=True)
                    del left[name]
                    for run in [run for run in later if run.after == name]:
                        later.remove(run)
                        workers.submit(run)
                bar.update(task, completed=done(folder, waiting))
        at_once = False
    finally:
        workers.close(at_once=at_once)


def _obey(parent: int) -> None:
    """A process of `Processes` ends with its parent."""
    # A run can be killed at any moment; one that went on unseen would hold its folder's lock.
    end_with_parent(parent)


def _job(run: Planned, source: str, folder: Path, execution: Execution, measured: str | None, threads: int) -> Result:
    torch.set_num_threads(threads)
    return carry_out(run, load(source), source, folder, execution, measured)


class Processes:
    """Processes on this machine, which share its threads."""

    def __init__(self, count: int, source: str, folder: Path, execution: Execution, measured: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_obey, initargs=(os.getpid(),))
        self._rest = (source, folder, execution, measured, max(1, torch.get_num_threads() // count))
        self._running: dict[Future[Result], str] = {}

    def submit(self, run: Planned) -> None:
        """Puts a run in the queue."""
        with leaving_interrupts_here():  # a process is started for it, up to their number
            self._running[self._pool.submit(_job, run, *self._rest)] = run.name

    def finished(self, seconds: float) -> Sequence[tuple[str, Result]]:
        """Those that have ended."""
        over, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        try:
            return [(self._running.pop(future), future.result()) for future in over]
        except BrokenProcessPool:
            raise InputError(
                "a run's process was killed, perhaps for lack of memory; repeat the command with fewer --jobs"
            ) from None

    def close(self, *, at_once: bool) -> None:
        """Ends the processes; ``at_once``, in the midst of their runs, which can be gone on with."""
        if at_once:
            # Or leaving the pool would wait for its runs, hours perhaps. The pool is broken by it and gives up what
            # waits; it stumbles over futures that were cancelled before.
            for process in multiprocessing.active_children():
                process.terminate()
        self._pool.shutdown()
