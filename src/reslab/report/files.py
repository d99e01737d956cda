"""A study's results as files: JSON, two CSVs, the page and the figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reslab.report.summary import Spread, Summary
from reslab.runs.files import write_text

SUMMARY = "summary.json"
"""The file that a study's results can be read from."""
NAMES = (SUMMARY, "summary.csv", "runs.csv", "figure.svg", "report.html")
"""Files of a report, the page last."""


def write(summary: Summary | Mapping[str, Any], out_dir: Path) -> tuple[Path, ...]:
    """Write `summary.json`, `summary.csv`, `runs.csv`, `figure.svg` and `report.html`, each atomically.

    Returns:
        The paths written, the page last.
    """
    # Imported here, so that whoever needs only the CSV text does not load matplotlib and jinja2.
    from reslab.report import figure, html

    summary = Summary.of(summary)
    write_text(out_dir / SUMMARY, summary.to_json())
    write_text(out_dir / "summary.csv", rows_csv(summary))
    write_text(out_dir / "runs.csv", runs_csv(summary))
    figure.save(summary, out_dir / "figure.svg")
    html.write(summary, out_dir / "report.html")
    return tuple(out_dir / name for name in NAMES)


def rows_csv(summary: Summary) -> str:
    """One line per network; errors in per cent; a spread is mean, std and values joined by blanks."""
    spreads = ("train_error", "test_error", "best_test_error", "iterations_to_threshold")
    head = ["label", "group", "net", "kind", "depth", "n", "params"]
    for name in spreads:
        head += [f"{name}_mean", f"{name}_std", f"{name}_values"]
    head += ["reached", "published"]
    lines: list[list[object]] = []
    for row in summary.rows:
        line: list[object] = [row.label, row.group, row.net, row.kind, row.depth, row.n, row.params]
        for name in spreads:
            line += _cells(getattr(row, name))
        lines.append([*line, row.reached, row.published])
    return _csv(head, lines)


def runs_csv(summary: Summary) -> str:
    """One line per run, without its curve; errors in per cent."""
    head = ["name", "label", "group", "net", "kind", "depth", "seed", "iterations", "params"]
    head += ["final_train_error", "final_test_error", "best_test_error", "iterations_to_threshold"]
    measured = list(dict.fromkeys(name for run in summary.runs for name in run.measures))
    lines = [[*(getattr(run, name) for name in head), *map(run.measures.get, measured)] for run in summary.runs]
    return _csv([*head, *measured], lines)


def _cells(spread: Spread | None) -> list[object]:
    if spread is None:
        return [None, None, None]
    return [_short(spread.mean), _short(spread.std), " ".join(str(_short(v)) for v in spread.values)]


def _short(value: float | None) -> float | None:
    # Six decimals of a per cent are below one image in a million; more would only show float noise.
    return None if value is None else round(value, 6)


def _csv(head: list[str], lines: list[list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return text.getvalue()
