"""Lesions: blocks deleted and permuted in a trained network, without training it again (Veit et al. 2016).

"Residual Networks Behave Like Ensembles of Relatively Shallow Networks", arXiv 1605.06431. To delete a residual block
is to set its branch to zero at the addition: the shortcut stays, also where it projects, and so does what follows the
addition. To delete a plain block is to leave it out, which only those can be that keep the shape.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau
from torch import nn

from reslab.errors import InputError
from reslab.probes.chain import Chain, Tick, Variant, chain_of, evaluate_variants
from reslab.probes.result import Floats, Ints, Result, as_floats, as_ints
from reslab.probes.seam import Sample


@dataclass(frozen=True)
class Lesions(Result):
    """Error with each block deleted by itself. Per cent."""

    block: tuple[str, ...]
    error: Floats
    """NaN for a plain block that changes the shape: without it there is no network"""
    loss: Floats
    """mean cross-entropy in nats"""
    changes_shape: Ints
    """1 where the block changes width or size, 0 elsewhere"""
    whole_error: float
    """with nothing deleted"""
    whole_loss: float
    chance: float
    """error of guessing among as many classes as the labels have"""
    cost: float
    """multiply-adds spent, as a share of those of evaluating the network and each lesion from the image on"""
    n_images: int


def lesions(net: nn.Module, sample: Sample, *, tick: Tick | None = None) -> Lesions:
    """Deletes each block alone and evaluates (Veit et al. 2016, section 4.1, Fig. 3 and 4)."""
    chain = chain_of(net)
    gone = _deletable(chain, 1)
    found = evaluate_variants(net, sample, single_lesions(chain), tick=tick)
    error, loss = np.full(len(chain.links), np.nan), np.full(len(chain.links), np.nan)
    error[list(gone)], loss[list(gone)] = found.error[1:], found.loss[1:]
    return Lesions(
        block=tuple(link.name for link in chain.links),
        error=error,
        loss=loss,
        changes_shape=as_ints([not link.keeps for link in chain.links]),
        whole_error=float(found.error[0]),
        whole_loss=float(found.loss[0]),
        chance=_chance(sample),
        cost=found.cost,
        n_images=len(sample),
    )


def single_lesions(chain: Chain) -> list[Variant]:
    """The whole network, then each deletion of one block."""
    return [chain.without([]), *(chain.without([i]) for i in chain.deletable)]


@dataclass(frozen=True)
class Deletions(Result):
    """Error with several blocks deleted at random. Per cent."""

    deleted: Ints
    """how many; the first entry is 0"""
    median: Floats
    low: Floats
    """a quarter of the draws is at or below it"""
    high: Floats
    draws: Ints
    """how many different choices were evaluated: all, where there are no more"""
    blocks: int
    """that could be deleted"""
    chance: float
    n_images: int


def random_deletions(
    net: nn.Module,
    sample: Sample,
    *,
    counts: tuple[int, ...] | None = None,
    draws: int = 20,
    seed: int = 0,
    tick: Tick | None = None,
) -> Deletions:
    """Deletes k blocks at random, for several k, and evaluates (Veit et al. 2016, section 4.2, Fig. 5 (a)).

    Args:
        net: the network.
        sample: the images.
        counts: the numbers k; by default every one, and about a dozen of them where there are more than 16 blocks.
        draws: different choices for each k; all of them where there are no more.
        seed: of the choices.
        tick: told how far it is.
    """
    chain = chain_of(net)
    choices = choices_to_delete(chain, counts, draws, seed)
    variants = [chain.without([]), *(chain.without(gone) for chosen in choices.values() for gone in chosen)]
    error = evaluate_variants(net, sample, variants, tick=tick).error
    groups = [error[:1]]
    start = 1
    for chosen in choices.values():
        groups.append(error[start : start + len(chosen)])
        start += len(chosen)
    return Deletions(
        deleted=as_ints([0, *choices]),
        median=as_floats([np.median(group) for group in groups]),
        low=as_floats([np.quantile(group, 0.25) for group in groups]),
        high=as_floats([np.quantile(group, 0.75) for group in groups]),
        draws=as_ints([len(group) for group in groups]),
        blocks=len(chain.deletable),
        chance=_chance(sample),
        n_images=len(sample),
    )


def choices_to_delete(
    chain: Chain, counts: tuple[int, ...] | None = None, draws: int = 20, seed: int = 0
) -> dict[int, list[tuple[int, ...]]]:
    """The sets of blocks to delete, for each number of blocks; arguments as for `random_deletions`."""
    blocks = _deletable(chain, 1)
    counts = counts or _spread(len(blocks))
    if max(counts) > len(blocks) or min(counts) < 1:
        raise InputError(
            f"'{chain.name}' has {len(blocks)} blocks that can be deleted, got {max(counts)} to delete; "
            f"give numbers from 1 to {len(blocks)}"
        )
    if draws < 1:
        raise InputError(f"random deletions need 1 draw or more, got {draws}")
    random = np.random.default_rng(seed)
    return {k: _choices(blocks, k, draws, random) for k in sorted(set(counts))}


def _spread(n: int) -> tuple[int, ...]:
    """All numbers from 1 to n; of more than 16 about a dozen, close together at the beginning."""
    if n <= 16:
        return tuple(range(1, n + 1))
    return tuple(sorted({round(n ** (i / 11)) for i in range(12)} | {n // 2, 3 * n // 4}))


def _choices(blocks: tuple[int, ...], k: int, draws: int, random: np.random.Generator) -> list[tuple[int, ...]]:
    """Different sets of k blocks."""
    if math.comb(len(blocks), k) <= draws:
        return list(combinations(blocks, k))
    found: dict[tuple[int, ...], None] = {}
    while len(found) < draws:
        found[tuple(sorted(int(i) for i in random.choice(blocks, k, replace=False)))] = None
    return list(found)


@dataclass(frozen=True)
class Permutations(Result):
    """Error with blocks of the same shape in another order. Per cent."""

    tau: Floats
    """Kendall's rank correlation of the new order of all blocks with the old, 1 for none moved"""
    swaps: Ints
    error: Floats
    whole_error: float
    chance: float
    n_images: int


