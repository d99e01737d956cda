"""The figures of the probes, each drawn from results alone, for one network or several over each other."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from reslab.probes.attribution import Attribution
from reslab.probes.coverage import Coverage
from reslab.probes.drawing import MARKS, SOFT, beside, color, grid, hline, is_narrow, legend, line
from reslab.probes.gates import Gates
from reslab.probes.gradients import Gradients, Initial
from reslab.probes.identity import Fits
from reslab.probes.lesions import Deletions, Depth, Lesions, Permutations
from reslab.probes.paths import Paths
from reslab.probes.perturbations import Amplification, Translation
from reslab.probes.prune import Curve
from reslab.probes.responses import Responses, Signal
from reslab.probes.shares import Shares
from reslab.probes.shattering import AlongImages, Decay, Shattering
from reslab.report.view import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def responses(canvas: Canvas, results: Sequence[tuple[str, Responses]]) -> None:
    """Responses in the order of the layers, and ranked: the two halves of the paper's figure."""
    first, second = beside(canvas, 2, sharey=True)
    found: list[float] = []
    for i, (label, result) in enumerate(results):
        shown = result.of(3) if (result.kernel == 3).any() else result
        line(first, i, label, shown.std)
        line(second, i, label, shown.ranked)
        found.extend(shown.std[shown.std > 0])
    wide = bool(found) and max(found) > 20 * min(found)  # where one layer would hide what the others do
    grid(first, x="3x3 layer", y="std of the response", log=wide)
    grid(second, x="3x3 layers, ranked", y="", log=wide)
    legend(second, results)


def signal(canvas: Canvas, results: Sequence[tuple[str, Signal]]) -> None:
    """Size and sign of what enters the blocks."""
    first, second = beside(canvas, 2)
    for i, (label, result) in enumerate(results):
        line(first, i, label, result.rms)
        line(second, i, label, 100 * result.negative)
    grid(first, x="block", y="root mean square")
    grid(second, x="block", y="below zero (%)")
    second.set_ylim(-3, 100)
    legend(second, results)


def shares(canvas: Canvas, results: Sequence[tuple[str, Shares]]) -> None:
    """Size of the branch against the shortcut, and its direction."""
    first, second = beside(canvas, 2)
    for i, (label, result) in enumerate(results):
        line(first, i, label, result.ratio, low=result.ratio_low, high=result.ratio_high)
        line(second, i, label, result.cosine)
    grid(first, x="block", y="|F(x)| / |x|", log=True)
    grid(second, x="block", y="cosine of F(x) and x")
    second.set_ylim(-1, 1)
    legend(second, results)


def lesions(canvas: Canvas, results: Sequence[tuple[str, Lesions]]) -> None:
    """A point for each block that was deleted; hollow where it changes the shape."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        x = np.arange(len(result.error))
        ink, mark = color(i), MARKS[i % len(MARKS)]
        same = result.changes_shape == 0
        ax.plot(x[same], result.error[same], mark, color=ink, markersize=5, label=label)
        ax.plot(x[~same], result.error[~same], mark, color=ink, markersize=5, markerfacecolor="none")
        ax.axhline(result.whole_error, color=ink, linewidth=0.9)
    hline(ax, results[0][1].chance, "chance")
    grid(ax, x="block that is deleted", y="error (%)")
    ax.set_ylim(0, 100)
    legend(ax, results)


def deletions(canvas: Canvas, results: Sequence[tuple[str, Deletions]]) -> None:
    """Median and middle half of the draws."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        line(ax, i, label, result.median, result.deleted, low=result.low, high=result.high)
    hline(ax, results[0][1].chance, "chance")
    grid(ax, x="blocks deleted at random", y="error (%)")
    ax.set_ylim(0, 100)
    legend(ax, results)


def permutations(canvas: Canvas, results: Sequence[tuple[str, Permutations]]) -> None:
    """A point for each order."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        ax.plot(result.tau, result.error, MARKS[i % len(MARKS)], color=color(i), markersize=4, alpha=0.7, label=label)
        ax.axhline(result.whole_error, color=color(i), linewidth=0.9)
    hline(ax, results[0][1].chance, "chance")
    grid(ax, x="Kendall's tau of the order (1: as it was)", y="error (%)", whole=False)
    ax.set_ylim(0, 100)
    ax.invert_xaxis()
    legend(ax, results)


def depth(canvas: Canvas, results: Sequence[tuple[str, Depth]]) -> None:
    """The least important blocks first."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        line(ax, i, label, result.error, result.deleted)
        ax.axhline(float(result.error[0]) + result.points, color=color(i), linewidth=0.8, linestyle=(0, (2, 2)))
    grid(ax, x="blocks deleted, the least important first", y="error (%)")
    ax.set_ylim(0, 100)
    legend(ax, results)


