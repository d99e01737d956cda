"""The figure of a study in the style of a paper, for a README, a slide or a manuscript."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reslab.errors import InputError
from reslab.report import view as views
from reslab.report.summary import Summary
from reslab.runs.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg", "pdf")
_INK = "#222222"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 10,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.8,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "svg.hashsalt": "reslab",  # the same summary gives the same bytes
    "pdf.fonttype": 42,
}
# Plain and residual differ by the sign at the line's end too, not by place and colour alone.
_MARKER = {"plain": "s", "residual": "o"}


def save(summary: Summary | Mapping[str, Any], path: Path) -> None:
    """Draw training (dashed) and test error (bold), group by group side by side, or over ``x`` where there is one.

    Args:
        summary: the study's summary.
        path: where to; the suffix, png, svg or pdf, says the format. A png has 2400 x 960 pixels.

    Raises:
        InputError: if the suffix is another one.
    """
    write_bytes(path, render(summary, check_format(path)))


def check_format(path: Path) -> str:
    """The format that a file's name says, lower case. Raises `InputError` for another one than `FORMATS`."""
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise InputError(f"cannot write a figure as '{path}': end the name in .png, .svg or .pdf")
    return suffix


def render(summary: Summary | Mapping[str, Any], format: str) -> bytes:
    """The figure's bytes in one of `FORMATS`."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    summary = Summary.of(summary)
    view = views.of(summary)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.8), facecolor="white")
        FigureCanvasAgg(figure)
        panels = drawn(view)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for i, (panel, ax) in enumerate(zip(panels, axes, strict=True)):
            _draw(ax, panel, view)
            if i == 0:
                ax.set_ylabel("error (%)")
            else:
                ax.tick_params(labelleft=False)
        # Room for the names at the lines' ends, in shares of the figure's width.
        names = 0.02 + 0.0066 * max(len(net.net) for panel in panels for net in panel.nets)
        gap, space = names + 0.018, 1 - 0.055 - names
        width = (space - gap * (len(axes) - 1)) / len(axes)
        figure.subplots_adjust(left=0.055, right=1 - names, top=0.86, bottom=0.2, wspace=gap / width)
        figure.text(0.055, 0.035, _caption(summary, view), fontsize=9, color="#555555", ha="left")
        buffer = io.BytesIO()
        # No dates, so that a figure that did not change is not a change to commit.
        empty: dict[str, None] = (
            {} if format == "png" else {"Date": None} if format == "svg" else {"CreationDate": None}
        )
        figure.savefig(buffer, format=format, dpi=200, metadata=empty)
    return buffer.getvalue()


MOST_PANELS = 3
"""Beside each other on a printed page."""


def drawn(view: views.View) -> tuple[views.Panel, ...]:
    """The panels of the printed figure: errors over x, or else curves."""
    points = tuple(panel for panel in view.panels if panel.style == "points")
    return points or view.panels[:MOST_PANELS]


def _draw(ax: Axes, panel: views.Panel, view: views.View) -> None:
    y_max = view.y_ranges[0] if panel.y_max is None else panel.y_max
    x = [step / panel.x_unit for step in panel.x]
    signs = _MARKER if panel.style == "points" else {}
    ends: list[tuple[float, str, str, bool]] = []
    for net in panel.nets:
        color = views.LIGHT[net.color]
        for line, width, style in ((net.train, 1.1, (0, (4, 2))), (net.test, 2.2, "solid")):
            if line is None:
                continue
            if len(net.seeds) > 1:
                ax.fill_between(x, _nan(line.low), _nan(line.high), color=color, alpha=0.16, linewidth=0, zorder=2)
            ax.plot(
                x, _nan(line.mean), color=color, linewidth=width, linestyle=style, zorder=3,
                marker=signs.get(net.kind), markersize=5,
            )  # fmt: skip
        shown = net.test or net.train
        last = shown.last if shown else None
        if shown and last is not None:
            at = max(i for i, value in enumerate(shown.mean) if value is not None)
            filled = color if net.kind == "residual" else "white"
            ax.plot(
                [x[at]], [last], _MARKER[net.kind], color=color, markerfacecolor=filled,
                markersize=6, markeredgewidth=1.6, zorder=5, clip_on=False,
            )  # fmt: skip
            ends.append((min(last, y_max), net.net, color, last > y_max))
    if view.threshold is not None and view.threshold < y_max:
        ax.axhline(view.threshold, color="#999999", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    ax.set_title(panel.title, loc="left", fontsize=12, color=_INK, pad=10)
    right = panel.x_max / panel.x_unit
    ax.set_xlim(0 if panel.style == "curves" else panel.x[0] - 0.04 * right, right)
    ax.set_ylim(0, y_max)
    ax.set_xlabel(panel.x_label)
    if panel.style == "points":
        ax.set_xticks(x)
    ax.grid(axis="y", color="#E6E6E6", linewidth=0.7, zorder=0)
    ax.set_axisbelow(True)
    for (_, text, color, above), y in zip(ends, _apart([end[0] for end in ends], 0.055 * y_max), strict=True):
        ax.annotate(
            f"{text} ↑" if above else text, (right, y), xytext=(9, 0),
            textcoords="offset points", va="center", color=color, fontsize=10, annotation_clip=False,
        )  # fmt: skip


def _caption(summary: Summary, view: views.View) -> str:
    seeds = sorted({row.n for row in summary.rows})
    text = f"{summary.data.get('name', summary.study)}.  Bold: test error.  Dashed: training error."
    if seeds[-1] > 1:
        n = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        text += f"  Mean of {n} seeds; band: lowest to highest."
    if view.threshold is not None and view.threshold < view.y_ranges[0]:
        text += f"  Dotted: {view.threshold:g} % threshold."
    return text


def _nan(values: views.Values) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _apart(places: list[float], gap: float) -> list[float]:
    """Labels moved as little as can be (least squares), so that each is `gap` from its neighbours."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    # Without the gaps, what is left to do is to make the places increase: labels that would overlap
    # share the mean of their places.
    groups: list[list[float]] = []
    for rank, i in enumerate(order):
        groups.append([places[i] - rank * gap])
        while len(groups) > 1 and _mean(groups[-2]) > _mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    level = [_mean(group) for group in groups for _ in group]
    moved = list(places)
    for rank, i in enumerate(order):
        moved[i] = level[rank] + rank * gap
    return moved


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
