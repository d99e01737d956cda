"""Judging: from finished runs and a claim's tests to a verdict with the numbers that it rests on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from reslab.report.summary import Judgement, Run, Verdict, VerdictPart
from reslab.studies.design import (
    FIXED,
    GENERAL_CHANGES,
    GENERAL_RULE,
    Absolute,
    Below,
    Claim,
    Depths,
    Extent,
    Sooner,
    Study,
    Test,
    Within,
)
from reslab.studies.sequential import EACH, LEVEL, LOOKS, Floats, Side, half_width, looked, p_values


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences (in points of error, usually) with the bounds of the look that was taken last."""

    mean: float
    low: float
    high: float
    n: int
    unit: str = "points"

    @classmethod
    def of(cls, values: Sequence[float], unit: str = "points") -> "Difference":
        """Computes one-sided t-bounds at the level of a look, from one difference per seed.

        With fewer seeds than the first look takes, nothing is said of the spread: the interval is unbounded.
        """
        if not looked(len(values)):
            return cls(math.fsum(values) / len(values), -math.inf, math.inf, len(values), unit)
        n = looked(len(values))[-1]
        mean, half = math.fsum(values[:n]) / n, half_width(values[:n], EACH)
        return cls(mean, mean - half, mean + half, n, unit)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if math.isinf(self.low):
            return f"{self.mean:+.2f}{unit} (n = {self.n}: no interval before {LOOKS[0]} seeds)"
        return f"{self.mean:+.2f}{unit} (bounds {self.low:+.2f} and {self.high:+.2f}, n = {self.n} paired seeds)"


@dataclass(frozen=True)
class Outcome:
    """The result for a comparison, or for a whole claim; p-values of all looks together."""

    speaks_for: float
    """p-value of what the claim says not being so"""
    against: float
    """p-value of it being so"""
    said: str
    """the numbers, in words"""

    @property
    def verdict(self) -> Judgement:
        """At the level of a claim by itself."""
        return verdict_of(self.speaks_for, self.against)


def verdict_of(speaks_for: float, against: float, level: float = LEVEL) -> Judgement:
    """Held, not held, or neither; the stronger where a difference is there and is less than half of the paper's."""
    if min(speaks_for, against) > level:
        return "not decided"
    return "held" if speaks_for <= against else "not held"


def both(a: Judgement, b: Judgement) -> Judgement:
    """Held if both are; not held if either is not; otherwise not decided."""
    if "not held" in (a, b):
        return "not held"
    return "held" if a == b == "held" else "not decided"


