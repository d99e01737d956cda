"""Testing as seeds come in: looks at fixed numbers of seeds, one error rate for all of them, and one for the ledger.

A comparison of two rows is looked at when 3, 5, 8 and 12 seeds are there. Each look is a one-sided t-test of the
differences of the first so many seeds, and has 1 % of the 5 % by which the comparison may come out wrong: constant
levels, as Pocock (1977) has constant bounds. The four add up to 4 % at most (Bonferroni), however the looks depend on
each other; what is left is for differences that are not normal, as those seen are not (`reslab.studies.rates`).

No looks are lost if trainings stop early, and none is gained by adding seeds: the p-value of a comparison is five times
the least over its looks, and can be read after any of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

LOOKS = (3, 5, 8, 12)
"""Numbers of seeds."""
LEVEL = 0.05
"""Of a claim by itself, in either direction; and of the ledger, the share of false verdicts among all."""
EACH = 0.01
"""Of a look."""
RESOLUTION = 0.05
"""Least standard deviation, in points or units of a logarithm; a spread below it is chance, and is taken for this.

A test error is a multiple of 0.01 points, a crossing is noted every few iterations: equal values have no spread at all.
"""

Floats = npt.NDArray[np.float64]
Side = Literal["above", "below"]


def looked(seeds: int) -> tuple[int, ...]:
    """The looks that so many seeds allow."""
    return tuple(look for look in LOOKS if look <= seeds)


def p_values(values: Floats, bound: float, side: Side) -> Floats:
    """p-values of "the mean is not above the bound", one per row of values (..., seeds), seeds in order.

    min over the looks of P(t > t_look), times `LEVEL` / `EACH`, at most 1; 1 with fewer seeds than a look takes.
    """
    from scipy import stats  # a second of imports that a listing does without

    signed = (values - bound) * (1 if side == "above" else -1)
    found: Floats = np.ones(values.shape[:-1])
    for look in looked(values.shape[-1]):
        seen = signed[..., :look]
        std = np.maximum(seen.std(axis=-1, ddof=1), RESOLUTION)
        t = seen.mean(axis=-1) / (std / np.sqrt(look))
        found = np.minimum(found, LEVEL / EACH * stats.t.sf(t, look - 1))
    return found


def half_width(values: Sequence[float], tail: float) -> float:
    """Half the width of a t-interval with ``tail`` on each side; needs two values or more."""
    from scipy import stats

    n = len(values)
    std = max(float(np.std(values, ddof=1)), RESOLUTION)
    return float(stats.t.isf(tail, n - 1)) * std / math.sqrt(n)


def adjusted(p: Mapping[str, float]) -> dict[str, float]:
    """p-values that hold the false-discovery rate of all: min over j >= i of p_(j) m / j (Benjamini, Hochberg 1995)."""
    found: dict[str, float] = {}
    least = 1.0
    ordered = sorted(p.items(), key=lambda item: item[1])
    for rank in range(len(ordered), 0, -1):
        key, value = ordered[rank - 1]
        least = min(least, value * len(ordered) / rank)
        found[key] = least
    return {key: found[key] for key in p}
