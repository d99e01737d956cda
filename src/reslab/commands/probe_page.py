"""The page of ``reslab probe``: its figures drawn, described and put together."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reslab import __version__, runs
from reslab.commands.options.probe import Options
from reslab.commands.subject import Seen
from reslab.errors import writing
from reslab.probes import drawing
from reslab.probes.figures import FIGURES
from reslab.probes.result import Result
from reslab.probes.xray import Done, Subject
from reslab.report import sheet, words


def write_page(path: Path, done: Done, subjects: Sequence[Subject], found: Sequence[Seen], options: Options) -> None:
    """Draws what was found and writes the page."""
    names = ", ".join(subject.label for subject in subjects)
    panels = tuple(_panel(name, results, done) for name, results in done.results.items())
    page = sheet.Sheet(
        title=f"X-ray of {names}",
        lede=f"Inside the network, in {words.plural(len(panels), 'figure')}: how layers respond, what each block adds, "
        "what happens without it, and how gradients flow back.",
        warnings=tuple(
            f"{label} is at chance level: {said}. The figures of its weights say nothing about what it has learnt, and "
            "are shown without an interpretation."
            for label, said in done.at_chance.items()
        ),
        panels=panels,
        left_out=tuple((f"{FIGURES[name].title} ({label})", why) for name, label, why in done.left_out),
        facts=_facts(done, subjects, found, options),
        command=command_of(options),
        version=__version__,
    )
    with writing(f"--out {path}"):
        sheet.write(page, path)


def write_figures(folder: Path, format: str, done: Done) -> None:
    """Each figure as a file of its own, called as it is in ``--json``."""
    with writing(f"--figures {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, results in done.results.items():
            drawing.save(FIGURES[name].draw, results, folder / f"{name}.{format}")


def summary(done: Done, subjects: Sequence[Subject], found: Sequence[Seen], options: Options) -> dict[str, Any]:
    """What was found, in words, and how: the command, the networks, the machine and the time."""
    return {
        "command": command_of(options),
        "networks": _facts(done, subjects, found, options),
        "found": {
            name: {label: done.says(name, label, result) for label, result in results}
            for name, results in done.results.items()
        },
        "at_chance": dict(done.at_chance),
        "left_out": [{"figure": name, "network": label, "why": why} for name, label, why in done.left_out],
        "git_commit": runs.describe()["git_commit"],
    }


def command_of(options: Options) -> str:
    """The command line that makes the same page."""
    looking = options.looking
    given = ["reslab", "probe", *options.weights, "--data", looking.data]
    given += ["--all"] if options.every else [f"--{group}" for group in options.groups]
    given += ["--images", str(looking.images)]
    return shlex.join([*given, *looking.words(), *(["--out", str(options.out)] if options.out else [])])


def _panel(name: str, results: Sequence[tuple[str, Result]], done: Done) -> sheet.Panel:
    figure = FIGURES[name]
    return sheet.Panel(
        name=name,
        title=figure.title,
        svg=drawing.svg(figure.draw, results, salt=name),
        read=figure.read,
        found=tuple((label, said) for label, result in results if (said := done.says(name, label, result)) is not None),
        paper=figure.paper,
        cite=figure.cite,
        rows={label: result.rows() for label, result in results},
    )


def _facts(done: Done, subjects: Sequence[Subject], found: Sequence[Seen], options: Options) -> dict[str, Any]:
    facts: dict[str, dict[str, Any]] = {}
    for subject, one in zip(subjects, found, strict=True):
        facts[subject.label] = {
            "weights": one.weights.origin,
            "depth": getattr(one.weights.spec, "depth", None),
            "parameters": sum(p.numel() for p in subject.net.parameters()),
            "images": f"{len(subject.sample):,} of {one.data.info.name}, {options.looking.split} split",
            "outputs": one.said,
            "input": one.preprocessing.words(),
        }
    machine = {key: value for key, value in runs.describe().items() if key != "git_commit"}
    machine |= _kept(done)
    machine |= {"precision": options.looking.precision, "time": words.duration(done.seconds), "date": runs.now()}
    return {**facts, "Machine": machine}


def _kept(done: Done) -> dict[str, str]:
    """Which figures were there already, and when and on which machine they were measured."""
    found: dict[str, list[str]] = {}
    for task in done.kept:
        assert task.kept is not None
        found.setdefault(f"{words.moment(task.kept.when)} on {task.kept.machine}", []).append(task.figure)
    said = "; ".join(f"{', '.join(dict.fromkeys(names))}: {when}" for when, names in found.items())
    return {"measured before": said} if said else {}
