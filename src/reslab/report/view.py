"""From the runs of a summary to what a figure draws: panels, mean lines, bands, colours, ranges.

Page and paper figure are drawn from this one view, so that they cannot show different things.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reslab.report.summary import Kind, Run, Summary

# Okabe and Ito's colours (the orange a shade darker, for white ground), told apart under every common
# colour blindness, from cool (the shallowest network) to warm (the deepest), for light and dark ground.
LIGHT = ("#0072B2", "#009E73", "#D08700", "#D55E00", "#56B4E9", "#CC79A7", "#6B5B00", "#555555")
DARK = ("#4EA8E8", "#2FC79B", "#F2B632", "#FF7D47", "#9AD4F7", "#E9A3C9", "#C9B84A", "#B5B5B5")
_CHOICE = {1: (0,), 2: (0, 3), 3: (0, 1, 3), 4: (0, 1, 2, 3), 5: (0, 4, 1, 2, 3)}

Values = tuple[float | None, ...]


@dataclass(frozen=True)
class Line:
    """Mean over seeds, and the lowest and highest seed, on the panel's grid; None where a seed has none."""

    mean: Values
    low: Values
    high: Values

    @property
    def last(self) -> float | None:
        """The last mean there is."""
        return next((value for value in reversed(self.mean) if value is not None), None)


@dataclass(frozen=True)
class Seed:
    """One run on the panel's grid."""

    seed: int
    train: Values
    test: Values


@dataclass(frozen=True)
class Net:
    """A row's lines in a panel, or those of a whole group over x; `color` indexes `LIGHT` and `DARK`."""

    net: str
    """its name on the figure"""
    kind: Kind
    color: int
    train: Line | None
    test: Line | None
    seeds: tuple[Seed, ...]


@dataclass(frozen=True)
class Panel:
    """A part of the figure: curves of a group over one grid of iterations, or the ends of all runs over ``x``."""

    style: Literal["curves", "points"]
    title: str
    x: tuple[float, ...]
    nets: tuple[Net, ...]
    x_max: float
    x_label: str
    x_unit: int
    y_max: float | None = None
    """upper end of its error axis; None: that of the whole figure"""


@dataclass(frozen=True)
class View:
    """The whole figure. `y_ranges` are upper ends of the error axis to offer; the first is the default."""

    panels: tuple[Panel, ...]
    y_ranges: tuple[float, ...]
    threshold: float | None
    n_seeds: int


def of(summary: Summary) -> View:
    """The figure of a summary: errors over ``x`` where it has one, then curves group by group, on the same axes."""
    color = colors(summary)
    groups = list(dict.fromkeys(row.group for row in summary.rows))
    order = [row.label for row in summary.rows]
    x_max = max((step for run in summary.runs for step in run.curve.iteration), default=0) or 1
    thousands = x_max >= 5000
    label = "iterations (thousands)" if thousands else "iterations"
    panels = [] if summary.x_label is None else _over_x(summary, groups, summary.x_label)
    for title in groups:
        # What is no training stands in the panel over x alone.
        runs = [run for run in summary.runs if run.group == title and (run.curve.iteration or summary.x_label is None)]
        runs.sort(key=lambda run: (order.index(run.label), run.seed))
        if runs:
            grid = sorted({step for run in runs for step in run.curve.iteration})
            nets = tuple(
                _net(list(group), grid, color[name]) for name, group in groupby(runs, key=lambda run: run.label)
            )
            panels.append(Panel("curves", title, tuple(grid), nets, x_max, label, 1000 if thousands else 1))
    return View(
        panels=tuple(panels),
        y_ranges=_y_ranges([panel for panel in panels if panel.y_max is None]),
        threshold=summary.threshold,
        n_seeds=max(row.n for row in summary.rows),
    )


def _over_x(summary: Summary, groups: list[str], x_label: str) -> list[Panel]:
    """One panel: a line for each group over ``x``, through the means of the rows; seed by seed where seeds agree."""
    placed = [run for run in summary.runs if run.x is not None]
    grid = tuple(sorted({run.x for run in placed if run.x is not None}))
    nets = []
    present = [title for title in groups if any(run.group == title for run in placed)]
    palette = _CHOICE.get(len(present), tuple(range(len(LIGHT))))
    for title, color in zip(present, palette, strict=False):
        runs = [run for run in placed if run.group == title]
        seeds = sorted({run.seed for run in runs})
        by_seed = tuple(
            Seed(seed, _at(runs, grid, seed, "final_train_error"), _at(runs, grid, seed, "final_test_error"))
            for seed in seeds
        )
        kind = runs[0].kind if len({run.kind for run in runs}) == 1 else "residual"
        nets.append(
            Net(title, kind, color, _ends(runs, grid, "final_train_error"), _ends(runs, grid, "final_test_error"),
                by_seed)
        )  # fmt: skip
    if not grid:
        return []
    panel = Panel("points", f"error over {x_label}", grid, tuple(nets), grid[-1], x_label, 1)
    return [replace(panel, y_max=_y_ranges([panel])[0])]


