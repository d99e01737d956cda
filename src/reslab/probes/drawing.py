"""Shared code of the probes' figures: style, colours, axes, saving. The figures are in `plots`."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reslab.probes.result import Floats
from reslab.report.figure import check_format
from reslab.report.view import LIGHT
from reslab.runs.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INK, SOFT, GRID = "#222222", "#565656", "#e6e6e6"
ORDER = (0, 3, 1, 5)
"""Which of the report's colours, told apart under colour blindness, the networks have."""
MARKS = ("o", "s", "^", "D")
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.titlesize": 10,
    "pdf.fonttype": 42,
}

WIDE, NARROW = 7.4, 4.1
"""Inches across, of a figure for a page or a slide, and for a telephone. No text is smaller than 10 points, so that at
the least width that the style sheet shows either at, 11 pixels are left of it."""
HEIGHT = 3.3

Named = Sequence[tuple[str, Any]]


def svg(draw: Callable[[Canvas, Named], None], results: Named, *, salt: str) -> str:
    """The figure as SVG with colours of the page it is put into: CSS variables, light and dark.

    It is there twice, side by side for a wide page and below each other for a narrow one; the style sheet shows one.

    Args:
        draw: one of the functions of `plots`.
        results: by the network's name.
        salt: of the names inside; different for each figure of a page.
    """
    return "".join(
        f'<div class="{name}">{_on_the_page(_as_svg(draw, results, f"{salt}-{name}", width), f"{salt}-{name}")}</div>'
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    )


def _as_svg(draw: Callable[[Canvas, Named], None], results: Named, salt: str, width: float) -> str:
    style = {"svg.hashsalt": salt, "svg.fonttype": "none"}  # text stays text: the page has the font
    return _drawn(draw, results, "svg", style, transparent=True, width=width).decode()


def save(draw: Callable[[Canvas, Named], None], results: Named, path: Path) -> None:
    """The figure as a file for a paper or a slide, on white; the same results give the same bytes.

    Args:
        draw: one of the functions of `plots`.
        results: by the network's name.
        path: where to; its suffix, png, svg or pdf, says the format. A png is 2220 pixels wide, and mostly 990 high.

    Raises:
        InputError: if the suffix is another one.
    """
    write_bytes(path, _drawn(draw, results, check_format(path), {"svg.hashsalt": "reslab"}, transparent=False))


def _drawn(
    draw: Callable[[Canvas, Named], None], results: Named, format: str, style: dict[Any, Any], *, transparent: bool,
    width: float = WIDE,
) -> bytes:  # fmt: skip
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, **style}):
        canvas = Figure(figsize=(width, HEIGHT), layout="constrained", facecolor="white")
        FigureCanvasAgg(canvas)
        draw(canvas, results)
        buffer = io.BytesIO()
        metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[format]
        canvas.savefig(buffer, format=format, dpi=300, transparent=transparent, metadata=metadata)
    return buffer.getvalue()


def _on_the_page(text: str, salt: str) -> str:
    """Prepares an SVG for a page: without the XML header, with unique names, and with the page's colours."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{salt}-", text)
    for i, color in enumerate(LIGHT):
        text = text.replace(color.lower(), f"var(--c{i})")
    for color, name in ((INK, "ink"), (SOFT, "soft"), (GRID, "grid")):
        text = text.replace(color, f"var(--{name})")
    head, rest = text.replace("'DejaVu Sans'", "var(--sans)").split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", head) + ">" + rest  # as wide as the page has room


def color(i: int) -> str:
    """The colour of the i-th network, on white."""
    return LIGHT[ORDER[i % len(ORDER)]]


def grid(ax: Axes, *, x: str, y: str, log: bool = False, whole: bool = True) -> None:
    """Names of the axes, lines across; ``log`` of y, ``whole`` numbers on x."""
    from matplotlib.ticker import MaxNLocator

    if whole:  # there is no block 2.5
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(_power(ax, minor=False))
        ax.yaxis.set_minor_formatter(_power(ax, minor=True))
    ax.grid(axis="y", color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)


def _power(ax: Axes, *, minor: bool) -> Callable[[float, float], str]:
    """Labels of a logarithmic axis: numbers as people write them where it has but a few decades about 1."""

    def text(value: float, _: float) -> str:
        low, high = sorted(ax.get_ylim())
        exponent = math.floor(math.log10(value) + 1e-9)
        # Between the powers of ten 2 and 5 are enough, and none where there are powers enough.
        if minor and (round(value / 10**exponent) not in (2, 5) or high > 200 * low):
            return ""
        if low > 3e-4 and high < 3e4:
            return f"{value:g}"
        return f"10{str(exponent).translate(_RAISED)}" if not minor else ""

    return text


# Not by smaller type, which would be too small on a page.
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def legend(ax: Axes, results: Named) -> None:
    """Draws a legend if there are several networks."""
    if len(results) > 1:
        ax.legend(loc="best")


def line(ax: Axes, i: int, label: str, y: Floats, x: Any = None, *, low: Any = None, high: Any = None) -> None:
    """A network's values over x (by default 0, 1, ...), with a band from ``low`` to ``high``."""
    x = np.arange(len(y)) if x is None else x
    ax.plot(x, y, color=color(i), marker=MARKS[i % len(MARKS)], markersize=3.5, linewidth=1.4, label=label)
    if low is not None:
        ax.fill_between(x, low, high, color=color(i), alpha=0.16, linewidth=0)


def hline(ax: Axes, y: float, text: str) -> None:
    """A dashed line across with a word at its right end."""
    ax.axhline(y, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
    ax.annotate(
        text, (1, y), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points",
        ha="right", color=SOFT,
    )  # fmt: skip


def is_narrow(canvas: Canvas) -> bool:
    """Whether it is for a telephone."""
    return bool(canvas.get_figwidth() < WIDE)


def beside(canvas: Canvas, count: int, *, sharey: bool = False) -> list[Axes]:
    """So many axes side by side, or on a narrow canvas below each other."""
    if is_narrow(canvas):
        canvas.set_figheight(2.6 * count)
        return list(canvas.subplots(count, 1, squeeze=False)[:, 0])
    return list(canvas.subplots(1, count, sharey=sharey, squeeze=False)[0])