def permutations(
    net: nn.Module, sample: Sample, *, draws: int = 60, seed: int = 0, tick: Tick | None = None
) -> Permutations:
    """Swaps pairs of blocks of the same shape and evaluates (Veit et al. 2016, section 4.3, Fig. 5 (b)).

    A draw swaps 1 to n random pairs one after the other, n being the number of blocks that have one to swap with.
    """
    chain = chain_of(net)
    swaps, orders = orders_to_try(chain, draws, seed)
    variants: list[Variant] = [tuple((i, "whole") for i in order) for order in orders]
    found = evaluate_variants(net, sample, [chain.without([]), *variants], tick=tick)
    natural = list(range(len(chain.links)))
    return Permutations(
        tau=as_floats([kendalltau(natural, order).statistic for order in orders]),
        swaps=as_ints(swaps),
        error=found.error[1:],
        whole_error=float(found.error[0]),
        chance=_chance(sample),
        n_images=len(sample),
    )


def orders_to_try(chain: Chain, draws: int = 60, seed: int = 0) -> tuple[list[int], list[list[int]]]:
    """Numbers of swaps, and the order of the blocks after each; the arguments are those of `permutations`."""
    slots: dict[str, list[int]] = {}
    for i, link in enumerate(chain.links):
        if link.slot is not None:
            slots.setdefault(link.slot, []).append(i)
    rooms = [members for members in slots.values() if len(members) > 1]
    if not rooms:
        raise InputError(f"'{chain.name}' has no two blocks of one shape in a stage, so none can be swapped")
    if draws < 1:
        raise InputError(f"permutations need 1 draw or more, got {draws}")
    random = np.random.default_rng(seed)
    most = sum(len(members) for members in rooms)
    swaps = [1 + round(i * (most - 1) / max(draws - 1, 1)) for i in range(draws)]
    return swaps, [_swapped(len(chain.links), rooms, count, random) for count in swaps]


def _swapped(n: int, rooms: list[list[int]], count: int, random: np.random.Generator) -> list[int]:
    """The order of n blocks after so many swaps; a stage is drawn as often as it has pairs."""
    order = list(range(n))
    pairs = as_floats([math.comb(len(members), 2) for members in rooms])
    for _ in range(count):
        members = rooms[int(random.choice(len(rooms), p=pairs / pairs.sum()))]
        a, b = (int(i) for i in random.choice(members, 2, replace=False))
        order[a], order[b] = order[b], order[a]
    return order


@dataclass(frozen=True)
class Depth(Result):
    """Error as blocks are deleted in the order of their importance, the least important first. Per cent."""

    deleted: Ints
    """how many; the first entry is 0"""
    block: tuple[str, ...]
    """which was deleted last; "" for the first entry"""
    error: Floats
    points: float
    needed: int
    """blocks that are left where the error has not yet risen by more than ``points`` percentage points"""
    chance: float
    n_images: int


def effective_depth(
    net: nn.Module, sample: Sample, *, points: float = 1.0, found: Lesions | None = None, tick: Tick | None = None
) -> Depth:
    """How many blocks a network needs: they are deleted one after another, in the order of their single lesions' loss.

    The order is that of single lesions on the same images, and not measured again on the way.

    Args:
        net: the network.
        sample: the images.
        points: of error that a network may lose and still count as the same.
        found: its lesions, if they are known.
        tick: told how far it is.
    """
    chain = chain_of(net)
    _deletable(chain, 1)
    found = found or lesions(net, sample)
    order = sorted((i for i in chain.deletable), key=lambda i: float(found.loss[i]))
    variants = [chain.without(order[:k]) for k in range(len(order) + 1)]
    error = evaluate_variants(net, sample, variants, tick=tick).error
    risen = np.nonzero(error > error[0] + points)[0]
    bearable = (int(risen[0]) if len(risen) else len(error)) - 1
    return Depth(
        deleted=as_ints(range(len(error))),
        block=("", *(chain.links[i].name for i in order)),
        error=error,
        points=points,
        needed=len(chain.links) - bearable,
        chance=_chance(sample),
        n_images=len(sample),
    )


def _deletable(chain: Chain, least: int) -> tuple[int, ...]:
    if len(chain.deletable) < least:
        raise InputError(f"'{chain.name}' has no block that can be deleted: all are plain and change the shape")
    return chain.deletable


def _chance(sample: Sample) -> float:
    classes = len(sample.labels.unique())
    return 100 * (1 - 1 / classes)
