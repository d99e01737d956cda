"""The short table at the end of a study in the terminal: right in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reslab.report import words
from reslab.report.summary import Judgement, Row, Summary

_MARK: dict[Judgement, str] = {"held": "✓", "not held": "✗", "not decided": "?"}


def print_summary(summary: Summary | Mapping[str, Any], console: Console) -> None:
    """Print a row per network and the verdict, with the numbers that each part of it rests on."""
    summary = Summary.of(summary)
    console.print(_table(summary))
    if any(row.n > 1 for row in summary.rows):
        console.print(
            "±: standard deviation over n seeds; train error: over the last tenth of the iterations", style="dim"
        )
    if summary.verdict is None:
        return
    lines = Table.grid(padding=(0, 1))
    lines.add_column(no_wrap=True)
    lines.add_column()
    overall = summary.verdict.overall
    lines.add_row(Text(_mark(overall, console), f"bold {words.TONE[overall]}"), Text(words.headline(summary), "bold"))
    for part in summary.verdict.parts:
        style = f"bold {words.TONE[part.verdict]}"
        said = Text.assemble(part.question, " ", (part.verdict, style), (f"\n{part.numbers}", "dim"))
        lines.add_row(Text(_mark(part.verdict, console), style), said)
    console.print(lines)


def _mark(verdict: Judgement, console: Console) -> str:
    """A sign, in what the terminal's encoding can show."""
    if console.encoding.lower().startswith("utf"):
        return _MARK[verdict]
    return {"held": "+", "not held": "-", "not decided": "?"}[verdict]


def _cells(row: Row, summary: Summary, *, published: bool) -> list[str]:
    """In the order of the columns; a name, then numbers."""
    cells = [
        row.label,
        words.count(row.params),
        str(row.n),
        words.spread(row.train_error),
        words.spread(row.test_error),
    ]
    cells += [] if summary.threshold is None else [words.to_threshold(row)]
    return cells + ([words.percent(row.published)] if published else [])


def _table(summary: Summary) -> Table:
    table = Table(title=summary.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    published = any(row.published is not None for row in summary.rows)
    lines = [_cells(row, summary, published=published) for row in summary.rows]
    # A long name is folded; a number never is.
    table.add_column("network", overflow="fold", min_width=8)
    for place, heading in enumerate(("params", "n", "train error %", "test error %"), 1):
        table.add_column(heading, justify="right", min_width=max(len(cells[place]) for cells in lines))
    if summary.threshold is not None:
        table.add_column(f"iterations to {summary.threshold:g} % train", justify="right")
    if published:
        table.add_column("paper", justify="right")
    previous = None
    for row, cells in zip(summary.rows, lines, strict=True):
        if previous is not None and row.group != previous:
            table.add_section()
        previous = row.group
        table.add_row(*(Text(cell) for cell in cells))
    return table