def paths(canvas: Canvas, results: Sequence[tuple[str, Paths]]) -> None:
    """How many, how much each, and the product."""
    first, second, third = beside(canvas, 3)
    for i, (label, result) in enumerate(results):
        first.plot(result.length, 100 * result.share, color=color(i), linewidth=1.4)
        line(second, i, label, result.norm, result.length, low=result.low, high=result.high)
        third.plot(result.length, 100 * result.weight, color=color(i), linewidth=1.4, label=label)
        third.fill_between(result.length, 100 * result.weight, color=color(i), alpha=0.16, linewidth=0)
    grid(first, x="path length", y="paths (%)")
    grid(second, x="path length", y="gradient of a path", log=True)
    grid(third, x="path length", y="of all gradient (%)")
    legend(third, results)


def gradients(canvas: Canvas, results: Sequence[tuple[str, Gradients]]) -> None:
    """Norm by depth, ratio across the blocks, and what comes by shortcuts alone."""
    first, second, third = beside(canvas, 3)
    for i, (label, result) in enumerate(results):
        line(first, i, label, result.norm, low=result.norm_low, high=result.norm_high)
        line(second, i, label, result.ratio)
        line(third, i, label, result.by_shortcuts)
    grid(first, x="block", y="|dE/dx|", log=True)
    grid(second, x="block", y="ratio across the block")
    grid(third, x="block", y="by shortcuts alone")
    second.axhline(1, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
    legend(first, results)


def initial(canvas: Canvas, results: Sequence[tuple[str, Initial]]) -> None:
    """Four twins of each network; without BN dashed."""
    ax = canvas.subplots()
    for label, result in results:
        prefix = f"{label}: " if len(results) > 1 else ""
        x = np.arange(len(result.block))
        for i, (name, values) in enumerate((("residual", result.residual_bn), ("plain", result.plain_bn))):
            ax.plot(x, values, color=color(i), linewidth=1.6, label=f"{prefix}{name}, BN")
        for i, (name, values) in enumerate((("residual", result.residual), ("plain", result.plain))):
            ax.plot(x, values, color=color(i), linewidth=1.2, linestyle=(0, (4, 2)), label=f"{prefix}{name}, no BN")
    grid(ax, x="block", y="|gradient|, 1 at the end", log=True)
    ax.legend(loc="best")


def downsampling(canvas: Canvas, results: Sequence[tuple[str, Coverage]]) -> None:
    """A pair of maps for each block, of the shortcut and of the branch: what is dark is never read."""
    blocks = [(label, i, result) for label, result in results for i in range(len(result.block))]
    across = min(len(blocks), 2 if is_narrow(canvas) else 4)
    rows = -(-len(blocks) // across)
    canvas.set_figheight(3.6 * rows)
    axes = canvas.subplots(2 * rows, across, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for number, (label, i, result) in enumerate(blocks):
        row, column = divmod(number, across)
        name = f"{label}\n{result.block[i]}" if len(results) > 1 else result.block[i]
        for place, (part, maps, share) in enumerate(
            (("shortcut", result.shortcut_map, result.shortcut), ("branch", result.branch_map, result.branch))
        ):
            ax = axes[2 * row + place][column]
            read = not np.isnan(maps[i]).any()
            said = f"{part}: {100 * share[i]:.0f} % unread" if read else f"no {part}"
            ax.set_title(said if place else f"{name}\n{said}")
            if read:
                ax.imshow(maps[i] > 0, cmap="Greys_r", vmin=-0.6, vmax=1.2, interpolation="nearest")


def amplification(canvas: Canvas, results: Sequence[tuple[str, Amplification]]) -> None:
    """Growth by depth."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        line(ax, i, label, result.growth, low=result.low, high=result.high)
    ax.axhline(1, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
    grid(ax, x="block", y="relative change / that of the image", log=True)
    legend(ax, results)


def translation(canvas: Canvas, results: Sequence[tuple[str, Translation]]) -> None:
    """Error, and how alike the representations are with the pool and without."""
    first, second = beside(canvas, 2)
    for i, (label, result) in enumerate(results):
        line(first, i, label, result.error, result.shift)
        line(second, i, label, result.pooled, result.shift)
        second.plot(result.shift, result.unpooled, color=color(i), linewidth=1.2, linestyle=(0, (4, 2)))
    grid(first, x="shift (pixels)", y="error (%)")
    grid(second, x="shift (pixels)", y="cosine with the unshifted")
    first.set_ylim(0, 100)
    legend(first, results)


def gates(canvas: Canvas, results: Sequence[tuple[str, Gates]]) -> None:
    """Openness by depth."""
    ax = canvas.subplots()
    for i, (label, result) in enumerate(results):
        line(ax, i, label, result.mean, low=result.mean - result.across, high=result.mean + result.across)
    grid(ax, x="gated block", y="gate (1: the branch passes)")
    ax.set_ylim(0, 1)
    legend(ax, results)


def pruning(canvas: Canvas, results: Sequence[tuple[str, Curve]]) -> None:
    """Error against blocks gone, and against speed; a ring around what was chosen."""
    first, second = beside(canvas, 2, sharey=True)
    for i, (label, curve) in enumerate(results):
        for ax, x in ((first, curve.removed), (second, curve.speedup)):
            line(ax, i, label, curve.error, x)
            at = curve.chosen
            ax.plot([x[at]], [curve.error[at]], "o", color=color(i), markersize=10, markerfacecolor="none")
    grid(first, x="blocks gone", y="error (%)")
    grid(second, x="times as fast", y="", whole=False)
    legend(first, results)


def shattering(canvas: Canvas, results: Sequence[tuple[str, Shattering]]) -> None:
    """A panel for each kind of network, a line for each depth, noise dashed."""
    _, result = results[0]
    axes = beside(canvas, 4, sharey=True)
    kinds = (
        ("plain", result.plain), ("plain, BN", result.plain_bn),
        ("residual", result.residual), ("residual, BN", result.residual_bn),
    )  # fmt: skip
    for ax, (title, curves) in zip(axes, kinds, strict=True):
        for i, (layers, values) in enumerate(zip(result.depth, curves, strict=True)):
            ax.plot(result.lag, values, color=LIGHT[i % len(LIGHT)], linewidth=1.3, label=f"{layers} layers")
        for noise in (result.white, result.brown):
            ax.plot(result.lag, noise, color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
        ax.set_title(title)
        grid(ax, x="lag", y="autocorrelation" if ax is axes[0] else "")
    handles, names = axes[0].get_legend_handles_labels()
    canvas.legend(handles, names, loc="outside lower center", ncols=2 if is_narrow(canvas) else len(names))


def along_images(canvas: Canvas, results: Sequence[tuple[str, AlongImages]]) -> None:
    """The four twins of each network; without BN dashed."""
    ax = canvas.subplots()
    for label, result in results:
        prefix = f"{label}: " if len(results) > 1 else ""
        for i, (kind, bn, none) in enumerate(
            (("residual", result.residual_bn, result.residual), ("plain", result.plain_bn, result.plain))
        ):
            ax.plot(result.lag, bn, color=color(i), linewidth=1.6, label=f"{prefix}{kind}, BN")
            dashed = (0, (4, 2))
            ax.plot(result.lag, none, color=color(i), linewidth=1.2, linestyle=dashed, label=f"{prefix}{kind}, no BN")
    grid(ax, x="lag (points of the line)", y="autocorrelation")
    ax.legend(loc="best")


def decay(canvas: Canvas, results: Sequence[tuple[str, Decay]]) -> None:
    """Measured points, and the fitted laws as lines."""
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
        ax.plot(result.depth, values, MARKS[i], color=color(i), markersize=5)
        ax.plot(layers, law, color=color(i), linewidth=1.2, label=label)
    grid(ax, x="layers", y="correlation of gradients")
    ax.legend(loc="best")


def identity(canvas: Canvas, results: Sequence[tuple[str, Fits]]) -> None:
    """Error that is left, by depth."""
    _, result = results[0]
    ax = canvas.subplots()
    line(ax, 0, "residual", result.residual, result.depth, low=result.residual_low, high=result.residual_high)
    line(ax, 1, "plain", result.plain, result.depth, low=result.plain_low, high=result.plain_high)
    grid(ax, x="layers", y="|y - x|^2 / |x|^2", log=True)
    ax.legend(loc="best")


def attribution(canvas: Canvas, results: Sequence[tuple[str, Attribution]]) -> None:
    """Images with the map of the class that was chosen over them, network by network."""
    count = min(len(result.label) for _, result in results)
    across = min(count, 3 if is_narrow(canvas) else 4)
    rows = -(-count // across)
    canvas.set_figheight((1.5 if is_narrow(canvas) else 1.9) * rows * len(results))
    axes = canvas.subplots(rows * len(results), across, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for number, (label, result) in enumerate(results):
        for i in range(count):
            row, column = divmod(i, across)
            ax = axes[number * rows + row][column]
            image = result.images[i]
            ax.imshow(image if image.shape[2] == 3 else image.mean(2), cmap="gray", vmin=0, vmax=1)
            height, width = image.shape[:2]
            ax.imshow(
                np.maximum(result.maps[i], 0), cmap="inferno", alpha=0.55, interpolation="bilinear",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )  # fmt: skip
            name = shorten(result.called[i], 18, placeholder="…")
            ax.set_title(f"{label}\n{name}" if len(results) > 1 and i == 0 else name)
