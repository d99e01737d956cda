"""The catalogue of the probes' figures: what each measures, costs and shows, how to read it, and what a paper found."""

from typing import Any

from torch import nn

from reslab.nets.network import Network
from reslab.probes import costs, plots, sentences
from reslab.probes.attribution import Attribution, class_activation
from reslab.probes.coverage import Coverage, downsampling
from reslab.probes.figure import Figure
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
from reslab.probes.seam import Sample, own
from reslab.probes.shares import Shares, residual_share
from reslab.probes.shattering import AlongImages, Decay, Shattering, along_images, decay_laws, shattering

BALDUZZI = "Balduzzi et al. 2017, arXiv 1702.08591"
VEIT = "Veit, Wilber, Belongie 2016, arXiv 1605.06431"


def _spec_of(net: nn.Module) -> Network:
    return own(net, "gradients at initialisation")


def _shifts(sample: Sample) -> tuple[int, ...]:
    """Up to a quarter of the image's width, in powers of two."""
    return (0, *(2**i for i in range(12) if 2**i <= sample.x.shape[3] // 4))


FIGURES: dict[str, Figure[Any]] = {
    "responses": Figure(
        "responses",
        "Responses of the layers",
        Responses,
        lambda net, sample, _tick: responses(net, sample),
        plots.responses,
        sentences.responses,
        (
            "The standard deviation of each 3x3 layer's output, after BN and before the activation or the addition.",
            "First panel: in the order of the layers. Second: from the strongest to the weakest; low is close to zero.",
        ),
        "Residual networks have generally smaller responses than their plain twins, and deeper ones smaller still: "
        "the branches are closer to zero than layers without shortcuts are (Fig. 7).",
        "He, Zhang, Ren, Sun 2015, arXiv 1512.03385",
        costs.alike(1.7),
    ),
    "signal": Figure(
        "responses",
        "The signal along the shortcuts",
        Signal,
        lambda net, sample, _tick: signal(net, sample),
        plots.signal,
        sentences.signal,
        (
            "First panel: the root mean square of each block's input; the last point is after the last block.",
            "Second: the fraction of its values below zero; none where a ReLU follows the addition.",
        ),
        "With a ReLU after the addition, the signal can only grow on its way forward; with pre-activation it can take "
        "both signs (section 4.1).",
        "He, Zhang, Ren, Sun 2016, arXiv 1603.05027",
        costs.alike(1.7),
    ),
    "shares": Figure(
        "shares",
        "What each block adds",
        Shares,
        lambda net, sample, _tick: residual_share(net, sample),
        plots.shares,
        sentences.shares,
        (
            "First panel: the norm of the branch relative to that of the shortcut; a block near the bottom adds almost "
            "nothing.",
            "Second: the cosine between the two: same direction (+1), orthogonal (0) or opposite (-1). Lines are "
            "medians; bands hold 80 % of the images.",
        ),
        "If identity mappings are near the optimum, the branches need only small corrections (section 3.1). Successive "
        "blocks refine one estimate (Greff, Srivastava, Schmidhuber 2016, arXiv 1612.07771).",
        "He, Zhang, Ren, Sun 2015, arXiv 1512.03385",
        costs.alike(1.7),
    ),
    "lesions": Figure(
        "lesions",
        "One block deleted",
        Lesions,
        lambda net, sample, tick: lesions(net, sample, tick=tick),
        plots.lesions,
        sentences.lesions,
        (
            "Each point is the error after deleting that block, without retraining; hollow where the block changes the "
            "shape.",
            "The thin line is the error of the whole network; deleting a block on that line makes no difference.",
        ),
        "Removing any one module of a 110-layer residual network, other than at a downsampling, barely changes the "
        "error; removing any layer of VGG takes it to chance (Fig. 3; on ImageNet Fig. 4).",
        VEIT,
        costs.lesions,
    ),
    "deletions": Figure(
        "lesions",
        "Many blocks deleted",
        Deletions,
        lambda net, sample, tick: random_deletions(net, sample, draws=costs.DRAWN, tick=tick),
        plots.deletions,
        sentences.deletions,
        (
            "The median error after deleting this many blocks at random; the band holds the middle half of the draws.",
            "An ensemble degrades smoothly; a chain fails as soon as one link is missing.",
        ),
        "The error grows smoothly with the number of deleted modules (Fig. 5 (a)).",
        VEIT,
        costs.deletions,
        500,
    ),
    "permutations": Figure(
        "lesions",
        "Blocks in another order",
        Permutations,
        lambda net, sample, tick: permutations(net, sample, draws=costs.ORDERS, tick=tick),
        plots.permutations,
        sentences.permutations,
        (
            "Each point is one order of the blocks, made by swapping blocks of the same shape; the trained order is on "
            "the left.",
            "The further right, the more pairs of blocks have changed order.",
        ),
        "The error grows smoothly with the amount of reordering, measured by Kendall's tau (Fig. 5 (b)).",
        VEIT,
        costs.permutations,
        500,
    ),
    "depth": Figure(
        "lesions",
        "Effective depth",
        Depth,
        lambda net, sample, tick: effective_depth(net, sample, tick=tick),
        plots.depth,
        sentences.depth,
        (
            "Blocks are deleted one after another, starting with those whose own deletion costs least.",
            "Below the dashed line the error is at most one percentage point above that of the whole network. The "
            "order is chosen on the same images as the error is measured on, so it is slightly optimistic.",
        ),
        "Not a figure of the paper; it follows from its view of a residual network as an ensemble of shallow ones.",
        VEIT,
        costs.depth,
        1000,
    ),
    "paths": Figure(
        "paths",
        "Paths and their share of the gradient",
        Paths,
        lambda net, sample, tick: paths(net, sample, tick=tick),
        plots.paths,
        sentences.paths,
        (
            "First panel: the distribution of the lengths of the 2^n paths. Second: the gradient at the image along a "
            "single path of each length.",
            "Third: the product of both, the share of the gradient that flows through paths of each length.",
        ),
        "Path lengths are binomially distributed, the gradient falls exponentially with the length, and in a network "
        "of 54 modules most of it flows through paths of 5 to 17 modules, 0.45 % of all paths (Fig. 6).",
        VEIT,
        costs.paths,
        32,
    ),
    "gradients": Figure(
        "gradients",
        "Gradients by depth",
        Gradients,
        lambda net, sample, _tick: gradients(net, sample),
        plots.gradients,
        sentences.gradients,
        (
            "First panel: the norm of the loss's gradient at each block's input. Second: its ratio across the block.",
            "Third: the part that flows back through the shortcuts alone; 1 means that dE/dx_L arrives undiminished.",
        ),
        "With identity shortcuts and no ReLU after the addition, the gradient at the end reaches every block unchanged "
        "(eq. 5); the ratio across residual blocks is near 1 (Zaeemzadeh, Rahnavard, Shah 2018, arXiv 1805.07477).",
        "He, Zhang, Ren, Sun 2016, arXiv 1603.05027",
        costs.alike(5),
        64,
    ),
    "initial": Figure(
        "gradients",
        "Gradients at initialisation",
        Initial,
        lambda net, sample, _tick: at_initialisation(_spec_of(net).spec, sample),
        plots.initial,
        sentences.initial,
        (
            "The gradient at each block of four untrained networks that differ only in shortcuts and BN.",
            "Gradients explode or vanish where a line departs from 1 by orders of magnitude.",
        ),
        "With BN, neither forward nor backward signals vanish in plain networks, so vanishing gradients are not the "
        "cause of degradation (section 4.1).",
        "He, Zhang, Ren, Sun 2015, arXiv 1512.03385",
        costs.alike(28),
        64,
        of_weights=False,
    ),
    "downsampling": Figure(
        "downsampling",
        "What downsampling discards",
        Coverage,
        lambda net, _sample, _tick: downsampling(net),
        plots.downsampling,
        sentences.downsampling,
        (
            "Each square is a position of the block's input; dark ones are never read by that part of the block.",
            "A 1x1 layer of stride 2 reads one position of four; a 3x3 layer or average pooling reads all.",
        ),
        "A 1x1 convolution of stride 2 ignores three quarters of its input: ResNet-B moves the stride to the branch's "
        "3x3 convolution, ResNet-D puts average pooling before the shortcut's 1x1 (Fig. 2).",
        "He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv 1812.01187",
        costs.alike(0),
        1,
        of_weights=False,
    ),
    "amplification": Figure(
        "perturbations",
        "Growth of a small perturbation",
        Amplification,
        lambda net, sample, _tick: amplification(net, sample),
        plots.amplification,
        sentences.amplification,
        (
            "Random noise of a thousandth of the image's norm is added; the line is the size of the change at each "
            "depth, relative to the signal there.",
            "Above 1 the network amplifies the perturbation, below 1 it dampens it.",
        ),
        "Residual networks have been likened to differential amplifiers; no figure of a paper is reproduced here.",
        "",
        costs.alike(2.2),
        500,
    ),
    "translation": Figure(
        "perturbations",
        "Shifted images",
        Translation,
        lambda net, sample, _tick: translation(net, sample, shifts=_shifts(sample)),
        plots.translation,
        sentences.translation,
        (
            "First panel: the error on images shifted to the right; the border is filled with the mean.",
            "Second: cosine similarity of the features after the global average pool (solid) and before it (dashed).",
        ),
        "Global average pooling sums out the spatial information, and so is more robust to translations of the input "
        "(section 3.2).",
        "Lin, Chen, Yan 2013, Network In Network, arXiv 1312.4400",
        costs.alike(6),
        500,
    ),
    "shattering": Figure(
        "shattering",
        "Shattered gradients",
        Shattering,
        lambda _net, _sample, _tick: shattering(seeds=5),
        plots.shattering,
        sentences.shattering,
        (
            "The correlation of the gradients at inputs this far apart on a line, in untrained fully connected "
            "networks.",
            "Dashed: brown noise (above) and white noise (at 0). The figure does not depend on the weights.",
        ),
        "Gradients of deep plain networks resemble white noise, those of shallow ones brown noise; with shortcuts they "
        "stay correlated at far greater depth (Fig. 1 and 2).",
        BALDUZZI,
        costs.alike(0),
        1,
        10.0,
        of_weights=False,
    ),
    "decay": Figure(
        "shattering",
        "How the correlation of gradients decays with depth",
        Decay,
        lambda _net, _sample, _tick: decay_laws(),
        plots.decay,
        sentences.decay,
        (
            "Points: the correlation of gradients at two inputs, where a random half of the units is active for each.",
            "Lines: the fitted laws.",
        ),
        "With depth L the correlation falls as 2^-L in plain networks, as (3/4)^L with shortcuts, and as L^-1/2 with "
        "shortcuts and BN (theorems 1 to 3).",
        BALDUZZI,
        costs.alike(0),
        1,
        4.0,
        of_weights=False,
    ),
    "along-images": Figure(
        "shattering",
        "Shattering between images",
        AlongImages,
        lambda net, sample, _tick: along_images(own(net, "shattering between images").spec, sample),
        plots.along_images,
        sentences.along_images,
        (
            "The same in untrained convolutional twins of the network, along lines from one image to another.",
            "The faster a line falls, the less the gradient at one image says about that at the next.",
        ),
        "The same is shown for convolutional networks (section 2).",
        BALDUZZI,
        costs.alike(290),
        6,
        of_weights=False,
    ),
    "identity": Figure(
        "identity",
        "Fitting the identity",
        Fits,
        lambda _net, _sample, _tick: fit_identity(),
        plots.identity,
        sentences.identity,
        (
            "The remaining error after plain and residual stacks were trained to copy their input, by depth.",
            "Median and range of three random seeds; fully connected networks, independent of the weights.",
        ),
        "The degradation problem suggests that solvers have difficulty in approximating identity mappings by several "
        "nonlinear layers; with shortcuts they only have to drive the weights towards zero (section 3.1).",
        "He, Zhang, Ren, Sun 2015, arXiv 1512.03385",
        costs.alike(0),
        1,
        20.0,
        of_weights=False,
    ),
    "attribution": Figure(
        "attribution",
        "What supports the predicted class",
        Attribution,
        lambda net, sample, _tick: class_activation(net, sample),
        plots.attribution,
        sentences.attribution,
        (
            "The class activation map of the predicted class (named above), over the image.",
            "Bright positions raise that class's logit; the map is an exact decomposition of the logit.",
        ),
        "After global average pooling the logit is a sum over positions, so that the contribution of each is known "
        "(eq. 2).",
        "Zhou, Khosla, Lapedriza, Oliva, Torralba 2016, arXiv 1512.04150",
        costs.alike(6),
        8,
    ),
    "gates": Figure(
        "gates",
        "Openness of the gates",
        Gates,
        lambda net, sample, _tick: gates(net, sample),
        plots.gates,
        sentences.gates,
        (
            "The mean of each block's gate: at 1 only the branch passes, at 0 only the input.",
            "The band is the standard deviation over images.",
        ),
        "Most gates of a trained Highway network are closed for most inputs, and which ones open depends on the input "
        "(Fig. 2).",
        "Srivastava, Greff, Schmidhuber 2015, arXiv 1507.06228",
        costs.alike(2),
    ),
}
"""In the order of the page."""

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(figure.group for figure in FIGURES.values()))
"""The options of the command."""
