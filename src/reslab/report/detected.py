"""The page of a detector: its figures by each rule, its curves, its errors and its worst pictures, as one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reslab.report.finetuned import Dots, drawing
from reslab.report.page import asset, palette, template
from reslab.runs.files import write_text

_CSS = (
    ".pictures.drawn { grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); }"
    ".pictures.drawn img { aspect-ratio: auto; object-fit: contain; } .classes td.means { white-space: normal; }"
)


@dataclass(frozen=True)
class Row:
    """A figure in words."""

    rule: str
    value: str
    interval: str
    of_classes: tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """A picture twice, as data URIs: with the boxes that there are, and with those that were found."""

    name: str
    there: str
    found: str
    said: str


@dataclass(frozen=True)
class Detected:
    """All that the page shows."""

    title: str
    headline: str
    lede: str
    warnings: tuple[str, ...]
    classes: tuple[str, ...]
    figures: tuple[Row, ...]
    curves: tuple[Dots, ...]
    """recall and precision in per cent"""
    score: float
    errors: tuple[tuple[str, int, str], ...]
    """kind, how often, and what it means"""
    worst: tuple[Drawn, ...]
    command: str
    facts: Mapping[str, Mapping[str, Any]]
    version: str


def write(page: Detected, path: Path) -> None:
    """Writes the page, atomically."""
    # A name of a file need not be text: what is none of UTF-8 is shown by its number.
    write_text(path, render(page).encode("utf-8", "backslashreplace").decode("utf-8"))


def render(page: Detected) -> str:
    """The text of the page."""
    return template("detected.html").render(
        p=page,
        version=page.version,
        curves=Markup(drawing(page.curves, x="recall, %", y="precision, %", square=True)),
        css=Markup(asset("page.css") + asset("finetuned.css") + _CSS + palette()),
    )
