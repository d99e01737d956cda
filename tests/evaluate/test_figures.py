"""Figures of scores against slow, obvious counts."""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reslab.evaluate.figures import (
    Z95,
    at_chance,
    calibration_error,
    confusion,
    figures,
    per_class,
    predicted,
    ranks,
    wilson,
)

Logs = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

CHECKED = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def scored(draw: st.DrawFn) -> tuple[Logs, Labels]:
    """Logs of scores with many ties, and labels."""
    n, classes = draw(st.integers(1, 12)), draw(st.integers(2, 9))
    cells = draw(st.lists(st.integers(0, 4), min_size=n * classes, max_size=n * classes))
    logits = np.array(cells, np.float64).reshape(n, classes)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    return logs.astype(np.float32), np.array(labels, np.int64)


def order(row: Logs) -> list[int]:
    """Classes from the highest score down; of equal ones the lower first."""
    return sorted(range(len(row)), key=lambda c: (-row[c], c))


@CHECKED
@given(scored())
def test_ranks_by_sorting(given: tuple[Logs, Labels]) -> None:
    logs, labels = given
    slow = [order(row).index(label) for row, label in zip(logs, labels, strict=True)]
    assert ranks(logs, labels).tolist() == slow
    assert predicted(logs).tolist() == [order(row)[0] for row in logs]


@CHECKED
@given(scored())
def test_errors_and_loss_by_counting(given: tuple[Logs, Labels]) -> None:
    logs, labels = given
    found = figures(logs, labels)
    n = len(labels)
    missed = [sum(label not in order(row)[:k] for row, label in zip(logs, labels, strict=True)) for k in (1, 5)]
    assert found.n_images == n
    assert found.top1_error == pytest.approx(100 * missed[0] / n)
    if logs.shape[1] > 5:
        assert found.top5_error == pytest.approx(100 * missed[1] / n)
        assert found.top5_interval is not None
    else:
        assert (found.top5_error, found.top5_interval) == (None, None)
    assert found.loss == pytest.approx(-sum(float(row[y]) for row, y in zip(logs, labels, strict=True)) / n)
    low, high = found.top1_interval
    assert low <= found.top1_error + 1e-9
    assert found.top1_error <= high + 1e-9
    assert found.not_finite == 0


@CHECKED
@given(scored())
def test_classes_and_confusion_by_counting(given: tuple[Logs, Labels]) -> None:
    logs, labels = given
    classes = logs.shape[1]
    numbers = list(range(classes))[::-1][: classes - 1]  # the data's classes in another order, and one fewer
    known = np.isin(labels, numbers)
    logs, labels = logs[known], labels[known]
    matrix = confusion(logs, labels, numbers)
    assert matrix.shape == (len(numbers), len(numbers) + 1)
    slow = np.zeros_like(matrix)
    for row, label in zip(logs, labels, strict=True):
        taken = order(row)[0]
        slow[numbers.index(label), numbers.index(taken) if taken in numbers else -1] += 1
    assert np.array_equal(matrix, slow)
    each = per_class(logs, labels, [f"class {i}" for i in numbers], numbers)
    assert [one.accuracy for one in each] == sorted(one.accuracy for one in each)
    assert {one.name for one in each} == {f"class {i}" for i in set(labels.tolist())}
    for one in each:
        place = numbers.index(int(one.name.removeprefix("class ")))
        assert one.n_images == matrix[place].sum()
        assert one.accuracy == pytest.approx(100 * matrix[place, place] / one.n_images)
        assert one.interval == pytest.approx(tuple(100 * p for p in wilson(int(matrix[place, place]), one.n_images)))


@CHECKED
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_ends_are_where_the_test_just_passes(given: tuple[int, int]) -> None:
    """The interval holds each p from which hits/n is less than z standard errors away (Wilson 1927)."""
    hits, n = given
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    for p in (low, high):
        if 0 < p < 1:
            assert abs(hits / n - p) == pytest.approx(Z95 * math.sqrt(p * (1 - p) / n), rel=1e-6)
    assert wilson(n - hits, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_against_published_figures() -> None:
    """Newcombe 1998, table I, method 3."""
    for (hits, n), expected in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson(hits, n) == pytest.approx(expected, abs=6e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    assert NormalDist().inv_cdf(0.975) == pytest.approx(Z95)


@CHECKED
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40), st.integers(1, 15))
def test_calibration_error_bin_by_bin(given: list[tuple[float, bool]], bins: int) -> None:
    confidence, hit = np.array([c for c, _ in given]), np.array([h for _, h in given], bool)
    slow = 0.0
    for b in range(bins):
        inside = [
            (c, h) for c, h in given if min(bins - 1, max(0, math.ceil(c * bins) - 1)) == b
        ]  # fmt: skip
        if inside:
            slow += abs(sum(h for _, h in inside) - sum(c for c, _ in inside)) / len(given)
    assert calibration_error(confidence, hit, bins) == pytest.approx(slow, abs=1e-12)


def test_calibration_at_its_ends() -> None:
    sure = np.ones(4)
    assert calibration_error(sure, np.ones(4, bool)) == 0
    assert calibration_error(sure, np.zeros(4, bool)) == 1
    assert calibration_error(np.full(4, 0.5), np.array([True, False, True, False])) == 0


def test_scores_too_small_for_fp32_keep_their_order_and_loss() -> None:
    logits = np.array([[900.0, 300.0, 0.0, 200.0, 100.0, 50.0, -10.0]])
    logs = (logits - 900).astype(np.float32)
    for label, rank in ((0, 0), (1, 1), (3, 2), (4, 3), (5, 4), (2, 5), (6, 6)):
        found = figures(logs, np.array([label]))
        assert ranks(logs, np.array([label])).tolist() == [rank]
        assert found.loss == pytest.approx(900 - logits[0, label])
        assert found.top5_error == (0 if rank < 5 else 100)


def test_what_is_not_a_number_is_an_error() -> None:
    logs = np.log(np.full((3, 6), 1 / 6, np.float32))
    logs[0] = np.nan
    logs[1, 3] = np.nan
    found = figures(logs, np.zeros(3, np.int64))
    assert found.top1_error == found.top5_error == pytest.approx(200 / 3)
    assert (found.loss, found.not_finite) == (None, 2)
    assert predicted(logs).tolist() == [0, 0, 0]


def test_a_class_that_was_impossible() -> None:
    """An infinite loss is said to be none, and counts as an error."""
    logs = np.array([[-np.inf, 0.0], [0.0, -np.inf]], np.float32)
    found = figures(logs, np.zeros(2, np.int64))
    assert (found.loss, found.top1_error, found.not_finite) == (None, 50, 0)


@pytest.mark.parametrize(
    ("hits", "n", "most", "expected"),
    [
        (50, 500, 50, True),  # as good as naming the most frequent of ten classes
        (0, 500, 50, True),
        (66, 500, 50, False),  # one-sided 95 % bound 0.109
        (60, 500, 50, True),  # bound 0.098
        (300, 500, 300, True),  # three in five are of one class
        (0, 0, 0, True),
    ],
)
def test_at_chance(hits: int, n: int, most: int, expected: bool) -> None:
    assert at_chance(hits, n, most) is expected
