"""The figures of the probes, each drawn from results alone, for one network or several over each other."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reslab.probes.attribution import Attribution
from reslab.probes.coverage import Coverage
from reslab.probes.gates import Gates
from reslab.probes.gradients import Gradients, Initial
from reslab.probes.identity import Fits
from reslab.probes.lesions import Deletions, Depth, Lesions, Permutations
from reslab.probes.paths import Paths
from reslab.probes.perturbations import Amplification, Translation
from reslab.probes.prune import Curve
from reslab.probes.responses import Responses, Signal
from reslab.probes.result import Floats
from reslab.probes.shares import Shares
from reslab.probes.shattering import AlongImages, Decay, Shattering
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
    "legend.fontsize": 9,
    "pdf.fonttype": 42,
}

Named = Sequence[tuple[str, Any]]


def svg(draw: Callable[[Canvas, Named], None], results: Named, *, salt: str) -> str:
    """The figure as SVG with colours of the page it is put into: CSS variables, light and dark.

    Args:
        draw: one of the functions here.
        results: by the network's name.
        salt: of the names inside; different for each figure of a page.
    """
    style = {"svg.hashsalt": salt, "svg.fonttype": "none"}  # text stays text: the page has the font
    return _on_the_page(_drawn(draw, results, "svg", style, transparent=True).decode(), salt)


def save(draw: Callable[[Canvas, Named], None], results: Named, path: Path) -> None:
    """The figure as a file for a paper or a slide, on white; the same results give the same bytes.

    Args:
        draw: one of the functions here.
        results: by the network's name.
        path: where to; its suffix, png, svg or pdf, says the format. A png has 2220 x 990 pixels.

    Raises:
        InputError: if the suffix is another one.
    """
    write_bytes(path, _drawn(draw, results, check_format(path), {"svg.hashsalt": "reslab"}, transparent=False))


def _drawn(
    draw: Callable[[Canvas, Named], None], results: Named, format: str, style: dict[Any, Any], *, transparent: bool
) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, **style}):
        canvas = Figure(figsize=(7.4, 3.3), layout="constrained", facecolor="white")
        FigureCanvasAgg(canvas)
        draw(canvas, results)
        buffer = io.BytesIO()
        metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[format]
        canvas.savefig(buffer, format=format, dpi=300, transparent=transparent, metadata=metadata)
    return buffer.getvalue()


def _on_the_page(text: str, salt: str) -> str:
    """Without the XML head, with names that no other figure has, and colours that follow the page."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{salt}-", text)
    for i, color in enumerate(LIGHT):
        text = text.replace(color.lower(), f"var(--c{i})")
    for color, name in ((INK, "ink"), (SOFT, "soft"), (GRID, "grid")):
        text = text.replace(color, f"var(--{name})")
    head, rest = text.replace("'DejaVu Sans'", "var(--sans)").split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", head) + ">" + rest  # as wide as the page has room


def _color(i: int) -> str:
    return LIGHT[ORDER[i % len(ORDER)]]


def _grid(ax: Axes, *, x: str, y: str, log: bool = False, whole: bool = True) -> None:
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
        return rf"$10^{{{exponent}}}$" if not minor else ""

    return text


def _legend(ax: Axes, results: Named) -> None:
    if len(results) > 1:
        ax.legend(loc="best")


def _line(ax: Axes, i: int, label: str, y: Floats, x: Any = None, *, low: Any = None, high: Any = None) -> None:
    x = np.arange(len(y)) if x is None else x
    ax.plot(x, y, color=_color(i), marker=MARKS[i % len(MARKS)], markersize=3.5, linewidth=1.4, label=label)
    if low is not None:
        ax.fill_between(x, low, high, color=_color(i), alpha=0.16, linewidth=0)


