"""A study's results as CSV: a line per network, and a line per run."""

from __future__ import annotations

import csv
import io

from reslab.report.summary import Spread, Summary


def rows(summary: Summary) -> str:
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


def runs(summary: Summary) -> str:
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