class Found:
    """The runs of a study, by label and seed."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = {(run.label, run.seed): run for run in runs}

    def seeds(self, *labels: str, metric: str = "test_error") -> list[int]:
        """Those for which all of the labels have a metric: others are in no pair."""
        beside = metric not in METRICS
        per_label = [
            {
                seed
                for (label, seed), run in self._runs.items()
                if label == wanted and not (beside and metric not in run.measures)
            }
            for wanted in labels
        ]
        return sorted(set.intersection(*per_label))

    def value(self, label: str, seed: int, metric: str) -> float:
        """A metric of a run."""
        run = self._runs[label, seed]
        if metric == "train_error":
            assert run.final_train_error is not None, f"{label} is no training"
            return run.final_train_error
        return run.final_test_error if metric == "test_error" else run.measures[metric]

    def reached(self, label: str, seed: int) -> tuple[int | None, int]:
        """Iterations to the threshold, and of the whole run."""
        run = self._runs[label, seed]
        return run.iterations_to_threshold, run.iterations

    def extent(self) -> Extent:
        """How deep and how long they are; the length of the briefest training counts, as studies go by it."""
        trained = [run for run in self._runs.values() if run.iterations]
        return Extent(
            max((run.depth for run in trained), default=0), min((run.iterations for run in trained), default=0)
        )


METRICS = {"train_error": ("training error", "points"), "test_error": ("test error", "points")}
"""In words, and their units."""


def _named(metric: str) -> tuple[str, str]:
    return METRICS.get(metric, (metric.replace("_", " "), ""))


def differences(test: Test, found: Found) -> list[float]:
    """The tested values by seed: a minus b, or a itself; for which comes first, log2 of b / a."""
    match test:
        case Absolute():
            return [found.value(test.a, seed, test.metric) for seed in found.seeds(test.a, metric=test.metric)]
        case Sooner():
            pairs = [(found.reached(test.a, seed), found.reached(test.b, seed)) for seed in found.seeds(test.a, test.b)]
            # One that never came under the threshold counts as having done so at its end, the least it can be.
            return [math.log2((b or b_end) / (a or a_end)) for (a, a_end), (b, b_end) in pairs]
        case Below() | Within():
            seeds = found.seeds(test.a, test.b, metric=test.metric)
            return [found.value(test.a, s, test.metric) - found.value(test.b, s, test.metric) for s in seeds]


def levels(test: Test, values: Sequence[float]) -> tuple[float, float]:
    """p-values of what a test says not being so, and of it being so, of its `differences`."""
    speaks_for, against = levels_of_rows(test, np.asarray(values, dtype=np.float64))
    return float(speaks_for), float(against)


def levels_of_rows(test: Test, seen: Floats) -> tuple[Floats, Floats]:
    """Like `levels`, for many rows of differences at once (..., seeds)."""
    match test:
        case Sooner():
            return p_values(seen, 0, "above"), p_values(seen, 0, "below")
        case Absolute():
            other: Side = "below" if test.side == "above" else "above"
            return p_values(seen, test.bound, test.side), p_values(seen, test.bound, other)
        case Within():
            margin = test.margin
            inside = np.maximum(p_values(seen, margin, "below"), p_values(seen, -margin, "above"))
            outside = np.minimum(p_values(seen, margin, "above"), p_values(seen, -margin, "below"))
            return inside, np.minimum(1.0, 2 * outside)
        case Below():
            return p_values(seen, test.bound, "below"), p_values(seen, against_from(test), "above")


def against_from(test: Below) -> float:
    """The difference a minus b from which on it speaks against the claim."""
    return test.bound - test.published / 2


def decide(test: Test, found: Found) -> Outcome:
    """Evaluates a test."""
    values = differences(test, found)
    if not values:
        return Outcome(1, 1, _nothing(test))
    return Outcome(*levels(test, values), _numbers(test, found, values))


def _nothing(test: Test) -> str:
    match test:
        case Absolute():
            return f"{_named(test.metric)[0]} of {test.a}: not measured"
        case Sooner():
            return f"iterations, {test.a} and {test.b}: no random seed in common"
        case Below() | Within():
            return f"{_named(test.metric)[0]}, {test.a} and {test.b}: no random seed in common"


def _numbers(test: Test, found: Found, values: Sequence[float]) -> str:
    if isinstance(test, Sooner):
        return _sooner(test, found, values)
    name, unit = _named(test.metric)
    match test:
        case Absolute():
            each = str(Difference.of(values, "%" if unit else "")).replace("paired seeds", "seeds")
            return f"{name} of {test.a}: {each}, required: {test.side} {test.bound:g}"
        case Within():
            gap = Difference.of(values, unit)
            return f"{name}, {test.a} minus {test.b}: {gap}, required: within {test.margin:g} either way"
        case Below():
            if test.bound:
                gap = Difference.of(values, unit)
                return f"{name}, {test.a} minus {test.b}: {gap}, required: below {test.bound:+g}"
            # What is claimed to be higher, first.
            more = Difference.of([-value for value in values], unit)
            paper = f", in the paper {test.published:+.2f}" if test.published else ""
            return f"{name}, {test.b} minus {test.a}: {more}{paper}"


def _sooner(test: Sooner, found: Found, logs: Sequence[float]) -> str:
    def show(label: str) -> str:
        reached = [found.reached(label, seed)[0] for seed in found.seeds(test.a, test.b)]
        return ", ".join("never" if at is None else f"{at:,}" for at in reached)

    return f"iterations: {test.a} {show(test.a)}; {test.b} {show(test.b)}: {_times(Difference.of(logs))}"


def _times(later: Difference) -> str:
    """A difference of logarithms to the base 2 as a factor."""
    if math.isinf(later.low):
        return f"{2**later.mean:.2g} times as many (n = {later.n}: no interval before {LOOKS[0]} seeds)"
    bounds = f"bounds {2**later.low:.2g} and {2**later.high:.2g}"
    return f"{2**later.mean:.2g} times as many ({bounds}, n = {later.n} paired seeds)"


def in_words(test: Test) -> str:
    """A test as a bound, for the rule."""
    match test:
        case Sooner():
            return f"{test.a} comes under the threshold in fewer iterations than {test.b}"
        case Absolute():
            return f"{_named(test.metric)[0]} of {test.a} {test.side} {test.bound:g}"
        case Below():
            said = f"{_named(test.metric)[0]} of {test.a} minus that of {test.b} below {test.bound:g}"
            return f"{said} (against it above {against_from(test):+.2f})" if test.published else said
        case Within():
            return f"{_named(test.metric)[0]} of {test.a} within {test.margin:g} of that of {test.b}"


def rule_of(study: Study, depths: Depths) -> str:
    """The rule of a study, in full."""
    asked = _asked(study, depths)
    claims = [
        f"“{claim.text.rstrip('.')}”: {'; '.join(map(in_words, claim.tests(depths)))}{_said_of(claim)}."
        for claim in asked
    ]
    beside = [claim.text.rstrip(".") for claim in asked if not claim.decides]
    threshold = "" if study.threshold is None else f" The threshold is {study.threshold:g} % training error."
    said = " The verdict is held if all claims are"
    said += f", but for what is reported beside ({'; '.join(beside)})." if beside else "."
    return " ".join([GENERAL_RULE, *claims]) + threshold + said


def _asked(study: Study, depths: Depths) -> list[Claim]:
    return [claim for claim in study.claims if claim.tests(depths)]


def history_of(study: Study, depths: Depths) -> tuple[str, ...]:
    """When the rule was written down, and each change since."""
    own = [change for claim in _asked(study, depths) for change in claim.changes]
    changes = sorted({*GENERAL_CHANGES, *own}, key=lambda change: (change.date, change.what))
    return (f"{FIXED}: written down.", *map(str, changes))


def _said_of(claim: Claim) -> str:
    extent = claim.extent
    wanted = [f"{extent.depth} layers"] if extent.depth else []
    wanted += [f"{extent.iterations:,} iterations"] if extent.iterations else []
    return f" (decided from {' and '.join(wanted)} on)" if wanted else ""


def judge(study: Study, depths: Depths, runs: Sequence[Run], *, papers_data: bool) -> Verdict:
    """The rule, applied to finished runs; ``papers_data``: whether they are on the images that the paper speaks of."""
    found = Found(runs)
    parts = tuple(_part(claim, depths, found, papers_data) for claim in _asked(study, depths))
    overall = reduce(both, (part.verdict for part in parts if part.decides), parts[0].verdict)
    return Verdict(
        rule=rule_of(study, depths), history=history_of(study, depths), parts=parts, overall=overall,
        sentence=_sentence(parts),
    )  # fmt: skip


def outcome(claim: Claim, depths: Depths, found: Found) -> Outcome:
    """Combines a claim's tests: all have to support it, and any one can refute it (Bonferroni)."""
    each = [decide(test, found) for test in claim.tests(depths)]
    return Outcome(
        max(one.speaks_for for one in each), min(1.0, len(each) * min(one.against for one in each)),
        "; ".join(one.said for one in each),
    )  # fmt: skip


