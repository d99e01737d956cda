"""A page of figures, each with how to read it and what a paper found beside: one file that loads nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reslab.report.page import asset, data_uri, palette, template
from reslab.runs.files import write_text


@dataclass(frozen=True)
class Panel:
    """One figure of the page."""

    name: str
    """part of its address on the page"""
    title: str
    svg: str
    """drawn with the page's colours as CSS variables"""
    read: tuple[str, ...]
    """how to read it"""
    found: tuple[tuple[str, str], ...]
    """network and result, in a sentence"""
    paper: str
    """what was found there"""
    cite: str
    rows: Mapping[str, list[dict[str, Any]]]
    """the figures as a table, by network"""


@dataclass(frozen=True)
class Sheet:
    """The whole page."""

    title: str
    lede: str
    panels: tuple[Panel, ...]
    left_out: tuple[tuple[str, str], ...]
    """what is not shown, and why"""
    facts: Mapping[str, Mapping[str, Any]]
    """by heading"""
    command: str
    version: str
    warnings: tuple[str, ...] = ()
    """what has to be known before anything is read"""


def write(sheet: Sheet, path: Path) -> None:
    """Writes the page, atomically."""
    write_text(path, render(sheet))


def render(sheet: Sheet) -> str:
    """The text of the page."""
    return template("sheet.html").render(
        s=sheet,
        version=sheet.version,
        drawn={panel.name: Markup(panel.svg) for panel in sheet.panels},
        tables={
            panel.name: [(network, data_uri("text/csv", table(rows).encode())) for network, rows in panel.rows.items()]
            for panel in sheet.panels
        },
        css=Markup(asset("page.css") + asset("sheet.css") + palette()),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
