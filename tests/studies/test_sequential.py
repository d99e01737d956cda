"""Looks, p-values of several together, the false-discovery rate."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from reslab.studies.sequential import EACH, LEVEL, LOOKS, Side, adjusted, looked, p_values

VALUES = [0.9, 1.4, 0.6, 1.1, 0.2, 1.9, 0.7, 1.3, 0.4, 1.0, 0.8, 1.2]


def p_value(values: Sequence[float], bound: float, side: Side) -> float:
    return float(p_values(np.asarray(values, dtype=np.float64), bound, side))


def test_looks() -> None:
    assert [looked(n) for n in (0, 2, 3, 4, 12, 40)] == [(), (), (3,), (3,), LOOKS, LOOKS]


@pytest.mark.parametrize(("seeds", "looks"), [(3, [3]), (4, [3]), (5, [3, 5]), (12, [3, 5, 8, 12])])
def test_the_p_value_is_five_times_the_least_of_the_looks(seeds: int, looks: list[int]) -> None:
    for bound, side, alternative in ((0.5, "above", "greater"), (1.5, "below", "less")):
        each = [stats.ttest_1samp(VALUES[:look], bound, alternative=alternative).pvalue for look in looks]
        assert p_value(VALUES[:seeds], bound, side) == pytest.approx(min(1, LEVEL / EACH * min(each)))  # type: ignore[arg-type]


def test_more_seeds_take_nothing_back() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        values = random.normal(0.5, 1, 12)
        p = [p_value(values[:n].tolist(), 0, "above") for n in range(1, 13)]
        assert p == sorted(p, reverse=True)
        assert p[0] == p[1] == 1, "one or two seeds decide nothing"


def test_rows_at_once() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, (6, 8))
    assert p_values(values, 0, "above") == pytest.approx([p_value(row.tolist(), 0, "above") for row in values])


def test_equal_values_have_the_spread_of_what_they_are_measured_by() -> None:
    assert p_value([1.0, 1.0, 1.0], 0, "above") == pytest.approx(5 * stats.t.sf(1 / (0.05 / np.sqrt(3)), 2))
    assert p_value([0.0, 0.0, 0.0], 0, "above") == p_value([0.0, 0.0, 0.0], 0, "below") == 1


def test_the_false_discovery_rate_by_hand() -> None:
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.8}
    # Ordered a, c, b, d: 0.01 * 4, 0.03 * 4 / 2, 0.04 * 4 / 3, 0.8.
    assert adjusted(p) == pytest.approx({"a": 0.04, "b": 0.16 / 3, "c": 0.16 / 3, "d": 0.8})
    assert list(adjusted(p)) == list(p)
    drawn = np.random.default_rng(0).uniform(0, 0.2, 20)
    ours = adjusted({str(i): float(value) for i, value in enumerate(drawn)})
    assert list(ours.values()) == pytest.approx(list(stats.false_discovery_control(drawn)))
    assert adjusted({}) == {}
