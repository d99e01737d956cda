"""All figures of one network or several: what they will cost, what is there already, and the measuring."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

import torch
from torch import nn

from reslab.errors import InputError, writing
from reslab.evaluate.figures import at_chance
from reslab.nets.network import Network
from reslab.nets.spec import SAME_SHAPE, Projection, Shortcut
from reslab.probes.chain import Passes, chain_of
from reslab.probes.figures import FIGURES
from reslab.probes.result import FORMAT, Result
from reslab.probes.seam import Sample, computing, opened
from reslab.report.words import plural
from reslab.runs.files import read_json, write_text
from reslab.runs.machine import describe, now
from reslab.train.device import is_out_of_memory

COLD, WARM = 2, 3
"""Passes before any is timed, and the fewest that are."""
WATCHED, MOST_PASSES = 0.3, 50
"""Seconds of passes to be timed, if so many do not take less."""
ASKED = 500
"""Images that tell whether a network does better than guessing."""


@dataclass(frozen=True)
class Subject:
    """A network to look into, and the images as it takes them."""

    label: str
    net: nn.Module
    sample: Sample
    key: dict[str, Any]
    """identifies its weights and images; results with the same key are not measured again"""
    data: str = "images"
    """its name, for people"""


@dataclass(frozen=True)
class Task:
    """One figure of one network."""

    figure: str
    subject: Subject
    seconds: float
    """about how long it takes; 0 where it is there already"""
    kept: "Kept | None" = None


@dataclass(frozen=True)
class Kept:
    """A result from an earlier run, and when and where it was measured."""

    result: Result
    when: str
    machine: str


@dataclass(frozen=True)
class Plan:
    """The figures to measure, and those that do not apply."""

    tasks: tuple[Task, ...]
    left_out: tuple[tuple[str, str, str], ...]
    """figure, label and reason"""
    at_chance: Mapping[str, str] = field(default_factory=dict)
    """of the networks that do no better than guessing, by label: how that shows"""

    @property
    def seconds(self) -> float:
        """About how long all of it takes."""
        return sum(task.seconds for task in self.tasks)


@dataclass(frozen=True)
class Done:
    """Results by figure, then by the network's label, and what could not be measured."""

    results: dict[str, list[tuple[str, Result]]]
    left_out: tuple[tuple[str, str, str], ...]
    seconds: float
    kept: tuple[Task, ...] = ()
    """what was there already"""
    at_chance: Mapping[str, str] = field(default_factory=dict)
    """as in the plan"""

    def says(self, figure: str, label: str, result: Result) -> str | None:
        """The result in a sentence; None if the network does no better than guessing."""
        return None if label in self.at_chance and FIGURES[figure].of_weights else FIGURES[figure].say(result)


def plan(subjects: Sequence[Subject], names: Iterable[str], folder: Path | None) -> Plan:
    """Which figures are to be measured, with a forecast from the time of warm forward passes.

    Args:
        subjects: the networks.
        names: of the figures.
        folder: where results are kept; None keeps none.
    """
    tasks: list[Task] = []
    left_out: list[tuple[str, str, str]] = []
    clocks = {subject.label: Clock.of(subject) for subject in subjects}
    for name in names:
        figure = FIGURES[name]
        for subject in subjects if figure.alone is None else subjects[:1]:
            if reason := figure.refused(subject.net):
                left_out.append((name, subject.label, reason))
                continue
            kept = _kept(name, subject, folder)
            seconds = (figure.alone or 0.0) + clocks[subject.label].seconds(
                figure.cost(subject.net), len(figure.sample(subject.sample))
            )
            tasks.append(Task(name, subject, 0.0 if kept else seconds, kept))
    guessing = {subject.label: said for subject in subjects if (said := chance(subject)) is not None}
    return Plan(tuple(tasks), tuple(left_out), guessing)


@torch.no_grad()
def chance(subject: Subject) -> str | None:
    """How it shows that a network does no better than guessing, on at most `ASKED` of its images; None if it does.

    A network without a head answers nothing, and so does not guess.
    """
    if isinstance(subject.net, Network) and not subject.net.has_head:
        return None
    sample = subject.sample.some(ASKED)
    with opened(subject.net, fused=True), computing(sample):
        hits = sum(int((subject.net(x).float().argmax(1) == labels).sum()) for x, labels in sample)
    most = int(sample.labels.unique(return_counts=True)[1].max())
    if not at_chance(hits, len(sample), most):
        return None
    return (
        f"its error is {100 * (1 - hits / len(sample)):.1f} % on {len(sample):,} images, no better than guessing "
        f"({100 * (1 - most / len(sample)):.1f} %)"
    )


@dataclass(frozen=True)
class Clock:
    """Seconds of a forward pass, for each image: what forecasts are made of."""

    fused: float
    single: float
    """module by module, without fused kernels, as most probes need it"""

    @classmethod
    def of(cls, subject: Subject) -> Self:
        """Measured on the first batch of the subject's images."""
        return cls(_seconds_per_image(subject, fused=True), _seconds_per_image(subject, fused=False))

    def seconds(self, cost: Passes, images: int) -> float:
        """How long a figure takes."""
        return images * (cost.fused * self.fused + cost.single * self.single)


