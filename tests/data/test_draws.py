"""Randomness as a pure function: pinned values, and statistics with fixed inputs."""

import math

import pytest
import torch

from reslab.data.draws import bits, integers, permutation

MASK = 0xFFFFFFFF


def mix(x: int) -> int:
    """lowbias32 (Wellons 2018), in Python's unbounded integers."""
    x &= MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


def slow_bits(index: int, *key: int) -> int:
    x = mix(index)
    for k in key:
        x = mix(x ^ (k & MASK))
        x = (x + 0x9E3779B9 * ((k & MASK) + 1)) & MASK
    return mix(x)


def chi_square(counts: torch.Tensor) -> float:
    """Distance from equal counts in standard deviations of the chi-square distribution."""
    expected = float(counts.sum()) / counts.numel()
    freedom = counts.numel() - 1
    return float(((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


def test_golden_values() -> None:
    """A change here changes every training: saved runs could not be resumed."""
    assert bits(torch.arange(4), 1, 2, 3).tolist() == [1192362059, 2778717453, 3253759026, 1901500354]
    assert integers(torch.arange(8), 9, 5, 7).tolist() == [0, 1, 8, 1, 4, 8, 6, 1]
    assert permutation(10, 0, 0).tolist() == [9, 7, 6, 0, 8, 2, 5, 3, 4, 1]
    assert mix(1) == 1753845952  # of the published function


@pytest.mark.parametrize("key", [(), (0,), (1, 2, 3), (2**31 - 1, 5), (2**32 - 1,), (2**40 + 3, 1), (-1,)])
def test_against_unbounded_integers(key: tuple[int, ...]) -> None:
    index = [0, 1, 2, 49_999, 2**31, 2**32 - 1]
    assert bits(torch.tensor(index), *key).tolist() == [slow_bits(i, *key) for i in index]


def test_a_key_may_be_a_tensor() -> None:
    index, epoch = torch.arange(6), torch.tensor([0, 1, 2, 0, 1, 2**31])
    expected = [slow_bits(i, 3, int(e), 9) for i, e in enumerate(epoch)]
    assert bits(index, 3, epoch, 9).tolist() == expected
    shaped = bits(index.view(2, 3), 3)
    assert shaped.dtype == torch.int64
    assert torch.equal(shaped.flatten(), bits(index, 3))


def test_the_input_is_left_alone() -> None:
    index = torch.arange(5)
    bits(index, 1)
    integers(index, 3, 1)
    assert index.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("n", [1, 2, 7, 1000, 50_000])
def test_a_permutation_is_one(n: int) -> None:
    assert torch.equal(permutation(n, 4, 5).sort().values, torch.arange(n))


def test_permutations_differ_between_seeds_and_epochs() -> None:
    orders = [permutation(1000, seed, epoch) for seed in range(6) for epoch in range(6)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert int((one == other).sum()) < 12  # one fixed point is expected, on average
    # (seed, epoch) and (epoch, seed) are different keys.
    assert not torch.equal(permutation(1000, 2, 3), permutation(1000, 3, 2))


def test_permutations_are_uniform() -> None:
    """Each of the 24 orders of 4 things, and each place of each of 10."""
    orders: dict[tuple[int, ...], int] = {}
    for epoch in range(1200):
        order = tuple(permutation(4, 1, epoch).tolist())
        orders[order] = orders.get(order, 0) + 1
    assert len(orders) == 24
    assert abs(chi_square(torch.tensor(list(orders.values())))) < 4
    places = torch.zeros(10, 10)
    for seed in range(500):
        places[torch.arange(10), permutation(10, seed, 0)] += 1
    assert abs(chi_square(places)) < 4


@pytest.mark.parametrize("below", [1, 2, 3, 9, 1000])
def test_integers_are_in_range_and_all_occur(below: int) -> None:
    drawn = integers(torch.arange(20_000), below, 1, 2)
    counts = drawn.bincount(minlength=below)
    assert len(counts) == below
    assert counts.all()
    if below > 1:
        assert abs(chi_square(counts)) < 4


def test_the_largest_bits_stay_below() -> None:
    assert (MASK * 9) >> 32 == 8
    assert int(integers(torch.arange(200_000), 2**31, 0).max()) < 2**31


def test_draws_for_two_purposes_are_independent() -> None:
    """Shifts in both directions and the flip, over many images of one epoch and many epochs of one image."""
    image, epoch = torch.arange(20_000), torch.arange(20_000)
    for index, when in ((image, torch.zeros_like(image)), (torch.full_like(epoch, 17), epoch)):
        dy, dx, flip = (integers(index, below, 3, when, purpose) for below, purpose in ((9, 101), (9, 102), (2, 103)))
        joint = (dy * 9 + dx) * 2 + flip
        assert abs(chi_square(joint.bincount(minlength=162))) < 4


def test_neighbours_are_independent() -> None:
    """The draw of one image against the next, of one epoch against the next, of one seed against the next."""
    index = torch.arange(40_000)
    base = integers(index, 8, 5, 6)
    for other in (integers(index + 1, 8, 5, 6), integers(index, 8, 5, 7), integers(index, 8, 6, 6)):
        assert abs(chi_square((base * 8 + other).bincount(minlength=64))) < 4


def test_each_bit_of_the_key_matters() -> None:
    """Avalanche: one bit of the seed, epoch or index flips half of the bits drawn."""
    index = torch.arange(2000)
    base = bits(index, 1, 2)
    for bit in range(31):
        for other in (bits(index, 1 ^ (1 << bit), 2), bits(index, 1, 2 ^ (1 << bit)), bits(index ^ (1 << bit), 1, 2)):
            changed = sum(int((((base ^ other) >> b) & 1).sum()) for b in range(32)) / (2000 * 32)
            assert changed == pytest.approx(0.5, abs=0.02)


def test_threads_and_devices_do_not_matter() -> None:
    index, before = torch.arange(100_000), torch.get_num_threads()
    expected = bits(index, 8), permutation(50_000, 8)
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert torch.equal(bits(index, 8), expected[0])
            assert torch.equal(permutation(50_000, 8), expected[1])
    finally:
        torch.set_num_threads(before)
    if torch.cuda.is_available():
        assert torch.equal(bits(index.cuda(), 8).cpu(), expected[0])
