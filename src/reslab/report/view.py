"""From the runs of a summary to what a figure draws: panels, mean lines, bands, colours, ranges.

Page and paper figure are drawn from this one view, so that they cannot show different things.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from reslab.report.summary import Kind, Run, Summary

PANEL_TITLES: dict[Kind, str] = {"plain": "plain networks", "residual": "residual networks"}

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
    """A network's lines in a panel; `color` indexes `LIGHT` and `DARK`."""

    net: str
    kind: Kind
    depth: int
    color: int
    train: Line | None
    test: Line | None
    seeds: tuple[Seed, ...]


@dataclass(frozen=True)
class Panel:
    """One half of the figure: all networks of a kind over one grid of iterations."""

    kind: Kind
    title: str
    x: tuple[int, ...]
    nets: tuple[Net, ...]


@dataclass(frozen=True)
class View:
    """The whole figure. `y_ranges` are upper ends of the error axis to offer; the first is the default."""

    panels: tuple[Panel, ...]
    x_max: int
    x_label: str
    x_unit: int
    y_ranges: tuple[float, ...]
    threshold: float | None
    n_seeds: int


def of(summary: Summary) -> View:
    """The figure of a summary: plain networks left, residual ones right, on the same axes."""
    colors = _colors(summary)
    panels: list[Panel] = []
    for kind, title in PANEL_TITLES.items():
        runs = sorted((run for run in summary.runs if run.kind == kind), key=lambda r: (r.depth, r.net, r.seed))
        if runs:
            grid = sorted({step for run in runs for step in run.curve.iteration})
            nets = tuple(
                _net(list(group), grid, colors[name]) for name, group in groupby(runs, key=lambda run: run.net)
            )
            panels.append(Panel(kind, title, tuple(grid), nets))
    x_max = max((panel.x[-1] for panel in panels if panel.x), default=0) or 1
    thousands = x_max >= 5000
    return View(
        panels=tuple(panels),
        x_max=x_max,
        x_label="iterations (thousands)" if thousands else "iterations",
        x_unit=1000 if thousands else 1,
        y_ranges=_y_ranges(panels, x_max),
        threshold=summary.threshold,
        n_seeds=max(row.n for row in summary.rows),
    )


def _colors(summary: Summary) -> dict[str, int]:
    """A colour for each depth, so that twins share theirs; for each net where depths are not enough."""
    nets = sorted({(run.depth, run.kind, run.net) for run in summary.runs})
    twins = len({(depth, kind) for depth, kind, _ in nets}) == len(nets)
    keys = sorted({depth for depth, _, _ in nets}) if twins else [net for _, _, net in nets]
    order = _CHOICE.get(len(keys), tuple(range(len(LIGHT))))
    color = {key: order[i % len(order)] for i, key in enumerate(keys)}
    return {net: color[depth] if twins else color[net] for depth, _, net in nets}


def _net(runs: list[Run], grid: list[int], color: int) -> Net:
    train = [_on_grid(run.curve.iteration, run.curve.train_error, grid) for run in runs]
    test = [_on_grid(run.curve.iteration, run.curve.test_error, grid) for run in runs]
    seeds = tuple(Seed(run.seed, _values(a), _values(b)) for run, a, b in zip(runs, train, test, strict=True))
    return Net(runs[0].net, runs[0].kind, runs[0].depth, color, _line(train), _line(test), seeds)


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


def _y_ranges(panels: list[Panel], x_max: int) -> tuple[float, ...]:
    """First the range that shows the last three quarters of training, then tighter ones, then all of it."""
    late = [0.0]
    every = [0.0]
    lasts = []
    for panel in panels:
        for net in panel.nets:
            for line in (net.train, net.test):
                if line is None:
                    continue
                every += [v for v in line.high if v is not None]
                late += [v for x, v in zip(panel.x, line.mean, strict=True) if v is not None and x >= x_max / 4]
                lasts.append(line.last or 0.0)
    steps = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 100.0)
    focus = next((step for step in steps if step >= 1.05 * max(late)), 100.0)
    full = next((step for step in steps if step >= max(every)), 100.0)
    lowest = min(lasts, default=0.0)
    focus = focus if focus < 0.75 * full else full
    tight = [step for step in (20.0, 10.0, 5.0) if lowest < 0.8 * step and step < 0.75 * focus]
    return tuple(dict.fromkeys([focus, *tight, full]))