def _at(runs: list[Run], grid: tuple[float, ...], seed: int, field: str) -> Values:
    found = {run.x: getattr(run, field) for run in runs if run.seed == seed}
    return tuple(found.get(x) for x in grid)


def _ends(runs: list[Run], grid: tuple[float, ...], field: str) -> Line | None:
    """Mean, lowest and highest of the runs at each x."""
    columns: list[list[float]] = [
        [value for run in runs if run.x == x and (value := getattr(run, field)) is not None] for x in grid
    ]
    if not any(columns):
        return None
    mean = tuple(round(math.fsum(column) / len(column), 3) if column else None for column in columns)
    low = tuple(min(column) if column else None for column in columns)
    high = tuple(max(column) if column else None for column in columns)
    return Line(mean, low, high)


def colors(summary: Summary) -> dict[str, int]:
    """A colour for each depth, so that twins share theirs; for each row where depths are not enough."""
    rows = summary.rows
    depths = sorted({row.depth for row in rows})
    twins = len({(row.depth, row.group) for row in rows}) == len(rows) and len(depths) > 1
    keys = depths if twins else [row.label for row in rows]
    order = _CHOICE.get(len(keys), tuple(range(len(LIGHT))))
    color = {key: order[i % len(order)] for i, key in enumerate(keys)}
    return {row.label: color[row.depth] if twins else color[row.label] for row in rows}


def _net(runs: list[Run], grid: list[int], color: int) -> Net:
    train = [_on_grid(run.curve.iteration, run.curve.train_error, grid) for run in runs]
    test = [_on_grid(run.curve.iteration, run.curve.test_error, grid) for run in runs]
    seeds = tuple(Seed(run.seed, _values(a), _values(b)) for run, a, b in zip(runs, train, test, strict=True))
    return Net(runs[0].label, runs[0].kind, color, _line(train), _line(test), seeds)


def _on_grid(steps: tuple[int, ...], errors: Values, grid: list[int]) -> NDArray[np.float64]:
    """Linear interpolation between what was measured; NaN before the first and after the last of it."""
    known = [(step, error) for step, error in zip(steps, errors, strict=True) if error is not None]
    if not known:
        return np.full(len(grid), np.nan)
    x, y = zip(*known, strict=True)
    return np.asarray(np.interp(grid, x, y, left=np.nan, right=np.nan), dtype=np.float64)


def _line(rows: list[NDArray[np.float64]]) -> Line | None:
    """Over the seeds, only where every seed has a value: a mean over changing seeds would jump."""
    stack = np.stack(rows)  # (seeds, grid)
    if np.isnan(stack).any(axis=0).all():
        return None
    return Line(_values(stack.mean(axis=0)), _values(stack.min(axis=0)), _values(stack.max(axis=0)))


def _values(row: NDArray[np.float64]) -> Values:
    return tuple(None if math.isnan(value) else round(float(value), 3) for value in row)


def _y_ranges(panels: list[Panel]) -> tuple[float, ...]:
    """First the range that shows the last three quarters of training, then tighter ones, then all of it."""
    late = [0.0]
    every = [0.0]
    lasts = []
    for panel in panels:
        for net in panel.nets:
            for line in (net.train, net.test):
                if line is None:
                    continue
                since = panel.x_max / 4 if panel.style == "curves" else -math.inf
                every += [v for v in line.high if v is not None]
                late += [v for x, v in zip(panel.x, line.mean, strict=True) if v is not None and x >= since]
                lasts.append(line.last or 0.0)
    steps = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 100.0)
    focus = next((step for step in steps if step >= 1.05 * max(late)), 100.0)
    full = next((step for step in steps if step >= max(every)), 100.0)
    lowest = min(lasts, default=0.0)
    focus = focus if focus < 0.75 * full else full
    tight = [step for step in (20.0, 10.0, 5.0) if lowest < 0.8 * step and step < 0.75 * focus]
    return tuple(dict.fromkeys([focus, *tight, full]))
