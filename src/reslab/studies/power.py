"""What a study could see with its seeds, from the spread of what was measured so far; before anything is trained.

A comparison's chance of a verdict follows from its true difference in standard deviations of the differences between
seeds, and from the looks that its seeds allow. The difference is the paper's where it has one, the standard deviation
that of the committed records: of the same quantity, and of the length nearest to it.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from reslab import studies
from reslab.errors import InputError
from reslab.report.files import SUMMARY
from reslab.report.summary import Summary
from reslab.studies.design import Absolute, Below, Depths, Sooner, Study, Test, Within, of_papers_data
from reslab.studies.sequential import LEVEL, LOOKS, Floats, p_values
from reslab.studies.verdict import Found, against_from, differences, in_words

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


def summaries(roots: Sequence[Path]) -> Iterator[tuple[Path, Summary]]:
    """Those of judged studies that this version can read, under some folders."""
    for path in sorted({path for root in roots for depth in ("", "*/", "*/*/") for path in root.glob(depth + SUMMARY)}):
        try:
            summary = Summary.of(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, InputError):
            continue
        if summary.verdict is not None and summary.study in studies.MODULES:
            yield path, summary


def depths_of(summary: Summary) -> Depths:
    """Of the networks that were trained."""
    return tuple(sorted({row.depth for row in summary.rows if row.train_error is not None}))


def differences_seen(roots: Sequence[Path]) -> list[Seen]:
    """Of every comparison in the records under some folders that has two seeds or more."""
    found = []
    for _, summary in summaries(roots):
        depths, runs = depths_of(summary), Found(summary.runs)
        papers = of_papers_data(str(summary.data["name"]), int(str(summary.data["n_train"])))
        for claim in studies.find(summary.study).claims:
            for test in claim.tests(depths):
                values = tuple(differences(test, runs))
                if len(values) > 1:
                    length = int(str(summary.recipe["iterations"]))
                    found.append(Seen(summary.study, test, depths, length, values, papers))
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
def _all_drawn() -> Floats:
    return np.random.default_rng(0).standard_normal((DRAWS, LOOKS[-1]))


def _drawn(seeds: int) -> Floats:
    return _all_drawn()[:, :seeds]


def chance(test: Test, mean: float, spread: float, seeds: int, level: float = LEVEL) -> float:
    """Of a verdict, in either direction, on a comparison with so many seeds.

    Args:
        test: the comparison.
        mean: of its differences (`reslab.studies.verdict.differences`).
        spread: their standard deviation.
        seeds: how many there are.
        level: at which a verdict is reached.
    """
    match test:
        case Within():
            return _chance_within(test.margin, mean, spread, seeds, level)
        case Below():
            return _chance_beside(test.bound, against_from(test), mean, spread, seeds, level)
        case Absolute():
            return _chance_beside(test.bound, test.bound, mean, spread, seeds, level)
        case Sooner():
            return _chance_beside(0.0, 0.0, mean, spread, seeds, level)


@cache
def _chance_beside(below: float, above: float, mean: float, spread: float, seeds: int, level: float) -> float:
    values = mean + spread * _drawn(seeds)
    p = np.minimum(p_values(values, below, "below"), p_values(values, above, "above"))
    return float((p <= level).mean())


@cache
def _chance_within(margin: float, mean: float, spread: float, seeds: int, level: float) -> float:
    values = mean + spread * _drawn(seeds)
    inside = np.maximum(p_values(values, margin, "below"), p_values(values, -margin, "above"))
    outside = 2 * np.minimum(p_values(values, margin, "above"), p_values(values, -margin, "below"))
    return float((np.minimum(inside, outside) <= level).mean())


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
    """What a comparison of a study could see."""

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


def sights(study: Study, depths: Depths, iterations: int, seeds: int, seen: Sequence[Seen]) -> list[Sight]:
    """For each comparison of a study's claims."""
    found = []
    for claim in study.claims:
        for test in claim.tests(depths):
            spread = spread_of(metric_of(test), iterations, seen)
            published = -test.published if isinstance(test, Below) and test.published else None
            mean = 0.0 if isinstance(test, Within) else published
            known = spread is not None and mean is not None
            found.append(
                Sight(
                    claim.key, in_words(test), metric_of(test),
                    None if published is None else -published, spread,
                    None if spread is None or math.isinf(visible(seeds)) else spread * visible(seeds),
                    chance(test, mean, spread, seeds) if known and spread is not None and mean is not None else None,
                )
            )  # fmt: skip
    return found