@torch.no_grad()
def _seconds_per_image(subject: Subject, *, fused: bool) -> float:
    """The median of warm passes, three or more; the first ones build kernels and get memory."""
    x = subject.sample.x[: subject.sample.batch]
    spent: list[float] = []
    with opened(subject.net, fused=fused), computing(subject.sample):
        for _ in range(COLD):
            subject.net(x)
        while len(spent) < WARM or (sum(spent) < WATCHED and len(spent) < MOST_PASSES):
            began = time.perf_counter()
            subject.net(x)
            if x.device.type == "cuda":
                torch.cuda.synchronize(x.device)
            spent.append(time.perf_counter() - began)
    return median(spent) / len(x)


def measure(
    planned: Plan,
    folder: Path | None,
    *,
    tell: Callable[[Task, float], object] = lambda task, share: None,
    command: str = "",
) -> Done:
    """Measures what is not there yet; each result is kept as soon as there is one.

    Args:
        planned: what is to be done.
        folder: where results are kept; None keeps none.
        tell: told of each task how far it is, 0 to 1.
        command: that asked for it, for the record.
    """
    machine = describe() if folder is not None else {}
    results: dict[str, list[tuple[str, Result]]] = {}
    left_out = list(planned.left_out)
    began = time.perf_counter()
    for task in planned.tasks:
        label = task.subject.label
        tell(task, 0.0)
        if task.kept is not None:
            found = task.kept.result
        else:
            start = time.perf_counter()
            try:
                found = _measured(task, tell)
            except InputError as reason:
                left_out.append((task.figure, label, str(reason)))
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                why = f"out of memory with {task.subject.sample.batch} images at a time; give a smaller --batch-size"
                left_out.append((task.figure, label, why))
                continue
            if folder is not None:
                made = {"command": command, "when": now(), "machine": machine["cpu"]}
                said = f"at chance: {planned.at_chance[label]}" if label in planned.at_chance else None
                _keep(found, task, folder, time.perf_counter() - start, made, said)
        tell(task, 1.0)
        results.setdefault(task.figure, []).append((label, found))
    kept = tuple(task for task in planned.tasks if task.kept is not None)
    return Done(results, tuple(left_out), time.perf_counter() - began, kept, planned.at_chance)


def _measured(task: Task, tell: Callable[[Task, float], object]) -> Result:
    figure, subject = FIGURES[task.figure], task.subject
    found: Result = figure.measure(subject.net, figure.sample(subject.sample), lambda share: tell(task, share))
    return found


def _keep(found: Result, task: Task, folder: Path, seconds: float, made: dict[str, str], chance: str | None) -> None:
    figure = FIGURES[task.figure]
    count = len(figure.sample(task.subject.sample))
    value = {
        "figure": task.figure,
        "network": task.subject.label,
        "about": about(task.subject.net) | {"data": task.subject.data, "images": count},
        "made": made | {"of": f"{plural(count, 'image')} of {task.subject.data}"},
        "key": _key(task.subject),
        "seconds": round(seconds, 3),
        "said": chance if chance is not None and figure.of_weights else figure.say(found),
        "cite": figure.cite,
        "result": found.to_dict(),
    }
    with writing(folder):
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)  # on one line: maps would take thousands
        write_text(_file(folder, task.subject.label, task.figure), text + "\n")


def about(net: nn.Module) -> dict[str, Any]:
    """The facts about a network that claims depend on: residual or not, depth, order, widths.

    Of a chain of another library, such as VGG, that it is one; nothing of other networks.
    """
    if not isinstance(net, Network):
        try:
            return {"residual": False, "layers": len(chain_of(net).links)}
        except InputError:
            return {}
    blocks = net.spec.blocks
    strided = [_kind(block.shortcut) for block in blocks if block.stride > 1]
    return {
        "net": net.spec.name,
        "residual": net.spec.is_residual,
        "depth": net.spec.depth,
        "order": blocks[-1].order if blocks else "",
        "activation": net.spec.activation,
        "branch": blocks[-1].branch.kind if blocks else "",
        "layers": [[len(stage), stage[-1].width] for stage in net.spec.stages],
        "shortcut": strided[0] if strided else "",
        "same_shape": sorted({_kind(block.shortcut) for block in blocks if isinstance(block.shortcut, SAME_SHAPE)}),
    }


def _kind(shortcut: Shortcut) -> str:
    """The name of a kind of shortcut; projections with and without average pooling are different kinds."""
    return f"{shortcut.kind}, pooled" if isinstance(shortcut, Projection) and shortcut.pool else shortcut.kind


def _key(subject: Subject) -> dict[str, Any]:
    sample = subject.sample
    return {**subject.key, "images": len(sample), "precision": sample.precision, "format": FORMAT}


def _file(folder: Path, label: str, figure: str) -> Path:
    return folder / as_name(label) / f"{figure}.json"


def as_name(label: str) -> str:
    """A label as part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in label).strip("-.") or "network"


def _kept(name: str, subject: Subject, folder: Path | None) -> Kept | None:
    """A result of the same weights and images, from an earlier run."""
    if folder is None or not (path := _file(folder, subject.label, name)).is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict) or value.get("key") != _key(subject):
        return None
    made = value["made"]
    return Kept(FIGURES[name].kind.from_dict(value["result"]), made["when"], made["machine"])
