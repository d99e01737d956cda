"""Sums up each figure of the probes in a sentence: on the page, in the terminal and in the JSON."""

import numpy as np

from reslab.probes.attribution import Attribution
from reslab.probes.coverage import Coverage
from reslab.probes.gates import Gates
from reslab.probes.gradients import Gradients, Initial
from reslab.probes.identity import Fits
from reslab.probes.lesions import Deletions, Depth, Lesions, Permutations
from reslab.probes.paths import Paths
from reslab.probes.perturbations import Amplification, Translation
from reslab.probes.responses import Responses, Signal
from reslab.probes.shares import Shares
from reslab.probes.shattering import AlongImages, Decay, Shattering


def _percent(value: float) -> str:
    return f"{value:.2f} %"


def _share(value: float) -> str:
    """A fraction in per cent, with two digits if it is small."""
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"


def responses(found: Responses) -> str:
    """How strongly the layers respond."""
    shown = found.of(3) if (found.kernel == 3).any() else found
    return (
        f"median std of {len(shown.std)} layers {np.median(shown.std):.3f}, "
        f"strongest {shown.layer[int(shown.std.argmax())]} ({shown.std.max():.3f})"
    )


def signal(found: Signal) -> str:
    """Size and sign of what runs along the shortcuts."""
    return (
        f"the signal goes from {found.rms[0]:.2f} at the first block to {found.rms[-1]:.2f} after the last; at most "
        f"{100 * found.negative.max():.1f} % of its values are below zero"
    )


def shares(found: Shares) -> str:
    """Branch against shortcut, and the blocks that add next to nothing."""
    off = found.switched_off()
    least = int(found.ratio.argmin())
    return (
        f"median |F(x)|/|x| {np.median(found.ratio):.2f}, smallest in {found.block[least]} ({found.ratio[least]:.3f}); "
        f"{len(off)} of {len(found.block)} blocks add under 5 %{': ' + ', '.join(off) if off else ''}"
    )


def lesions(found: Lesions) -> str:
    """The effect of removing a single block."""
    risen = found.error - found.whole_error
    same = risen[(found.changes_shape == 0) & ~np.isnan(risen)]
    said = f"error {_percent(found.whole_error)} with all blocks; "
    if len(same):
        said += f"without one block that keeps the shape, {np.median(same):+.2f} points in the median, "
    worst = int(np.nanargmax(risen))
    said += f"at worst {risen[worst]:+.2f} ({found.block[worst]})"
    return said


def deletions(found: Deletions) -> str:
    """The error with blocks deleted at random."""
    half = int(np.abs(found.deleted - found.blocks / 2).argmin())
    without = [f"{_percent(found.median[i])} without {found.deleted[i]}" for i in dict.fromkeys((1, half)) if i]
    return f"median error {_percent(found.median[0])} with all {found.blocks} blocks, {', '.join(without)}"


def permutations(found: Permutations) -> str:
    """The error with blocks in another order."""
    near, far = int(found.tau.argmax()), int(found.tau.argmin())
    return (
        f"error {_percent(found.whole_error)} as trained, {_percent(found.error[near])} at tau {found.tau[near]:.2f}, "
        f"{_percent(found.error[far])} at tau {found.tau[far]:.2f}"
    )


def depth(found: Depth) -> str:
    """How many blocks are needed."""
    over = np.nonzero(found.error > found.error[0] + found.points)[0]
    gone = (int(over[0]) if len(over) else len(found.error)) - 1
    return (
        f"{gone} of {found.needed + gone} blocks can be deleted before the error rises from {_percent(found.error[0])} "
        f"by more than {found.points:g} point; {found.needed} are needed"
    )


def paths(found: Paths) -> str:
    """The path lengths that the gradient comes by."""
    return (
        f"95 % of the gradient comes through paths of {found.shortest} to {found.longest} of {len(found.length) - 1} "
        f"blocks (mean {found.mean_length:.1f}), {_share(found.share_of_effective)} of all paths"
    )


