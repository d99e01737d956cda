"""Statistical power of a study before training, from the spread of the differences measured so far.

A comparison's chance of a verdict follows from its true difference in standard deviations of the differences between
seeds, and from the looks that its seeds allow. The difference is the paper's where it has one, the standard deviation
that of the committed records: of the same quantity, and of the length nearest to it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from reslab import studies
from reslab.studies.design import Absolute, Below, Depths, Sooner, Study, Test, Within
from reslab.studies.records import depths_of, iterations_of, on_papers_data, summaries
from reslab.studies.sequential import LEVEL, LOOKS, Floats
from reslab.studies.verdict import Found, differences, in_words, levels_of_rows

DRAWS = 4_000
CLEAR = 0.8
"""Chance with which an effect counts as one that a study can see."""
FOLD = 2.0
"""Records whose lengths are within this factor of the nearest count as of that length."""
ITERATIONS_IN_LOGS = "log2 of iterations"


def metric_of(test: Test) -> str:
    """The quantity that a test is about."""
    return ITERATIONS_IN_LOGS if isinstance(test, Sooner) else test.metric


@dataclass(frozen=True)
class Seen:
    """Differences of one comparison in a record."""

    study: str
    test: Test
    depths: Depths
    iterations: int
    values: tuple[float, ...]
    papers_data: bool

    @property
    def spread(self) -> float:
        """Sample standard deviation."""
        return float(np.std(self.values, ddof=1))


def differences_seen(roots: Sequence[Path]) -> list[Seen]:
    """Differences of every comparison with two or more seeds in the records under some folders."""
    found = []
    for _, summary in summaries(roots):
        depths, runs, papers = depths_of(summary), Found(summary.runs), on_papers_data(summary)
        for claim in studies.find(summary.study).claims:
            for test in claim.tests(depths):
                values = tuple(differences(test, runs))
                if len(values) > 1:
                    found.append(Seen(summary.study, test, depths, iterations_of(summary), values, papers))
    return found


def spread_of(metric: str, iterations: int, seen: Sequence[Seen]) -> float | None:
    """Standard deviation of the differences of a metric between two networks, after so many iterations.

    Root of the mean variance over comparisons on the papers' data, of the lengths nearest to it; None without any.
    """
    of_it = [each for each in seen if each.papers_data and metric_of(each.test) == metric]
    if not of_it:
        return None

    def far(each: Seen) -> float:
        return abs(math.log2(each.iterations / iterations))

    nearest = min(map(far, of_it))
    near = [each.spread for each in of_it if far(each) <= nearest + math.log2(FOLD) / 2]
    return math.sqrt(sum(spread**2 for spread in near) / len(near))


@cache
def _drawn() -> Floats:
    return np.random.default_rng(0).standard_normal((DRAWS, LOOKS[-1]))


def chance(test: Test, mean: float, spread: float, seeds: int, level: float = LEVEL) -> float:
    """Probability of a verdict, in either direction, on a comparison with so many seeds.

    Args:
        test: the comparison.
        mean: of its differences (`reslab.studies.verdict.differences`).
        spread: their standard deviation.
        seeds: how many there are.
        level: at which a verdict is reached.
    """
    return _chance(_nameless(test), mean, spread, seeds, level)


def _nameless(test: Test) -> Test:
    """The test without names of rows and metric, on which its chance does not depend."""
    match test:
        case Sooner():
            return Sooner("", "")
        case Absolute():
            return replace(test, a="", metric="")
        case Below() | Within():
            return replace(test, a="", b="", metric="")


@cache
def _chance(test: Test, mean: float, spread: float, seeds: int, level: float) -> float:
    p = np.minimum(*levels_of_rows(test, mean + spread * _drawn()[:, :seeds]))
    return float((p <= level).mean())


@cache
def visible(seeds: int, level: float = LEVEL) -> float:
    """The least effect that so many seeds show with a chance of `CLEAR`, in standard deviations; infinite: none."""
    test, low, high = Below("a", "b"), 0.0, 64.0
    if chance(test, -high, 1.0, seeds, level) < CLEAR:
        return math.inf
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if chance(test, -middle, 1.0, seeds, level) >= CLEAR else (middle, high)
    return round(high, 2)


@dataclass(frozen=True)
class Sight:
    """The power of one comparison of a study."""

    claim: str
    comparison: str
    metric: str
    published: float | None
    """the effect in the paper; None where it gives no figure"""
    spread: float | None
    """None where nothing like it was measured"""
    least: float | None
    """the least effect that would be seen with a chance of `CLEAR`"""
    chance: float | None
    """of a verdict, if the paper's effect is the true one"""

    @property
    def blind(self) -> bool:
        """Whether it could not see the published effect."""
        return self.chance is not None and self.chance < 0.5


def as_published(test: Test) -> float | None:
    """The mean of a test's differences if what the paper says is exactly so; None where it gives no figure."""
    if isinstance(test, Within):
        return 0.0
    return -test.published if isinstance(test, Below) and test.published else None


def sights(study: Study, depths: Depths, iterations: int, seeds: int, seen: Sequence[Seen]) -> list[Sight]:
    """The power of each comparison of a study's claims."""
    found = []
    least = visible(seeds)
    for claim in study.claims:
        for test in claim.tests(depths):
            spread, mean = spread_of(metric_of(test), iterations, seen), as_published(test)
            found.append(
                Sight(
                    claim.key, in_words(test), metric_of(test),
                    published=(test.published or None) if isinstance(test, Below) else None,
                    spread=spread,
                    least=None if spread is None or math.isinf(least) else spread * least,
                    chance=None if spread is None or mean is None else chance(test, mean, spread, seeds),
                )
            )  # fmt: skip
    return found
