"""The page of a fine-tuning: what a classifier of one's own images is worth, as one file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reslab.report import confusion
from reslab.report.page import asset, data_uri, palette, template
from reslab.runs.files import write_text

SIDE = 320
"""Units of a drawing's side."""
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40
MATRIX = 24
"""Classes up to which a confusion matrix is shown; of more, the commonest confusions are."""


@dataclass(frozen=True)
class Picture:
    """A thumbnail with what was said of it."""

    uri: str
    heat: str | None
    """the same under the map of what the network looked at; None where there is none"""
    name: str
    truth: str
    said: str
    probability: float
    """of what was said, 0 to 1"""
    of_truth: float
    """of what is right, 0 to 1"""

    @property
    def right(self) -> bool:
        """Whether it was said what is right."""
        return self.truth == self.said


@dataclass(frozen=True)
class Kind:
    """A class. Shares and intervals (95 %, Wilson) in per cent; None where there are no images to tell."""

    name: str
    train: int
    test: int
    precision: float | None
    precision_interval: tuple[float, float] | None
    recall: float | None
    recall_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Dots:
    """A line of a drawing."""

    label: str
    color: int
    points: tuple[tuple[float, float], ...]
    bars: tuple[tuple[float, float, float], ...] = ()
    """x, low and high of intervals"""


@dataclass(frozen=True)
class Finetuned:
    """All that the page shows."""

    title: str
    accuracy: float
    """in per cent, of the test images"""
    interval: tuple[float, float]
    n_test: int
    lede: str
    warnings: tuple[str, ...]
    kinds: tuple[Kind, ...]
    confusion: Sequence[Sequence[int]]
    """images of each class (rows) taken for each (columns)"""
    calibration: str
    """in words"""
    reliability: tuple[Dots, ...]
    """confidence and accuracy, in per cent"""
    worst: tuple[Picture, ...]
    unsure: tuple[Picture, ...]
    curve: tuple[Dots, ...]
    """iterations and errors in per cent; none where nothing but the head was fitted"""
    chosen: str
    """how the weights were chosen"""
    augmented: tuple[tuple[str, tuple[str, ...]], ...]
    """training images, each with what augmentation makes of it, as data URIs"""
    commands: tuple[tuple[str, str], ...]
    """what for, and how"""
    facts: Mapping[str, Mapping[str, Any]]
    version: str


def write(page: Finetuned, path: Path) -> None:
    """Writes the page, atomically."""
    # A name of a file need not be text: what is none of UTF-8 is shown by its number.
    write_text(path, render(page).encode("utf-8", "backslashreplace").decode("utf-8"))


def render(page: Finetuned) -> str:
    """The text of the page."""
    most = max((kind.train + kind.test for kind in page.kinds), default=1)
    names = [kind.name for kind in page.kinds]
    return template("finetuned.html").render(
        p=page,
        version=page.version,
        most=max(most, 1),
        matrix=_matrix(page) if len(page.kinds) <= MATRIX else None,
        confused=_confused(page),
        reliability=Markup(drawing(page.reliability, x="confidence, %", y="correct, %", diagonal=True)),
        curve=Markup(drawing(page.curve, x="step", y="error, %")) if page.curve else None,
        matrix_uri=data_uri("text/csv", confusion.table(page.confusion, names, names)),
        css=Markup(asset("page.css") + asset("finetuned.css") + palette()),
    )


def _matrix(page: Finetuned) -> list[tuple[str, list[tuple[int, float]]]]:
    """Each class with the count of each column and its share of the row, 0 to 1."""
    return [
        (kind.name, [(count, count / max(1, sum(row))) for count in row])
        for kind, row in zip(page.kinds, page.confusion, strict=True)
    ]


def _confused(page: Finetuned, most: int = 8) -> list[tuple[str, str, int, int]]:
    """The commonest confusions: class, what it was taken for, how often, of how many."""
    found = [
        (page.kinds[i].name, page.kinds[j].name, count, sum(row))
        for i, row in enumerate(page.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda each: -each[2])[:most]


def drawing(lines: Sequence[Dots], *, x: str, y: str, diagonal: bool = False, square: bool = False) -> str:
    """Lines as SVG in the page's colours; ``square``: over shares, 0 to 100 on both axes, as with a ``diagonal``."""
    square = square or diagonal
    right = 100.0 if square else max((at for line in lines for at, _ in line.points), default=1.0) or 1.0
    top = 100.0 if square else max(5.0, *(value for line in lines for _, value in line.points), 5.0) * 1.05
    across, up = SIDE - LEFT - RIGHT, SIDE - TOP - BOTTOM

    def place(at: float, value: float) -> tuple[float, float]:
        return round(LEFT + at / right * across, 1), round(SIDE - BOTTOM - min(value, top) / top * up, 1)

    parts = []
    for tick in _ticks(top):
        _, h = place(0, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {h}H{SIDE - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{h + 4}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(right):
        w, _ = place(tick, 0)
        parts.append(f'<text class="tick" x="{w}" y="{SIDE - BOTTOM + 16}" text-anchor="middle">{tick:,g}</text>')
    if diagonal:
        (a, b), (c, d) = place(0, 0), place(100, 100)
        parts.append(f'<path class="ideal" d="M{a} {b}L{c} {d}"/>')
    for line in lines:
        for at, low, high in line.bars:
            (w, bottom), (_, above) = place(at, low), place(at, high)
            parts.append(f'<path class="bar c{line.color}" d="M{w} {bottom}V{above}"/>')
        path = "L".join(f"{w} {h}" for w, h in (place(*point) for point in line.points))
        parts.append(f'<path class="curve c{line.color}" d="M{path}"/>')
        if len(line.points) <= 20:
            for w, h in (place(*point) for point in line.points):
                parts.append(f'<circle class="dot c{line.color}" cx="{w}" cy="{h}" r="3.2"/>')
    parts.append(f'<text class="axis" x="{SIDE - RIGHT}" y="{SIDE - 6}" text-anchor="end">{x}</text>')
    middle = TOP + up / 2
    parts.append(f'<text class="axis" transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{y}</text>')
    return f'<svg viewBox="0 0 {SIDE} {SIDE}" aria-hidden="true">{"".join(parts)}</svg>'


def _ticks(most: float) -> list[float]:
    """Three to six round numbers from 0 to ``most``."""
    for step in (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 2500, 5000, 10_000, 50_000, 100_000):
        if most / step <= 5:
            return [step * i for i in range(int(most / step) + 1)]
    return [0, most]
