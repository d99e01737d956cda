"""The catalogue of the probes' figures: what each measures, costs and shows, how to read it, and what a paper found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from torch import nn

from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.probes import drawing
from reslab.probes.attribution import Attribution, class_activation
from reslab.probes.chain import Tick, chain_of
from reslab.probes.coverage import Coverage, downsampling
from reslab.probes.gates import Gates, gates
from reslab.probes.gradients import Gradients, Initial, at_initialisation, gradients
from reslab.probes.identity import Fits, fit_identity
from reslab.probes.lesions import (
    Deletions,
    Depth,
    Lesions,
    Permutations,
    effective_depth,
    lesions,
    permutations,
    random_deletions,
)
from reslab.probes.paths import Paths, paths
from reslab.probes.perturbations import Amplification, Translation, amplification, translation
from reslab.probes.responses import Responses, Signal, responses, signal
from reslab.probes.result import Result
from reslab.probes.seam import Sample, own
from reslab.probes.shares import Shares, residual_share
from reslab.probes.shattering import AlongImages, Decay, Shattering, along_images, decay_laws, shattering

R = TypeVar("R", bound=Result)
BALDUZZI = "Balduzzi et al. 2017, arXiv 1702.08591"
VEIT = "Veit, Wilber, Belongie 2016, arXiv 1605.06431"


@dataclass(frozen=True)
class Figure(Generic[R]):
    """One figure of the page."""

    group: str
    """the option of the command that asks for it"""
    title: str
    kind: type[R]
    measure: Callable[[nn.Module, Sample, Tick], R]
    draw: Callable[[Any, Any], None]
    say: Callable[[R], str]
    """the result in a sentence"""
    read: tuple[str, str]
    """how to read it, in two lines"""
    paper: str
    """what was found there"""
    cite: str
    passes: Callable[[int], float]
    """about how many forward passes of an image it costs, for each image, given the number of blocks"""
    images: int | None = None
    """takes at most so many of the sample; None: all"""
    alone: float | None = None
    """of networks of its own, whatever the weights: about how many seconds it takes"""

    @property
    def of_logits(self) -> bool:
        """Whether nothing is looked at but the logits, so that fused kernels stay on."""
        return self.kind in (Lesions, Deletions, Permutations, Depth)

    def sample(self, sample: Sample) -> Sample:
        """The images that it looks at."""
        return sample if self.images is None else sample.some(self.images)

    def refused(self, net: nn.Module) -> str | None:
        """Why the network has no such figure; None where it has, as far as its structure tells."""
        try:
            self._needs(net)
        except InputError as reason:
            return str(reason)
        return None

    def _needs(self, net: nn.Module) -> None:
        judged = self.kind in (Lesions, Deletions, Depth, Permutations, Paths, Gradients, Attribution, Translation)
        if judged and self.alone is None and isinstance(net, Network) and not net.has_head:
            raise InputError(f"'{net.spec.name}' has no head here: its outputs are features, not classes")
        if self.kind in (Lesions, Deletions, Depth, Permutations):
            chain = chain_of(net)
            if not chain.deletable:
                raise InputError(f"'{chain.name}' has no block that can be deleted")
            slots = [link.slot for link in chain.links if link.slot is not None]
            if self.kind is Permutations and len(slots) == len(set(slots)):
                raise InputError(f"'{chain.name}' has no two blocks of one shape in a stage, so none can be swapped")
            return
        if self.alone is not None:
            return
        ours = own(net, f"the figure '{self.title}'")
        checks: dict[type[Result], tuple[bool, str]] = {
            Shares: (ours.spec.is_residual, "its blocks have no shortcut"),
            Paths: (ours.spec.is_residual, "its blocks have no shortcut"),
            Gates: (any(block.gate is not None for block in ours.blocks), "its blocks have no gates"),
            Coverage: (any(block.spec.stride > 1 for block in ours.blocks), "no block has a stride"),
            Attribution: (ours.spec.pool == "average" and ours.spec.stem.kind != "dense", "it ends in no average pool"),
            Translation: (ours.spec.stem.kind != "dense", "it takes vectors"),
        }
        holds, why = checks.get(self.kind, (True, ""))
        if not holds:
            raise InputError(f"'{ours.spec.name}': {why}")


def _spec_of(net: nn.Module) -> Network:
    return own(net, "gradients at initialisation")


def _shifts(sample: Sample) -> tuple[int, ...]:
    """Up to a quarter of the image's width, in powers of two."""
    return (0, *(2**i for i in range(12) if 2**i <= sample.x.shape[3] // 4))


def _percent(value: float) -> str:
    return f"{value:.2f} %"


def _share(value: float) -> str:
    """Of 1, with two digits where it is small."""
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"


def _say_responses(found: Responses) -> str:
    shown = found.of(3) if (found.kernel == 3).any() else found
    return (
        f"median std of {len(shown.std)} layers {np.median(shown.std):.3f}, "
        f"strongest {shown.layer[int(shown.std.argmax())]} ({shown.std.max():.3f})"
    )


def _say_signal(found: Signal) -> str:
    return (
        f"the signal goes from {found.rms[0]:.2f} at the first block to {found.rms[-1]:.2f} behind the last; at most "
        f"{100 * found.negative.max():.1f} % of its numbers are below zero"
    )


def _say_shares(found: Shares) -> str:
    off = found.switched_off()
    least = int(found.ratio.argmin())
    return (
        f"median |F(x)|/|x| {np.median(found.ratio):.2f}, least in {found.block[least]} ({found.ratio[least]:.3f}); "
        f"{len(off)} of {len(found.block)} blocks add under 5 %{': ' + ', '.join(off) if off else ''}"
    )


def _say_lesions(found: Lesions) -> str:
    risen = found.error - found.whole_error
    same = risen[(found.changes_shape == 0) & ~np.isnan(risen)]
    said = f"error {_percent(found.whole_error)} whole; "
    if len(same):
        said += f"without one block that keeps the shape {np.median(same):+.2f} points in the median, "
    worst = int(np.nanargmax(risen))
    said += f"at worst {risen[worst]:+.2f} ({found.block[worst]})"
    return said


def _say_deletions(found: Deletions) -> str:
    half = int(np.abs(found.deleted - found.blocks / 2).argmin())
    without = [f"{_percent(found.median[i])} without {found.deleted[i]}" for i in dict.fromkeys((1, half)) if i]
    return f"median error {_percent(found.median[0])} with all {found.blocks} blocks, {', '.join(without)}"


def _say_permutations(found: Permutations) -> str:
    near, far = int(found.tau.argmax()), int(found.tau.argmin())
    return (
        f"error {_percent(found.whole_error)} as trained, {_percent(found.error[near])} at tau {found.tau[near]:.2f}, "
        f"{_percent(found.error[far])} at tau {found.tau[far]:.2f}"
    )


def _say_depth(found: Depth) -> str:
    over = np.nonzero(found.error > found.error[0] + found.points)[0]
    gone = (int(over[0]) if len(over) else len(found.error)) - 1
    return (
        f"{gone} of {found.needed + gone} blocks can go before the error has risen from {_percent(found.error[0])} by "
        f"more than {found.points:g} point; {found.needed} remain"
    )


def _say_paths(found: Paths) -> str:
    return (
        f"95 % of the gradient comes by paths of {found.shortest} to {found.longest} of {len(found.length) - 1} "
        f"blocks (mean {found.mean_length:.1f}), {_share(found.share_of_effective)} of all paths"
    )


def _say_gradients(found: Gradients) -> str:
    ratio = found.ratio[:-1]
    return (
        f"|dE/dx| {found.norm[0]:.3g} at the first block, {found.norm[-1]:.3g} behind the last; across a block the "
        f"ratio is {np.median(ratio):.2f} in the median, {ratio.min():.2f} to {ratio.max():.2f}"
    )


def _say_initial(found: Initial) -> str:
    return (
        f"from the end to the first block the gradient grows by {found.residual_bn[0]:.3g} (residual, BN), "
        f"{found.plain_bn[0]:.3g} (plain, BN), {found.residual[0]:.3g} (residual) and {found.plain[0]:.3g} (plain)"
    )


def _say_downsampling(found: Coverage) -> str:
    parts = []
    for i, name in enumerate(found.block):
        shortcut = "no shortcut" if np.isnan(found.shortcut[i]) else f"shortcut {100 * found.shortcut[i]:.0f} %"
        parts.append(f"{name}: {shortcut}, branch {100 * found.branch[i]:.0f} %, both {100 * found.whole[i]:.0f} %")
    return "never read: " + "; ".join(parts)


def _say_amplification(found: Amplification) -> str:
    return f"a change of {found.size:g} of the image is {found.growth[-1]:.2f} times as large, relatively, at the end"


def _say_translation(found: Translation) -> str:
    last = int(found.shift.argmax())
    return (
        f"shifted by {found.shift[last]} pixels: error {_percent(found.error[last])} (unshifted "
        f"{_percent(found.error[0])}), cosine {found.pooled[last]:.2f} behind the pool, {found.unpooled[last]:.2f} "
        "before it"
    )


def _say_gates(found: Gates) -> str:
    return f"gates are {100 * found.mean.mean():.0f} % open on average, {100 * found.shut.mean():.0f} % nearly shut"


def _say_shattering(found: Shattering) -> str:
    deep = int(found.depth.argmax())
    return (
        f"at lag 1 and {found.depth[deep]} layers, with BN: plain {found.plain_bn[deep, 1]:.2f}, residual "
        f"{found.residual_bn[deep, 1]:.2f}; without: {found.plain[deep, 1]:.2f} and {found.residual[deep, 1]:.2f}; "
        f"brown noise {found.brown[1]:.2f}"
    )


def _say_decay(found: Decay) -> str:
    return (
        f"plain {found.plain_base:.3f}^L (paper 0.5), residual {found.residual_base:.3f}^L (paper 0.75), with BN "
        f"(L+1)^{found.residual_bn_power:.2f} (paper, for great L: L^-0.5)"
    )


def _say_along_images(found: AlongImages) -> str:
    return (
        f"at lag 1: residual {found.residual_bn[1]:.2f} with BN, {found.residual[1]:.2f} without; plain "
        f"{found.plain_bn[1]:.2f} and {found.plain[1]:.2f}"
    )


def _say_identity(found: Fits) -> str:
    return (
        f"at {found.depth[0]} layers plain stacks leave {found.plain[0]:.2g} of the error, residual ones "
        f"{found.residual[0]:.2g}; at {found.depth[-1]}, {found.plain[-1]:.2g} and {found.residual[-1]:.2g}"
    )


def _say_attribution(found: Attribution) -> str:
    return f"{len(found.label)} images, taken for {', '.join(found.called)}"


FIGURES: dict[str, Figure[Any]] = {
    "responses": Figure(
        "responses",
        "Responses of the layers",
        Responses,
        lambda net, sample, _tick: responses(net, sample),
        drawing.responses,
        _say_responses,
        (
            "The standard deviation of each 3x3 layer's output, behind BN and before the activation or the addition.",
            "Left in the order of the layers, right from the strongest to the weakest: the lower, the closer to zero.",
        ),
        "Residual networks have generally smaller responses than their plain twins, and deeper ones smaller still: "
        "the branches are closer to zero than layers without shortcuts are (Fig. 7).",
        "He, Zhang, Ren, Sun 2015, arXiv 1512.03385",
        lambda _n: 2,
    ),
    "signal": Figure(
        "responses",
        "The signal along the shortcuts",
        Signal,
        lambda net, sample, _tick: signal(net, sample),
        drawing.signal,
        _say_signal,
        (
            "Left the size of what enters each block, the last point behind the last block.",
            "Right which share of it is below zero: none where a ReLU follows the addition.",
        ),
        "A ReLU behind the addition lets the signal only grow on its way forward; moved before the weights, it leaves "
        "the shortcut a range of both signs (section 4.1).",
        "He, Zhang, Ren, Sun 2016, arXiv 1603.05027",
        lambda _n: 2,
    ),
    "shares": Figure(
        "shares",
        "What each block adds",
        Shares,
        lambda net, sample, _tick: residual_share(net, sample),
        drawing.shares,
        _say_shares,
        (
            "Left how large the branch is against what it is added to; a block near the bottom is switched off.",
            "Right whether it points along (+1), across (0) or against (-1) it; median, and 80 % of the images.",
        ),
        "If identity mappings are near the optimum, the branches need only small corrections (section 3.1). Successive "
        "blocks refine one estimate (Greff, Srivastava, Schmidhuber 2016, arXiv 1612.07771).",
        "He, Zhang, Ren, Sun 2015, arXiv 1512.03385",
        lambda _n: 2.5,
    ),
    "lesions": Figure(
        "lesions",
        "One block deleted",
        Lesions,
        lambda net, sample, tick: lesions(net, sample, tick=tick),
        drawing.lesions,
        _say_lesions,
        (
            "Each point is the error without that block, nothing trained again; hollow where the block changes the "
            "shape.",
            "The thin line is the whole network; points on it are blocks that are not missed.",
        ),
        "Removing any one module of a 110-layer residual network, other than at a downsampling, barely changes the "
        "error; removing any layer of VGG takes it to chance (Fig. 3; on ImageNet Fig. 4).",
        VEIT,
        lambda n: (n + 3) / 2,
    ),
    "deletions": Figure(
        "lesions",
        "Many blocks deleted",
        Deletions,
        lambda net, sample, tick: random_deletions(net, sample, draws=10, tick=tick),
        drawing.deletions,
        _say_deletions,
        (
            "The median error without so many blocks, chosen at random; the band holds the middle half of the choices.",
            "A smooth climb is what an ensemble shows; a chain breaks at the first link.",
        ),
        "The error grows smoothly with the number of deleted modules (Fig. 5 (a)).",
        VEIT,
        lambda n: 7.0 * min(n, 14),
        500,
    ),
    "permutations": Figure(
        "lesions",
        "Blocks in another order",
        Permutations,
        lambda net, sample, tick: permutations(net, sample, draws=40, tick=tick),
        drawing.permutations,
        _say_permutations,
        (
            "Each point is an order made by swapping blocks of the same shape; left is the order that was trained.",
            "The further right, the more pairs stand the other way round.",
        ),
        "The error grows smoothly with the amount of reordering, measured by Kendall's tau (Fig. 5 (b)).",
        VEIT,
        lambda _n: 36.0,
        500,
    ),
    "depth": Figure(
        "lesions",
        "Effective depth",
        Depth,
        lambda net, sample, tick: effective_depth(net, sample, tick=tick),
        drawing.depth,
        _say_depth,
        (
            "Blocks are deleted one after another, those whose own lesion costs least first.",
            "Under the dashed line, a point above the whole network's error, it needs no more. The order is chosen on "
            "the images that the error is of, which flatters it a little.",
        ),
        "Not a figure of a paper; it follows the reading of a residual network as an ensemble of shallow ones.",
        VEIT,
        lambda n: 0.9 * n,
        1000,
    ),
    "paths": Figure(
        "paths",
        "Paths and the gradient that they bring",
        Paths,
        lambda net, sample, tick: paths(net, sample, tick=tick),
        drawing.paths,
        _say_paths,
        (
            "Left how many of the 2^n paths have a length; in the middle the gradient of a single one at the image.",
            "Right their product: by paths of which length the gradient comes.",
        ),
        "Path lengths are binomial, the gradient falls exponentially with the length, and in a network of 54 modules "
        "most of it comes by paths of 5 to 17, which are 0.45 % of all (Fig. 6).",
        VEIT,
        lambda n: 10.0 * min(n, 28),
        32,
    ),
    "gradients": Figure(
        "gradients",
        "Gradients by depth",
        Gradients,
        lambda net, sample, _tick: gradients(net, sample),
        drawing.gradients,
        _say_gradients,
        (
            "Left the gradient of the loss at each block's input; in the middle what the block multiplies it by.",
            "Right what comes back by the shortcuts alone: 1 is the term dE/dx_L, undiminished.",
        ),
        "With identity shortcuts and no ReLU behind the addition the gradient at the end reaches every block as it is "
        "(eq. 5); the ratio across residual blocks is near 1 (Zaeemzadeh, Rahnavard, Shah 2018, arXiv 1805.07477).",
        "He, Zhang, Ren, Sun 2016, arXiv 1603.05027",
        lambda _n: 10.0,
        64,
    ),
    "initial": Figure(
        "gradients",
        "Gradients at initialisation",
        Initial,
        lambda net, sample, _tick: at_initialisation(_spec_of(net).spec, sample),
        drawing.initial,
        _say_initial,
        (
            "The gradient at each block of four fresh networks that differ in shortcuts and BN alone.",
            "A line that leaves 1 by orders of magnitude explodes or vanishes on its way back.",
        ),
        "With BN neither forward nor backward signals vanish in plain networks, so that vanishing gradients are not "
        "what degrades them (section 4.1).",
        "He, Zhang, Ren, Sun 2015, arXiv 1512.03385",
        lambda _n: 60.0,
        64,
    ),
    "downsampling": Figure(
        "downsampling",
        "What downsampling discards",
        Coverage,
        lambda net, _sample, _tick: downsampling(net),
        drawing.downsampling,
        _say_downsampling,
        (
            "Each square is a position of the block's input; the dark ones are never read by that part of the block.",
            "A 1x1 layer of stride 2 reads one of four; a 3x3 layer or an average reads all.",
        ),
        "A 1x1 convolution of stride 2 ignores three quarters of its input: ResNet-B moves the stride to the 3x3 in "
        "the branch, ResNet-D averages on the shortcut (Fig. 2).",
        "He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv 1812.01187",
        lambda _n: 0.0,
        1,
    ),
    "amplification": Figure(
        "perturbations",
        "Growth of a small change",
        Amplification,
        lambda net, sample, _tick: amplification(net, sample),
        drawing.amplification,
        _say_amplification,
        (
            "A thousandth of the image is changed at random; the line is how large the change is at each depth.",
            "Relative to the signal there: above 1 the network amplifies what differs, below 1 it forgets it.",
        ),
        "Residual networks have been likened to differential amplifiers; no figure of a paper is reproduced here.",
        "",
        lambda _n: 4.0,
        500,
    ),
    "translation": Figure(
        "perturbations",
        "Shifted images",
        Translation,
        lambda net, sample, _tick: translation(net, sample, shifts=_shifts(sample)),
        drawing.translation,
        _say_translation,
        (
            "Left the error of images shifted to the right, the mean coming in at the border.",
            "Right how alike the features stay: behind the global average pool (solid) and before it (dashed).",
        ),
        "Global average pooling sums out the position, and so is more robust to translations of the input "
        "(section 3.2).",
        "Lin, Chen, Yan 2013, Network In Network, arXiv 1312.4400",
        lambda _n: 10.0,
        500,
    ),
    "shattering": Figure(
        "shattering",
        "Shattered gradients",
        Shattering,
        lambda _net, _sample, _tick: shattering(seeds=5),
        drawing.shattering,
        _say_shattering,
        (
            "How alike the gradients at inputs this far apart on a line are, in fresh fully connected networks.",
            "Dashed: brown noise (above) and white noise (at 0). None of this is of the weights that are looked at.",
        ),
        "Gradients of deep plain networks resemble white noise, those of shallow ones brown noise; shortcuts keep them "
        "alike far deeper (Fig. 1 and 2).",
        BALDUZZI,
        lambda _n: 0.0,
        1,
        10.0,
    ),
    "decay": Figure(
        "shattering",
        "The laws of their decay",
        Decay,
        lambda _net, _sample, _tick: decay_laws(),
        drawing.decay,
        _say_decay,
        (
            "Points: the correlation of gradients at two unlike inputs, where half of the units are active by coins.",
            "Lines: the fitted laws.",
        ),
        "With depth L the correlation falls as 2^-L in plain networks, as (3/4)^L with shortcuts, and as L^-1/2 with "
        "shortcuts and BN (theorems 1 to 3).",
        BALDUZZI,
        lambda _n: 0.0,
        1,
        4.0,
    ),
    "along-images": Figure(
        "shattering",
        "Shattering between images",
        AlongImages,
        lambda net, sample, _tick: along_images(own(net, "shattering between images").spec, sample),
        drawing.along_images,
        _say_along_images,
        (
            "The same in fresh convolutional twins of the network, along lines from one image to another.",
            "The faster a line falls, the sooner the gradient at one image says nothing about the next.",
        ),
        "The same is shown for convolutional networks (section 2).",
        BALDUZZI,
        lambda _n: 240.0,
        6,
    ),
    "identity": Figure(
        "identity",
        "Fitting the identity",
        Fits,
        lambda _net, _sample, _tick: fit_identity(),
        drawing.identity,
        _say_identity,
        (
            "What plain and residual stacks leave of the error when they are trained to copy their input, by depth.",
            "Median and range of three seeds; fully connected, none of it of the weights that are looked at.",
        ),
        "The degradation problem suggests that solvers have difficulty in approximating identity mappings by several "
        "nonlinear layers; with shortcuts the weights may go to zero (section 3.1).",
        "He, Zhang, Ren, Sun 2015, arXiv 1512.03385",
        lambda _n: 0.0,
        1,
        20.0,
    ),
    "attribution": Figure(
        "attribution",
        "What speaks for the class",
        Attribution,
        lambda net, sample, _tick: class_activation(net, sample),
        drawing.attribution,
        _say_attribution,
        (
            "The class activation map of the class that the network chose (its number above), over the image.",
            "Bright positions raise that class's logit, of which the map is an exact decomposition.",
        ),
        "Behind a global average pool the logit is a sum over positions, so that each position's part is known "
        "(eq. 2).",
        "Zhou, Khosla, Lapedriza, Oliva, Torralba 2016, arXiv 1512.04150",
        lambda _n: 2.0,
        8,
    ),
    "gates": Figure(
        "gates",
        "Openness of the gates",
        Gates,
        lambda net, sample, _tick: gates(net, sample),
        drawing.gates,
        _say_gates,
        (
            "The mean of each block's gate: 1 lets the branch pass, 0 the input.",
            "The band is how much it differs from image to image.",
        ),
        "Most gates of a trained Highway network are shut for most inputs, and which are open depends on the input "
        "(Fig. 2).",
        "Srivastava, Greff, Schmidhuber 2015, arXiv 1507.06228",
        lambda _n: 2.0,
    ),
}
"""In the order of the page."""

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(figure.group for figure in FIGURES.values()))
"""The options of the command."""