def _hline(ax: Axes, y: float, text: str) -> None:
    ax.axhline(y, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
    ax.annotate(
        text, (1, y), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points",
        ha="right", fontsize=8, color=SOFT,
    )  # fmt: skip


def responses(canvas: Canvas, results: Sequence[tuple[str, Responses]]) -> None:
    """In the order of the layers, and ranked: the two halves of the paper's figure."""
    first, second = canvas.subplots(1, 2, sharey=True)
    found: list[float] = []
    for i, (label, result) in enumerate(results):
        shown = result.of(3) if (result.kernel == 3).any() else result
        _line(first, i, label, shown.std)
        _line(second, i, label, shown.ranked)
        found.extend(shown.std[shown.std > 0])
    wide = bool(found) and max(found) > 20 * min(found)  # where one layer would hide what the others do
    _grid(first, x="3x3 layer", y="std of the response", log=wide)
    _grid(second, x="3x3 layers, ranked", y="", log=wide)
    _legend(second, results)


def signal(canvas: Canvas, results: Sequence[tuple[str, Signal]]) -> None:
    """Size and sign of what enters the blocks."""
    first, second = canvas.subplots(1, 2)
    for i, (label, result) in enumerate(results):
        _line(first, i, label, result.rms)
        _line(second, i, label, 100 * result.negative)
    _grid(first, x="block", y="root mean square")
    _grid(second, x="block", y="below zero (%)")
    second.set_ylim(-3, 100)
    _legend(second, results)


def shares(canvas: Canvas, results: Sequence[tuple[str, Shares]]) -> None:
    """Size of the branch against the shortcut, and its direction."""
    first, second = canvas.subplots(1, 2)
    for i, (label, result) in enumerate(results):
        _line(first, i, label, result.ratio, low=result.ratio_low, high=result.ratio_high)
        _line(second, i, label, result.cosine)
    _grid(first, x="block", y="|F(x)| / |x|", log=True)
    _grid(second, x="block", y="cosine of F(x) and x")
    second.set_ylim(-1, 1)
    _legend(second, results)


def lesions(canvas: Canvas, results: Sequence[tuple[str, Lesions]]) -> None:
    """A point for each block that was deleted; hollow where it changes the shape."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        x = np.arange(len(result.error))
        color, mark = _color(i), MARKS[i % len(MARKS)]
        same = result.changes_shape == 0
        ax.plot(x[same], result.error[same], mark, color=color, markersize=5, label=label)
        ax.plot(x[~same], result.error[~same], mark, color=color, markersize=5, markerfacecolor="none")
        ax.axhline(result.whole_error, color=color, linewidth=0.9)
    _hline(ax, results[0][1].chance, "chance")
    _grid(ax, x="block that is deleted", y="error (%)")
    ax.set_ylim(0, 100)
    _legend(ax, results)


def deletions(canvas: Canvas, results: Sequence[tuple[str, Deletions]]) -> None:
    """Median and middle half of the draws."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        _line(ax, i, label, result.median, result.deleted, low=result.low, high=result.high)
    _hline(ax, results[0][1].chance, "chance")
    _grid(ax, x="blocks deleted at random", y="error (%)")
    ax.set_ylim(0, 100)
    _legend(ax, results)


def permutations(canvas: Canvas, results: Sequence[tuple[str, Permutations]]) -> None:
    """A point for each order."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        ax.plot(result.tau, result.error, MARKS[i % len(MARKS)], color=_color(i), markersize=4, alpha=0.7, label=label)
        ax.axhline(result.whole_error, color=_color(i), linewidth=0.9)
    _hline(ax, results[0][1].chance, "chance")
    _grid(ax, x="Kendall's tau of the order (1: as it was)", y="error (%)", whole=False)
    ax.set_ylim(0, 100)
    ax.invert_xaxis()
    _legend(ax, results)


def depth(canvas: Canvas, results: Sequence[tuple[str, Depth]]) -> None:
    """The least important blocks first."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        _line(ax, i, label, result.error, result.deleted)
        ax.axhline(float(result.error[0]) + result.points, color=_color(i), linewidth=0.8, linestyle=(0, (2, 2)))
    _grid(ax, x="blocks deleted, the least important first", y="error (%)")
    ax.set_ylim(0, 100)
    _legend(ax, results)


def paths(canvas: Canvas, results: Sequence[tuple[str, Paths]]) -> None:
    """How many, how much each, and the product."""
    first, second, third = canvas.subplots(1, 3)
    for i, (label, result) in enumerate(results):
        first.plot(result.length, 100 * result.share, color=_color(i), linewidth=1.4)
        _line(second, i, label, result.norm, result.length, low=result.low, high=result.high)
        third.plot(result.length, 100 * result.weight, color=_color(i), linewidth=1.4, label=label)
        third.fill_between(result.length, 100 * result.weight, color=_color(i), alpha=0.16, linewidth=0)
    _grid(first, x="path length", y="paths (%)")
    _grid(second, x="path length", y="gradient of a path", log=True)
    _grid(third, x="path length", y="of all gradient (%)")
    _legend(third, results)


def gradients(canvas: Canvas, results: Sequence[tuple[str, Gradients]]) -> None:
    """Norm by depth, ratio across the blocks, and what comes by shortcuts alone."""
    first, second, third = canvas.subplots(1, 3)
    for i, (label, result) in enumerate(results):
        _line(first, i, label, result.norm, low=result.norm_low, high=result.norm_high)
        _line(second, i, label, result.ratio)
        _line(third, i, label, result.by_shortcuts)
    _grid(first, x="block", y="|dE/dx|", log=True)
    _grid(second, x="block", y="ratio across the block")
    _grid(third, x="block", y="by shortcuts alone")
    second.axhline(1, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
    _legend(first, results)


def initial(canvas: Canvas, results: Sequence[tuple[str, Initial]]) -> None:
    """Four twins of each network; without BN dashed."""
    ax = canvas.subplots()
    for label, result in results:
        prefix = f"{label}: " if len(results) > 1 else ""
        x = np.arange(len(result.block))
        for i, (name, values) in enumerate((("residual", result.residual_bn), ("plain", result.plain_bn))):
            ax.plot(x, values, color=_color(i), linewidth=1.6, label=f"{prefix}{name}, BN")
        for i, (name, values) in enumerate((("residual", result.residual), ("plain", result.plain))):
            ax.plot(x, values, color=_color(i), linewidth=1.2, linestyle=(0, (4, 2)), label=f"{prefix}{name}, no BN")
    _grid(ax, x="block", y="|gradient|, 1 at the end", log=True)
    ax.legend(loc="best")


def downsampling(canvas: Canvas, results: Sequence[tuple[str, Coverage]]) -> None:
    """A map for each block and part: what is dark is never read."""
    rows = [(label, i, result) for label, result in results for i in range(len(result.block))]
    axes = canvas.subplots(2, len(rows), squeeze=False)
    for column, (label, i, result) in enumerate(rows):
        for row, (part, maps, share) in enumerate(
            (("shortcut", result.shortcut_map, result.shortcut), ("branch", result.branch_map, result.branch))
        ):
            ax = axes[row][column]
            ax.set_xticks([])
            ax.set_yticks([])
            if np.isnan(maps[i]).any():
                ax.set_title(f"no {part}", fontsize=8)
                continue
            ax.imshow(maps[i] > 0, cmap="Greys_r", vmin=-0.6, vmax=1.2, interpolation="nearest")
            ax.set_title(f"{part}: {100 * share[i]:.0f} % unread", fontsize=8)
        name = f"{label}\n{result.block[i]}" if len(results) > 1 else result.block[i]
        axes[1][column].set_xlabel(name, fontsize=8)


def amplification(canvas: Canvas, results: Sequence[tuple[str, Amplification]]) -> None:
    """Growth by depth."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        _line(ax, i, label, result.growth, low=result.low, high=result.high)
    ax.axhline(1, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
    _grid(ax, x="block", y="relative change / that of the image", log=True)
    _legend(ax, results)


def translation(canvas: Canvas, results: Sequence[tuple[str, Translation]]) -> None:
    """Error, and how alike the representations are with the pool and without."""
    first, second = canvas.subplots(1, 2)
    for i, (label, result) in enumerate(results):
        _line(first, i, label, result.error, result.shift)
        _line(second, i, label, result.pooled, result.shift)
        second.plot(result.shift, result.unpooled, color=_color(i), linewidth=1.2, linestyle=(0, (4, 2)))
    _grid(first, x="shift (pixels)", y="error (%)")
    _grid(second, x="shift (pixels)", y="cosine with the unshifted")
    first.set_ylim(0, 100)
    _legend(first, results)


def gates(canvas: Canvas, results: Sequence[tuple[str, Gates]]) -> None:
    """Openness by depth."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        _line(ax, i, label, result.mean, low=result.mean - result.across, high=result.mean + result.across)
    _grid(ax, x="gated block", y="gate (1: the branch passes)")
    ax.set_ylim(0, 1)
    _legend(ax, results)


def pruning(canvas: Canvas, results: Sequence[tuple[str, Curve]]) -> None:
    """Error against blocks gone, and against speed; a ring around what was chosen."""
    first, second = canvas.subplots(1, 2, sharey=True)
    for i, (label, curve) in enumerate(results):
        for ax, x in ((first, curve.removed), (second, curve.speedup)):
            _line(ax, i, label, curve.error, x)
            at = curve.chosen
            ax.plot([x[at]], [curve.error[at]], "o", color=_color(i), markersize=10, markerfacecolor="none")
    _grid(first, x="blocks gone", y="error (%)")
    _grid(second, x="times as fast", y="", whole=False)
    _legend(first, results)


def shattering(canvas: Canvas, results: Sequence[tuple[str, Shattering]]) -> None:
    """A panel for each kind of network, a line for each depth, noise dashed."""
    _, result = results[0]
    axes = canvas.subplots(1, 4, sharey=True)
    kinds = (
        ("plain", result.plain), ("plain, BN", result.plain_bn),
        ("residual", result.residual), ("residual, BN", result.residual_bn),
    )  # fmt: skip
    for ax, (title, curves) in zip(axes, kinds, strict=True):
        for i, (layers, values) in enumerate(zip(result.depth, curves, strict=True)):
            ax.plot(result.lag, values, color=LIGHT[i % len(LIGHT)], linewidth=1.3, label=f"{layers} layers")
        for noise in (result.white, result.brown):
            ax.plot(result.lag, noise, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
        ax.set_title(title, fontsize=10)
        _grid(ax, x="lag", y="autocorrelation" if ax is axes[0] else "")
    axes[3].legend(loc="best", fontsize=7)


def along_images(canvas: Canvas, results: Sequence[tuple[str, AlongImages]]) -> None:
    """The four twins of each network; without BN dashed."""
    ax = canvas.subplots()
    for label, result in results:
        prefix = f"{label}: " if len(results) > 1 else ""
        for i, (kind, bn, none) in enumerate(
            (("residual", result.residual_bn, result.residual), ("plain", result.plain_bn, result.plain))
        ):
            ax.plot(result.lag, bn, color=_color(i), linewidth=1.6, label=f"{prefix}{kind}, BN")
            dashed = (0, (4, 2))
            ax.plot(result.lag, none, color=_color(i), linewidth=1.2, linestyle=dashed, label=f"{prefix}{kind}, no BN")
    _grid(ax, x="lag (points of the line)", y="autocorrelation")
    ax.legend(loc="best")


def decay(canvas: Canvas, results: Sequence[tuple[str, Decay]]) -> None:
    """What was measured, and the fitted laws as lines."""
    _, result = results[0]
    ax = canvas.subplots()
    layers = np.linspace(0, float(result.depth.max()), 60)
    laws = (
        (f"plain: {result.plain_base:.2f}^L", result.plain, result.plain_base**layers),
        (f"residual: {result.residual_base:.2f}^L", result.residual, result.residual_base**layers),
        (f"residual, BN: (L+1)^{result.residual_bn_power:.2f}", result.residual_bn,
         (layers + 1) ** result.residual_bn_power),
    )  # fmt: skip
    for i, (label, values, law) in enumerate(laws):
        ax.plot(result.depth, values, MARKS[i], color=_color(i), markersize=5)
        ax.plot(layers, law, color=_color(i), linewidth=1.2, label=label)
    _grid(ax, x="layers", y="correlation of gradients")
    ax.legend(loc="best")


def identity(canvas: Canvas, results: Sequence[tuple[str, Fits]]) -> None:
    """Error that is left, by depth."""
    _, result = results[0]
    ax = canvas.subplots()
    _line(ax, 0, "residual", result.residual, result.depth, low=result.residual_low, high=result.residual_high)
    _line(ax, 1, "plain", result.plain, result.depth, low=result.plain_low, high=result.plain_high)
    _grid(ax, x="layers", y="|y - x|^2 / |x|^2", log=True)
    ax.legend(loc="best")


def attribution(canvas: Canvas, results: Sequence[tuple[str, Attribution]]) -> None:
    """Images with the map of the class that was chosen over them; a row for each network."""
    columns = min(len(result.label) for _, result in results)
    axes = canvas.subplots(len(results), columns, squeeze=False)
    for row, (label, result) in zip(axes, results, strict=True):
        for i, ax in enumerate(row):
            image = result.images[i]
            ax.imshow(image if image.shape[2] == 3 else image.mean(2), cmap="gray", vmin=0, vmax=1)
            height, width = image.shape[:2]
            ax.imshow(
                np.maximum(result.maps[i], 0), cmap="inferno", alpha=0.55, interpolation="bilinear",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )  # fmt: skip
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title(result.called[i], fontsize=8)
        if len(results) > 1:
            row[0].set_ylabel(label, fontsize=8)
