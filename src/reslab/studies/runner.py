"""Carries out the runs of a study, one after the other or several at a time. Finished runs are not run again."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from reslab.data.sources import Dataset, load
from reslab.data.spec import Source
from reslab.errors import InputError
from reslab.runs import RunDir
from reslab.train.device import Execution, resolve_precision
from reslab.train.loop import train
from reslab.train.recipe import Recipe
from reslab.train.start import as_saved


def run_all(
    recipes: Mapping[str, Recipe],
    data: Dataset,
    source: str,
    folder: Path,
    *,
    execution: Execution,
    jobs: int = 1,
    console: Console,
) -> None:
    """Trains every recipe in its own folder under ``folder``.

    Args:
        recipes: by the name of the run.
        data: for runs in this process.
        source: where the processes of several jobs load the same data from.
        folder: where the runs lie.
        execution: device and mode.
        jobs: how many runs at a time; the CPU's threads are shared out among them.
        console: for progress.
    """
    for name, recipe in recipes.items():
        # Of finished runs too: one made by another version, or in another precision, is no part of this study.
        precision = resolve_precision(recipe.precision, execution.device)
        run = RunDir(folder / name)
        run.check(as_saved(run, recipe.model_copy(update={"precision": precision})))
    waiting = {name: recipe for name, recipe in recipes.items() if not RunDir(folder / name).finished}
    if len(waiting) < len(recipes):
        console.print(f"{len(recipes) - len(waiting)} of {len(recipes)} runs are finished already")
    if jobs > 1 and waiting:  # a single one too: its rounding depends on its share of the threads
        _in_parallel(waiting, source, folder, execution, jobs, console)
        return
    for number, (name, recipe) in enumerate(recipes.items(), 1):
        if name in waiting:
            title = f"{number}/{len(recipes)} {name}"
            result = train(recipe, data, folder / name, execution=execution, source=Source(name=source), title=title)
            console.print(_line(title, result), soft_wrap=True)


def _line(title: str, result: Mapping[str, Any]) -> str:
    return (
        f"{title}: training error {result['train_error']:.1f} %, test error {result['test_error']:.1f} %, "
        f"{result['seconds']:.0f} s"
    )


def _obey_parent() -> None:
    """A process of `_in_parallel` ends with its parent, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)  # a run can be killed at any moment; one that went on unseen would hold its folder's lock

    threading.Thread(target=watch, daemon=True).start()


def _job(recipe: Recipe, source: str, out: Path, execution: Execution, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    return train(recipe, load(source), out, execution=execution, source=Source(name=source), quiet=True)


def _done(folder: Path, names: Mapping[str, Recipe]) -> int:
    """Iterations that the runs have recorded so far."""
    return sum(lines[-1]["iteration"] for name in names if (lines := RunDir(folder / name).read_metrics()))


def _in_parallel(
    recipes: Mapping[str, Recipe],
    source: str,
    folder: Path,
    execution: Execution,
    jobs: int,
    console: Console,
) -> None:
    threads = max(1, torch.get_num_threads() // jobs)
    total = sum(recipe.iterations for recipe in recipes.values())
    context = multiprocessing.get_context("spawn")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    workers = min(jobs, len(recipes))
    with (
        ProcessPoolExecutor(workers, mp_context=context, initializer=_obey_parent) as pool,
        Progress(*columns, console=console) as bar,
    ):
        task = bar.add_task(f"{len(recipes)} runs, {jobs} at a time", total=total, completed=_done(folder, recipes))
        started: dict[Future[dict[str, Any]], str] = {
            pool.submit(_job, recipe, source, folder / name, execution, threads): name
            for name, recipe in recipes.items()
        }
        pending = set(started)
        try:
            while pending:
                finished, pending = wait(pending, timeout=1.0, return_when=FIRST_EXCEPTION)
                for future in finished:
                    bar.console.print(_line(started[future], future.result()), soft_wrap=True)
                bar.update(task, completed=_done(folder, recipes))
                time.sleep(0.5)
        except BaseException as error:
            for future in pending:
                future.cancel()
            for process in multiprocessing.active_children():
                process.terminate()  # or leaving the pool would wait for its runs, hours perhaps
            if isinstance(error, BrokenProcessPool):
                raise InputError(
                    "a run's process was killed, by lack of memory perhaps; the same command goes on, with fewer --jobs"
                ) from None
            raise
