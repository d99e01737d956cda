"""``reslab probe``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from reslab.commands.execution import start
from reslab.commands.options.probe import Options
from reslab.commands.probe_page import command_of, summary, write_figures, write_page
from reslab.commands.subject import Seen, checked, seen
from reslab.commands.targets import PICTURES, check_folder, check_target
from reslab.errors import InputError
from reslab.probes.figures import FIGURES, GROUPS
from reslab.probes.xray import Done, Plan, Subject, Task, measure, plan
from reslab.report import words
from reslab.runs.files import write_json

SUMMARY = "xray.json"
"""What was found, in words: of a page that is whole, in the folder of its figures."""

OTHER = (*PICTURES, ".json", ".htm", ".txt", ".csv")
"""Names of files, which no folder of figures has by intention."""

MOST_NETWORKS = 4
"""That a figure shows over each other."""


NO_READING = "its figures are drawn without an interpretation"


def run(options: Options) -> Path | None:
    """Measures the figures, prints what was found, and writes the page; returns its path."""
    checked(options.looking)
    if not 1 <= len(options.weights) <= MOST_NETWORKS:
        raise InputError(f"probe takes the weights of 1 to {MOST_NETWORKS} networks, got {len(options.weights)}")
    names = _figures(options)
    page, folder = _places(options.out)
    if page is not None and folder is not None and not (folder / SUMMARY).exists():  # else a page from before
        check_target("--out", page, force=options.force)
    if options.figures is not None:
        pictures = [f"{name}.{options.format}" for name in names]
        check_folder("--figures", options.figures, pictures, force=options.force)
    execution = start(options.device, options.threads)
    found = [seen(source, options.looking, execution) for source in options.weights]
    subjects = [
        Subject(
            label,
            one.net,
            one.sample(options.looking, execution.device, split=options.looking.split, count=options.looking.images),
            one.key(options.looking),
            one.data.info.name,
        )
        for label, one in zip(_labels(found), found, strict=True)
    ]
    console = Console(stderr=True, quiet=options.json)
    planned = plan(subjects, names, folder)
    if not planned.tasks:
        raise InputError(
            "none of the requested figures can be measured: "
            + "; ".join(dict.fromkeys(why for *_, why in planned.left_out))
        )
    _state(console, subjects, found, planned)
    done = _measure(planned, folder, console, command_of(options))
    if options.json:
        print(json.dumps(_record(done), indent=2))
    else:
        _print(done)
    if options.figures is not None:
        write_figures(options.figures, options.format, done)
        console.print(f"Figures: {options.figures}", highlight=False, markup=False, soft_wrap=True)
    if page is None or folder is None:
        return None
    write_page(page, done, subjects, found, options)
    write_json(folder / SUMMARY, summary(done, subjects, found, options))
    console.print(f"Page: {page}; figures as JSON in {folder}", highlight=False, markup=False, soft_wrap=True)
    return page


def _figures(options: Options) -> list[str]:
    """The names of the figures asked for, in the order of the page."""
    if not options.every and not options.groups:
        raise InputError(f"say what to look at: --all, or some of {', '.join('--' + group for group in GROUPS)}")
    return [name for name, figure in FIGURES.items() if options.every or figure.group in options.groups]


def _places(out: Path | None) -> tuple[Path | None, Path | None]:
    """The page and the folder of the figures' JSON, from ``xray.html`` or a folder's name."""
    if out is None:
        return None, None
    if out.suffix in OTHER:
        raise InputError(f"--out {out}: expected a page such as xray.html, or the name of a folder")
    page, folder = (out, out.with_suffix("")) if out.suffix == ".html" else (out / "xray.html", out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {out}: the figures go into the folder {folder}, but there is a file of that name")
    return page, folder


def _labels(found: Sequence[Seen]) -> list[str]:
    """The networks' names; where two are alike, with the file or folder that the weights come from."""
    names = [one.weights.spec.name for one in found]
    if len(set(names)) < len(names):
        names = [f"{one.weights.spec.name} ({Path(one.weights.origin).stem})" for one in found]
    if len(set(names)) < len(names):
        names = [f"{name} {number}" for number, name in enumerate(names, 1)]
    return names


def _state(console: Console, subjects: Sequence[Subject], found: Sequence[Seen], planned: Plan) -> None:
    """What will be done and what it costs, before it is done."""
    for subject, one in zip(subjects, found, strict=True):
        console.print(
            f"{subject.label}: {one.weights.origin}, {len(subject.sample):,} images of {one.data.info.name}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        for text in one.weights.said:
            console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
    for label, said in planned.at_chance.items():
        console.print(
            f"{label} is at chance level: {said}; {NO_READING}", style="yellow", highlight=False, soft_wrap=True
        )
    kept = sum(task.kept is not None for task in planned.tasks)
    there = f", {kept} there already" if kept else ""
    left: dict[str, float] = {}
    for task in planned.tasks:
        if task.kept is None:
            left[task.figure] = left.get(task.figure, 0.0) + task.seconds
    each = ", ".join(f"{name} {words.duration(seconds)}" for name, seconds in left.items())
    cost = f"about {words.duration(planned.seconds)}: {each}" if left else "nothing to measure"
    console.print(
        f"{words.plural(len(planned.tasks), 'figure')}{there}; {cost}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _measure(planned: Plan, folder: Path | None, console: Console, command: str) -> Done:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=None), TimeElapsedColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        rows: dict[int, Any] = {}
        ended: set[int] = set()

        def tell(task: Task, share: float) -> None:
            if id(task) not in rows:
                title = f"{FIGURES[task.figure].title}, {task.subject.label}"
                rows[id(task)] = bar.add_task(escape(title), total=1.0)
            bar.update(rows[id(task)], completed=share)
            if share == 1.0 and not console.is_terminal and task.kept is None and id(task) not in ended:
                ended.add(id(task))
                console.print(f"  {task.figure}, {task.subject.label}", highlight=False, markup=False, soft_wrap=True)

        try:
            return measure(planned, folder, tell=tell, command=command)
        except KeyboardInterrupt:
            if folder is None:
                raise
            raise KeyboardInterrupt("repeat the command to continue; finished figures are kept") from None


def _record(done: Done) -> dict[str, Any]:
    return {
        "figures": {
            name: {
                label: {"said": done.says(name, label, result), "result": result.to_dict()} for label, result in results
            }
            for name, results in done.results.items()
        },
        "at_chance": dict(done.at_chance),
        "left_out": [{"figure": name, "network": label, "why": why} for name, label, why in done.left_out],
        "seconds": round(done.seconds, 3),
    }


def _print(done: Done) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for name, results in done.results.items():
        for label, result in results:
            prefix = f"{label}: " if len(results) > 1 else ""
            said = done.says(name, label, result)
            table.add_row(name, f"[dim]{escape(prefix)}at chance[/]" if said is None else escape(prefix + said))
    for name, label, why in done.left_out:
        table.add_row(name, f"[dim]not measured for {escape(label)}: {escape(why)}[/]")
    Console().print(table)