def _part(claim: Claim, depths: Depths, found: Found, papers_data: bool) -> VerdictPart:
    came = outcome(claim, depths, found)
    numbers = came.said[0].upper() + came.said[1:]
    short = short_of(claim.extent, found.extent()) if papers_data else ""
    if short:
        numbers = f"{numbers}. Not decided at this size: {short}"
    return VerdictPart(
        question=claim.text,
        verdict="not decided" if short else came.verdict,
        numbers=numbers,
        claim=claim.key,
        place=claim.place,
        decides=claim.decides,
        speaks_for=None if short else came.speaks_for,
        against=None if short else came.against,
    )


def short_of(wanted: Extent, have: Extent) -> str:
    """Why what is found here says nothing of a claim; nothing where it does."""
    short = []
    if have.depth < wanted.depth:
        short.append(f"at least {wanted.depth} layers (here {have.depth})")
    if have.iterations < wanted.iterations:
        short.append(f"at least {wanted.iterations:,} iterations (here {have.iterations:,})")
    return f"the claim needs {' and '.join(short)}" if short else ""


def _sentence(parts: Sequence[VerdictPart]) -> str:
    """Which of the claims came to what."""
    words: tuple[Judgement, ...] = ("held", "not held", "not decided")
    said = []
    for verdict in words:
        texts = [part.question.rstrip(".") for part in parts if part.decides and part.verdict == verdict]
        if texts:
            said.append(f"{verdict.capitalize()} here: {'; '.join(texts)}.")
    return " ".join(said)