def gradients(found: Gradients) -> str:
    """Norm of the gradient from block to block."""
    ratio = found.ratio[:-1]
    return (
        f"|dE/dx| {found.norm[0]:.3g} at the first block, {found.norm[-1]:.3g} after the last; ratio across a block "
        f"{np.median(ratio):.2f} in the median, {ratio.min():.2f} to {ratio.max():.2f}"
    )


def initial(found: Initial) -> str:
    """Growth of the gradient in four untrained twins."""
    return (
        f"from the end to the first block the gradient grows by a factor of {found.residual_bn[0]:.3g} (residual, BN), "
        f"{found.plain_bn[0]:.3g} (plain, BN), {found.residual[0]:.3g} (residual) and {found.plain[0]:.3g} (plain)"
    )


def downsampling(found: Coverage) -> str:
    """Share of positions that no layer reads."""
    parts = []
    for i, name in enumerate(found.block):
        shortcut = "no shortcut" if np.isnan(found.shortcut[i]) else f"shortcut {100 * found.shortcut[i]:.0f} %"
        parts.append(f"{name}: {shortcut}, branch {100 * found.branch[i]:.0f} %, both {100 * found.whole[i]:.0f} %")
    return "never read: " + "; ".join(parts)


def amplification(found: Amplification) -> str:
    """Growth of a small change."""
    return (
        f"a perturbation of {found.size:g} of the image's norm is, relative to the signal, {found.growth[-1]:.2f} "
        "times as large at the end"
    )


def translation(found: Translation) -> str:
    """The effect of shifting the image."""
    last = int(found.shift.argmax())
    return (
        f"shifted by {found.shift[last]} pixels: error {_percent(found.error[last])} (unshifted "
        f"{_percent(found.error[0])}), cosine similarity {found.pooled[last]:.2f} after the pool, "
        f"{found.unpooled[last]:.2f} before it"
    )


def gates(found: Gates) -> str:
    """How far the gates are open."""
    return f"gates are {100 * found.mean.mean():.0f} % open on average, {100 * found.shut.mean():.0f} % nearly closed"


def shattering(found: Shattering) -> str:
    """Autocorrelation of gradients in untrained networks."""
    deep = int(found.depth.argmax())
    return (
        f"at lag 1 and {found.depth[deep]} layers, with BN: plain {found.plain_bn[deep, 1]:.2f}, residual "
        f"{found.residual_bn[deep, 1]:.2f}; without: {found.plain[deep, 1]:.2f} and {found.residual[deep, 1]:.2f}; "
        f"brown noise {found.brown[1]:.2f}"
    )


def decay(found: Decay) -> str:
    """The fitted laws beside the paper's."""
    return (
        f"plain {found.plain_base:.3f}^L (paper 0.5), residual {found.residual_base:.3f}^L (paper 0.75), with BN "
        f"(L+1)^{found.residual_bn_power:.2f} (paper, for large L: L^-0.5)"
    )


def along_images(found: AlongImages) -> str:
    """Autocorrelation of gradients between images."""
    return (
        f"at lag 1: residual {found.residual_bn[1]:.2f} with BN, {found.residual[1]:.2f} without; plain "
        f"{found.plain_bn[1]:.2f} and {found.plain[1]:.2f}"
    )


def identity(found: Fits) -> str:
    """How well stacks of layers learn to copy."""
    return (
        f"at {found.depth[0]} layers plain stacks keep {found.plain[0]:.2g} of the error, residual ones "
        f"{found.residual[0]:.2g}; at {found.depth[-1]}, {found.plain[-1]:.2g} and {found.residual[-1]:.2g}"
    )


def attribution(found: Attribution) -> str:
    """The classes that were predicted."""
    return f"{len(found.label)} images, predicted as {', '.join(found.called)}"
