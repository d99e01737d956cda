"""Paths: binomial in number, and of a linear chain with gradients that are known."""

import math
from itertools import chain as joined
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch.nn import functional as F

from reslab.errors import InputError
from reslab.probes.backward import Backward
from reslab.probes.paths import path_lengths, paths
from reslab.probes.seam import opened

from .tiny import PREACTIVATION, RESIDUAL, chain, network, sample, vectors


@pytest.mark.parametrize("n", [1, 5, 54, 600])
def test_lengths_are_binomial(n: int) -> None:
    assert path_lengths(n) == pytest.approx(binom.pmf(np.arange(n + 1), n, 0.5), rel=1e-9, abs=1e-300)
    assert path_lengths(n).sum() == pytest.approx(1)


def test_most_paths_of_the_papers_network() -> None:
    """Veit et al. 2016, section 5: more than 95 % of paths go through 19 to 35 modules of 54."""
    assert path_lengths(54)[19:36].sum() > 0.95


@pytest.mark.parametrize("weight", [0.5, -0.25])
def test_a_linear_chain(weight: float) -> None:
    """A path of length k has |w|^k times the gradient of the shortest; together they are Bin(n, |w| / (1 + |w|))."""
    n, w = 6, abs(weight)
    found = paths(chain(n, weight), vectors(), per_length=3)
    assert found.norm / found.norm[0] == pytest.approx(w ** np.arange(n + 1), rel=1e-4)
    assert found.low == pytest.approx(found.norm, rel=1e-4)
    p = w / (1 + w)
    assert found.weight == pytest.approx(binom.pmf(np.arange(n + 1), n, p), rel=1e-3)
    assert found.mean_length == pytest.approx(n * p, rel=1e-3)
    assert found.shortest == binom.ppf(0.025, n, p)
    assert found.longest == binom.ppf(0.975, n, p)
    assert found.share_of_effective == pytest.approx(found.share[found.shortest : found.longest + 1].sum())


def test_lengths_between_the_measured_ones() -> None:
    n = 60
    found = paths(chain(n, 0.4), vectors(), per_length=1, images=4)
    assert int(np.isnan(found.low).sum()) > 10
    assert found.norm / found.norm[0] == pytest.approx(0.4 ** np.arange(n + 1), rel=1e-3)


@pytest.mark.parametrize("name", [RESIDUAL, "cifar_resnet(depth=8, width=4, order='full-preactivation', shortcut='B')"])
def test_all_paths_together_bring_the_whole_gradient(name: str) -> None:
    net, data = network(name), sample(5)
    x = data.x.clone().requires_grad_()
    (whole,) = torch.autograd.grad(F.cross_entropy(net(x), data.labels, reduction="sum"), x)
    with opened(net):
        back = Backward(net, data)
        blocks = back.residual
        every = joined.from_iterable(combinations(blocks, k) for k in range(len(blocks) + 1))
        parts = [back.path(frozenset(through)) for through in every]
        at_blocks = back.gradients()
        torch.testing.assert_close(back.at_image(at_blocks[0]), whole, rtol=1e-4, atol=1e-6)
    assert len(parts) == 2 ** len(blocks)
    torch.testing.assert_close(sum(parts), whole, rtol=1e-3, atol=1e-5)


def test_gates_and_scales_are_ways_too() -> None:
    for skip in ("constant-scaling", "exclusive-gating", "shortcut-only-gating", "conv1x1", "dropout"):
        net, data = network(f"cifar_resnet(depth=8, width=4, skip='{skip}', gate_bias=-1.0)"), sample(4)
        x = data.x.clone().requires_grad_()
        (whole,) = torch.autograd.grad(F.cross_entropy(net(x), data.labels, reduction="sum"), x)
        with opened(net):
            back = Backward(net, data)
            both = back.at_image(back.gradients()[0])
        torch.testing.assert_close(both, whole, rtol=1e-4, atol=1e-6)


def test_draws_repeat_and_differ() -> None:
    net, data = network(PREACTIVATION), sample(8)
    one, two = paths(net, data, per_length=2), paths(net, data, per_length=2)
    assert list(one.norm) == list(two.norm)
    other = paths(net, data, per_length=2, seed=1)
    assert list(one.norm) != list(other.norm)
    assert len(one.length) == 10
    assert one.n_images == 8
    assert paths(net, data, per_length=1, images=3).n_images == 3
    full = paths(net, data, per_length=10**4)
    assert full.norm[1] > 0
    assert math.isclose(full.norm[0], one.norm[0], rel_tol=1e-6)  # there is one path of length 0
    told: list[float] = []
    paths(net, data, per_length=1, tick=told.append)
    assert told[-1] == 1
    assert len(told) == 10


def test_bad_input() -> None:
    with pytest.raises(InputError, match="1 path or more of each length, got 0"):
        paths(network(), sample(), per_length=0)
