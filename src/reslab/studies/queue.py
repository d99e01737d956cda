"""All studies in one order: next comes what is expected to decide most claims an hour.

A candidate is a study at one size: its depths, its length, and a number of seeds at which the rule looks. What it is
expected to decide is the number of open claims that the size is large enough for, each with its chance of a verdict
(`reslab.studies.power`); a claim whose chance is below two in five counts for nothing, so that a study which could not
see the published effects is not run at that size. What it costs is in proportion to multiply-adds. The order
is made anew after each study, from what was found by then.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reslab import studies
from reslab.runs import read_json
from reslab.studies.design import COURSE, END, ITERATIONS, Depths, Extent, Study, Test
from reslab.studies.plan import MARK
from reslab.studies.power import CLEAR, Seen, as_published, chance, metric_of, spread_of
from reslab.studies.records import depths_of, iterations_of, on_papers_data, summaries
from reslab.studies.sequential import LEVEL, LOOKS
from reslab.studies.verdict import short_of

LENGTHS = (COURSE, 4_000, END, ITERATIONS)
"""Iterations to choose from: those from which on more is decided, and one between."""
UNKNOWN = 0.5
"""Chance of a verdict where of some comparison neither the paper nor a record says how large the effect is."""
STRICTER = LEVEL / 2
"""Level that a verdict is reckoned at: the ledger's false-discovery rate asks for less than 5 % of a single claim."""

Size = tuple[str, Depths, int]
"""A study's name, its depths, its iterations."""


@dataclass(frozen=True)
class Candidate:
    """A study at one size, up to a number of seeds."""

    study: Study
    depths: Depths
    iterations: int
    seeds: int
    done: int
    """seeds that are there already"""

    @property
    def size(self) -> Size:
        """The candidate without its seeds, which can be added later."""
        return self.study.name, self.depths, self.iterations

    @property
    def folder(self) -> str:
        """Name of its folder: ``shortcuts-20-4000``."""
        return "-".join([self.study.name, *map(str, self.depths), str(self.iterations)])


@dataclass(frozen=True)
class Ranked:
    """A candidate and what speaks for it."""

    candidate: Candidate
    claims: float
    """claims that it is expected to decide"""
    seconds: float
    """seconds of its runs that are still missing"""

    @property
    def per_hour(self) -> float:
        """Claims decided in an hour."""
        return 3600 * self.claims / self.seconds


def sizes(study: Study) -> list[Depths]:
    """Those that a study can have: what it offers a budget, what is usual, and what its claims ask for."""
    asked = [claim.asked_of for claim in study.claims if claim.asked_of]
    return list(dict.fromkeys([*study.scales, study.usual, *asked]))


def candidates(done: Mapping[Size, int]) -> Iterator[Candidate]:
    """Every study at every size, up to each look that is still to come."""
    for study in studies.every():
        for depths in sizes(study):
            for iterations in LENGTHS:
                have = done.get((study.name, depths, iterations), 0)
                for seeds in (look for look in LOOKS if look > have):
                    yield Candidate(study, depths, iterations, seeds, have)


def expected(candidate: Candidate, open_claims: Collection[str], seen: Sequence[Seen]) -> float:
    """Number of open claims that a candidate decides, on average."""
    have = Extent(max(candidate.depths), candidate.iterations)
    found = 0.0
    for claim in candidate.study.claims:
        tests = claim.tests(candidate.depths)
        if claim.key in open_claims and tests and not short_of(claim.extent, have):
            chances = [_chance(test, candidate, seen) for test in tests]
            known = math.prod(each for each in chances if each is not None)
            likely = known * (UNKNOWN if None in chances else 1.0)
            found += likely if likely >= UNKNOWN * CLEAR else 0.0
    return found


def _chance(test: Test, candidate: Candidate, seen: Sequence[Seen]) -> float | None:
    """Probability of a verdict on a comparison: from the difference seen at this size, or the paper's; else None."""
    spread = spread_of(metric_of(test), candidate.iterations, seen)
    if spread is None:
        return None
    here = [
        each.values
        for each in seen
        if each.papers_data
        and (each.study, each.depths, each.iterations) == candidate.size
        and each.test == test
        and len(each.values) >= LOOKS[0]
    ]
    mean = math.fsum(here[0]) / len(here[0]) if here else as_published(test)
    return None if mean is None else chance(test, mean, spread, candidate.seeds, STRICTER)


def seconds(candidate: Candidate, macs: Callable[[str], int], per_mac: Callable[[Study], float]) -> float:
    """Seconds of the runs that a candidate still needs.

    Args:
        candidate: the study, its size and seeds.
        macs: multiply-adds of a network for one image.
        per_mac: seconds of a training step for each of them, at the precision of a study.
    """
    steps = sum(macs(arm.net) * arm.length for arm in candidate.study.arms(candidate.depths)) * candidate.iterations
    return steps * per_mac(candidate.study) * (candidate.seeds - candidate.done)


def ranked(done: Mapping[Size, int], open_claims: Collection[str], seen: Sequence[Seen], *,
           macs: Callable[[str], int], per_mac: Callable[[Study], float]) -> list[Ranked]:  # fmt: skip
    """The candidates that are expected to decide anything, most claims an hour first."""
    found = []
    for candidate in candidates(done):
        if claims := expected(candidate, open_claims, seen):
            found.append(Ranked(candidate, claims, seconds(candidate, macs, per_mac)))
    return sorted(found, key=lambda each: -each.per_hour)


def seeds_done(roots: Sequence[Path]) -> dict[Size, int]:
    """Seeds of each study at each size, on the papers' data, that are judged already."""
    found: dict[Size, int] = {}
    for path, summary in summaries(roots):
        if on_papers_data(summary):
            mark = path.with_name(MARK)
            marked = read_json(mark).get("depths", ()) if mark.exists() else ()
            depths = tuple(marked) or depths_of(summary)
            size = (summary.study, depths, iterations_of(summary))
            found[size] = max(found.get(size, 0), min(row.n for row in summary.rows if row.train_error is not None))
    return found


def cheapest(claim: str, done: Mapping[Size, int], seen: Sequence[Seen], *, macs: Callable[[str], int],
             per_mac: Callable[[Study], float]) -> Ranked | None:  # fmt: skip
    """The least with a fair chance of deciding a claim; None if no size with seeds as the rule allows has one."""
    of_it = ranked(done, {claim}, seen, macs=macs, per_mac=per_mac)
    return min(of_it, key=lambda each: each.seconds, default=None)
