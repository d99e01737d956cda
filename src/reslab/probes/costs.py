"""The cost of each figure of the probes in forward passes, from which its time is estimated.

Lesions are counted exactly, from the variants that will be evaluated; of the others the factor was measured.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import nn

from reslab.probes.chain import Chain, Passes, chain_of, passes_of
from reslab.probes.lesions import choices_to_delete, orders_to_try, single_lesions
from reslab.probes.seam import own

DRAWN, ORDERS = 10, 40
"""Choices of so many blocks to delete, and orders of the blocks."""


def alike(passes: float) -> Callable[[nn.Module], Passes]:
    """The same number of forward passes for any network: measured, including backward passes and statistics."""
    return lambda _net: Passes(single=passes)


def lesions(net: nn.Module) -> Passes:
    """One block less at a time."""
    chain = chain_of(net)
    return passes_of(chain, single_lesions(chain))


def deletions(net: nn.Module) -> Passes:
    """Several blocks less."""
    chain = chain_of(net)
    return _of_deletions(chain, choices_to_delete(chain, draws=DRAWN).values())


def permutations(net: nn.Module) -> Passes:
    """Blocks in other orders."""
    chain = chain_of(net)
    _, orders = orders_to_try(chain, ORDERS)
    return passes_of(chain, [chain.without([]), *(tuple((i, "whole") for i in order) for order in orders)])


def depth(net: nn.Module) -> Passes:
    """Single lesions, and then deletions in an order that they say; here an order of chance, which costs about it."""
    chain = chain_of(net)
    order = [int(i) for i in np.random.default_rng(0).permutation(chain.deletable)]
    return passes_of(chain, single_lesions(chain)) + _of_deletions(chain, [[order[:k] for k in range(len(order) + 1)]])


def _of_deletions(chain: Chain, choices: Iterable[Sequence[Sequence[int]]]) -> Passes:
    return passes_of(chain, [chain.without([]), *(chain.without(gone) for chosen in choices for gone in chosen)])


def paths(net: nn.Module) -> Passes:
    """Twenty backward passes through a part of the blocks, for each length of a path."""
    return Passes(single=10.0 * min(len(own(net, "paths").blocks), 28))
