"""The paths through a residual network: how many of which length, and how much gradient each brings (Veit et al. 2016).

With n residual blocks there are 2^n paths from the image to the logits, since each block is either taken or skipped.
Path lengths are binomially distributed, and the gradient along a path falls with its length, so that most of the
gradient comes through paths much shorter than the network (arXiv 1605.06431, Fig. 6).
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from reslab.errors import InputError
from reslab.probes.backward import Backward, norms
from reslab.probes.chain import Tick
from reslab.probes.result import Floats, Ints, Result, as_floats, as_ints
from reslab.probes.seam import Sample, opened, own, residual_blocks

MOST_LENGTHS = 28
"""Up to so many blocks every length is measured; of more blocks so many lengths, and the others interpolated."""


@dataclass(frozen=True)
class Paths(Result):
    """By length, from 0 (shortcuts alone) to the number of residual blocks."""

    length: Ints
    share: Floats
    """of all paths, binomial: C(n, k) / 2^n"""
    norm: Floats
    """of one path's gradient at the image: the mean over images and paths of this length"""
    low: Floats
    """a tenth of the sampled paths (mean over the images) is at or below it; NaN where interpolated"""
    high: Floats
    weight: Floats
    """share * norm, normalised to a sum of 1: how much gradient comes by paths of this length"""
    shortest: int
    """effective lengths: between these two lie 95 % of the weight"""
    longest: int
    mean_length: float
    """weighted by gradient; of all paths alike it is n / 2"""
    n_images: int
    paths_per_length: int

    @property
    def share_of_effective(self) -> float:
        """The fraction of all paths that have an effective length."""
        return float(self.share[self.shortest : self.longest + 1].sum())


def path_lengths(blocks: int) -> Floats:
    """The share of paths of each length 0 ... n through n residual blocks: C(n, k) / 2^n (Veit et al., Fig. 6 (a))."""
    return as_floats([math.exp(_log_choose(blocks, k) - blocks * math.log(2)) for k in range(blocks + 1)])


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def paths(
    net: nn.Module, sample: Sample, *, per_length: int = 20, images: int = 32, seed: int = 0, tick: Tick | None = None
) -> Paths:
    """Measures the gradient of single paths at the image, by their length.

    As in the paper, a batch goes forward through the whole network; then for each length k blocks are drawn, and the
    gradient of the loss goes back through the branch of these and by the shortcut of the others. BN has its running
    statistics here, so that each image's gradient is its own. A block without a shortcut is on every path, and not
    counted.

    Args:
        net: the network.
        sample: the images, of which ``images`` are taken.
        per_length: paths drawn for each length (all of them, where there are no more).
        images: how many.
        seed: of the drawing.
        tick: told how far it is.
    """
    residual_blocks(net, "the probe of paths")
    net = own(net, "the probe of paths")
    if per_length < 1:
        raise InputError(f"the probe of paths draws 1 path or more of each length, got {per_length}")
    random = np.random.default_rng(seed)
    sample = sample.some(images)
    blocks = tuple(i for i, block in enumerate(net.blocks) if block.has_shortcut)
    n = len(blocks)
    measured = _lengths(n)
    drawn = {k: _drawn(blocks, k, per_length, random) for k in measured}
    sizes = {k: np.zeros(len(each)) for k, each in drawn.items()}
    done, steps = 0, len(measured) * -(-len(sample) // sample.batch)
    with opened(net):
        for batch in sample.parts():
            back = Backward(net, batch)
            for k, each in drawn.items():
                sizes[k] += [float(norms(back.path(through)).sum()) / len(sample) for through in each]
                done += 1
                if tick is not None:
                    tick(done / steps)
    found = np.full((n + 1, 3), np.nan)
    for k, size in sizes.items():
        found[k] = np.mean(size), np.quantile(size, 0.1), np.quantile(size, 0.9)
    norm = _interpolated(found[:, 0], measured)
    share = path_lengths(n)
    weight = share * norm / (share * norm).sum() if (share * norm).sum() > 0 else np.full(n + 1, np.nan)
    reached = np.cumsum(weight)
    return Paths(
        length=as_ints(range(n + 1)),
        share=share,
        norm=norm,
        low=found[:, 1],
        high=found[:, 2],
        weight=weight,
        shortest=int(np.searchsorted(reached, 0.025)),
        longest=min(int(np.searchsorted(reached, 0.975)), n),
        mean_length=float((weight * np.arange(n + 1)).sum()),
        n_images=len(sample),
        paths_per_length=per_length,
    )


def _lengths(n: int) -> list[int]:
    """Which lengths are measured: close together where they are short."""
    if n <= MOST_LENGTHS:
        return list(range(n + 1))
    short = range(MOST_LENGTHS // 2)
    return sorted({*short, *(round(k) for k in np.geomspace(MOST_LENGTHS // 2, n, MOST_LENGTHS // 2))})


def _drawn(blocks: tuple[int, ...], k: int, count: int, random: np.random.Generator) -> list[frozenset[int]]:
    """Different sets of k of the blocks."""
    count = min(count, math.comb(len(blocks), k))
    found: dict[frozenset[int], None] = {}
    while len(found) < count:
        found[frozenset(int(i) for i in random.choice(blocks, k, replace=False))] = None
    return list(found)


def _interpolated(values: Floats, at: list[int]) -> Floats:
    """Straight lines on a logarithmic axis between what was measured."""
    tiny = 1e-300
    logs = np.interp(np.arange(len(values)), at, np.log(np.maximum(values[at], tiny)))
    return as_floats(np.where(logs <= np.log(tiny), 0.0, np.exp(logs)))
