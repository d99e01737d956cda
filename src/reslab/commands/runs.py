"""``reslab runs``: what lies in a folder of runs, read from their files alone."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reslab.commands.options.runs import Options
from reslab.errors import InputError
from reslab.report.words import plural
from reslab.runs import RunDir, read_json

NOT_RUNS = frozenset({"checkpoints", "tensorboard", "eval", "probes"})
"""Folders of a run; no other run lies in them."""


@dataclass(frozen=True)
class Entry:
    """A run, as it is listed."""

    path: str
    recipe: str
    net: str
    data: str
    seed: int
    iterations: int
    """that the recipe asks for"""
    done: int
    """of them, as far as was recorded"""
    finished: bool
    test_error: float | None
    """per cent; the last that was measured if the run is not finished"""
    date: str
    """of its end, or of the last that was recorded (ISO 8601)"""


def run(options: Options) -> None:
    """Prints the runs, the oldest first."""
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: expected a folder of runs, found none; name another: reslab runs FOLDER")
    found: list[Entry] = []
    passed_over: list[Path] = []
    for path in _runs(options.folder):
        try:
            found.append(_entry(RunDir(path)))
        except (InputError, OSError, KeyError, TypeError, ValueError):
            passed_over.append(path)
    found.sort(key=lambda entry: entry.date)
    if options.json:
        print(json.dumps([asdict(entry) for entry in found], indent=2))
    else:
        _print(found, options.folder)
    if passed_over:
        said = ", ".join(map(str, passed_over))
        Console(stderr=True).print(f"Cannot be read: {said}", highlight=False, markup=False, soft_wrap=True)


def _runs(folder: Path) -> Iterator[Path]:
    """Folders with a recipe, at any depth."""
    for here, below, files in os.walk(folder):
        if "recipe.json" in files:
            yield Path(here)
        below[:] = sorted(name for name in below if name not in NOT_RUNS and not name.startswith("."))


def _entry(found: RunDir) -> Entry:
    recipe: dict[str, Any] = read_json(found.recipe)
    metrics = found.read_metrics()
    result: dict[str, Any] = read_json(found.result) if found.finished else {}
    measured = [line["test_error"] for line in metrics if line.get("test_error") is not None]
    latest = max(path.stat().st_mtime for path in (found.recipe, found.metrics) if path.exists())
    return Entry(
        path=str(found.path),
        recipe=recipe["name"],
        net=recipe["net"]["name"],
        data=recipe["data"]["name"],
        seed=recipe["seed"],
        iterations=recipe["iterations"],
        done=recipe["iterations"] if result else metrics[-1]["iteration"] if metrics else 0,
        finished=bool(result),
        test_error=result.get("test_error", measured[-1] if measured else None),
        date=result.get("finished") or datetime.fromtimestamp(latest, UTC).isoformat(timespec="seconds"),
    )


def _print(found: list[Entry], folder: Path) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("network", overflow="fold")
    table.add_column("data", overflow="fold")
    table.add_column("seed", justify="right")
    table.add_column("done", justify="right")
    table.add_column("test error", justify="right", no_wrap=True)
    table.add_column("date", no_wrap=True)
    for entry in found:
        done = "finished" if entry.finished else f"{entry.done:,} of {entry.iterations:,}"
        error = "" if entry.test_error is None else f"{entry.test_error:.2f} %"
        where = Path(entry.path).relative_to(folder)
        name = str(where) if where.parts else entry.path
        table.add_row(name, f"{entry.net}\n{entry.recipe}", entry.data, str(entry.seed), done, error, entry.date[:10])
    console = Console(highlight=False)
    if found:
        console.print(table)
    console.print(f"{plural(len(found), 'run')} in {folder}", markup=False, soft_wrap=True)
