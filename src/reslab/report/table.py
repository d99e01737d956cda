"""The short table at the end of a study in the terminal: right in 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def _cells(summary: Summary, heading: str) -> list[str]:
    """A column's cells, of which none may be cut."""
    of: dict[str, Callable[[Row], str]] = {
        "params": lambda row: words.count(row.params),
        "n": lambda row: str(row.n),
        "train error %": lambda row: words.spread(row.train_error),
        "test error %": lambda row: words.spread(row.test_error),
    }
    return [of[heading](row) for row in summary.rows]


def _table(summary: Summary) -> Table:
    table = Table(title=summary.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    published = any(row.published is not None for row in summary.rows)
    # A long name is folded; a number never is.
    table.add_column("network", overflow="fold", min_width=8)
    for heading in ("params", "n", "train error %", "test error %"):
        table.add_column(heading, justify="right", min_width=max(len(each) for each in _cells(summary, heading)))
    if summary.threshold is not None:
        table.add_column(f"iterations to {summary.threshold:g} % train", justify="right")
    if published:
        table.add_column("paper", justify="right")
    previous = None
    for row in summary.rows:
        if previous is not None and row.group != previous:
            table.add_section()
        previous = row.group
        cells = [row.label, words.count(row.params), str(row.n)]
        cells += [words.spread(row.train_error), words.spread(row.test_error)]
        if summary.threshold is not None:
            cells.append(words.to_threshold(row))
        if published:
            cells.append(words.percent(row.published))
        table.add_row(*(Text(cell) for cell in cells))
    return table
