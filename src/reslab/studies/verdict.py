"""Judging: from finished runs and a claim's tests to a verdict with the numbers that it rests on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

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

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences (in points of error, usually) with the ends of its one-sided t-intervals."""

    mean: float
    low: float
    high: float
    n: int
    unit: str = "points"

    @classmethod
    def of(cls, values: Sequence[float], confidence: float = CONFIDENCE, unit: str = "points") -> "Difference":
        """From one difference per seed. One seed has no spread: its interval is unbounded."""
        from scipy import stats  # a second of imports that a listing does without

        n = len(values)
        mean = math.fsum(values) / n
        if n == 1:
            return cls(mean, -math.inf, math.inf, 1, unit)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
        half = float(stats.t.ppf(confidence, n - 1)) * std / math.sqrt(n)
        return cls(mean, mean - half, mean + half, n, unit)

    def above(self, bound: float) -> Judgement:
        """Whether the true difference is over a bound: decided only if the interval lies on one side of it."""
        if self.low > bound:
            return "held"
        return "not held" if self.high < bound else "not decided"

    def below(self, bound: float) -> Judgement:
        """Whether the true difference is under a bound."""
        if self.high < bound:
            return "held"
        return "not held" if self.low > bound else "not decided"

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.n == 1:
            return f"{self.mean:+.2f}{unit} (one seed, so no interval)"
        bounds = f"one-sided 95 % bounds {self.low:+.2f} and {self.high:+.2f}"
        return f"{self.mean:+.2f}{unit} ({bounds}, n = {self.n} paired seeds)"


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


def decide(test: Test, found: Found, *, of: int = 1) -> tuple[Judgement, str]:
    """What a test comes to, and its numbers in words.

    Of several tests of a claim (``of``) any that fails decides against it, which each may do by chance: so each has
    to fail at a level that is as many times as strict (Bonferroni).
    """
    verdict, said = _decided(test, found, CONFIDENCE)
    if verdict == "not held" and of > 1:
        verdict = "not held" if _decided(test, found, 1 - (1 - CONFIDENCE) / of)[0] == "not held" else "not decided"
    return verdict, said


def _decided(test: Test, found: Found, confidence: float) -> tuple[Judgement, str]:
    match test:
        case Sooner():
            return _sooner(test, found, confidence)
        case Absolute():
            name, unit = _named(test.metric)
            seeds = found.seeds(test.a, metric=test.metric)
            if not seeds:
                return "not decided", f"{name} of {test.a}: not measured"
            values = [found.value(test.a, seed, test.metric) for seed in seeds]
            each = Difference.of(values, confidence, unit="%" if unit else "")
            verdict = each.above(test.bound) if test.side == "above" else each.below(test.bound)
            return verdict, f"{name} of {test.a}: {each}, to be {test.side} {test.bound:g}".replace(
                "paired seeds", "seeds"
            )
        case Below() | Within():
            name, unit = _named(test.metric)
            seeds = found.seeds(test.a, test.b, metric=test.metric)
            if not seeds:
                return "not decided", f"{name}, {test.a} and {test.b}: no seeds that both have"
            pairs = [found.value(test.a, s, test.metric) - found.value(test.b, s, test.metric) for s in seeds]
            gap = Difference.of(pairs, confidence, unit=unit)
            said = f"{name}, {test.a} minus {test.b}: {gap}"
            if isinstance(test, Within):
                verdict = both(gap.below(test.margin), gap.above(-test.margin))
                return verdict, f"{said}, to be within {test.margin:g} either way"
            if test.bound:
                return gap.below(test.bound), f"{said}, to be below {test.bound:+g}"
            # What is claimed to be higher, first.
            more = Difference.of([-pair for pair in pairs], confidence, unit=unit)
            return gap.below(0.0), f"{name}, {test.b} minus {test.a}: {more}"


def _sooner(test: Sooner, found: Found, confidence: float) -> tuple[Judgement, str]:
    seeds = found.seeds(test.a, test.b)
    if not seeds:
        return "not decided", f"iterations, {test.a} and {test.b}: no seeds that both have"
    first = [found.reached(test.a, seed) for seed in seeds]
    second = [found.reached(test.b, seed) for seed in seeds]

    def show(values: Sequence[tuple[int | None, int]]) -> str:
        return ", ".join("never" if at is None else f"{at:,}" for at, _ in values)

    # One that never came under the threshold counts as having done so at its end, which is the least it can be.
    logs = [math.log2((b or b_end) / (a or a_end)) for (a, a_end), (b, b_end) in zip(first, second, strict=True)]
    later = Difference.of(logs, confidence, unit="")
    said = f"iterations: {test.a} {show(first)}; {test.b} {show(second)}, {_times(later)} as many"
    return later.above(0.0), said


def _times(later: Difference) -> str:
    """A difference of logarithms to the base 2 as a factor."""
    if later.n == 1:
        return f"{2**later.mean:.2g} times (one seed, so no interval)"
    bounds = f"one-sided 95 % bounds {2**later.low:.2g} and {2**later.high:.2g}"
    return f"{2**later.mean:.2g} times ({bounds}, n = {later.n} paired seeds)"


def in_words(test: Test) -> str:
    """A test as a bound, for the rule."""
    match test:
        case Sooner():
            return f"{test.a} comes under the threshold in fewer iterations than {test.b}"
        case Absolute():
            return f"{_named(test.metric)[0]} of {test.a} {test.side} {test.bound:g}"
        case Below():
            return f"{_named(test.metric)[0]} of {test.a} minus that of {test.b} below {test.bound:g}"
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
    if not wanted:
        return ""
    if claim.of_trained:
        return f" (decided from {' and '.join(wanted)} on)"
    either = f", for it from {extent.depth} layers on" if claim.of_depth else ""
    return f" (against it from {' and '.join(wanted)} on{either})"


def judge(study: Study, depths: Depths, runs: Sequence[Run]) -> Verdict:
    """The rule, applied to finished runs."""
    found = Found(runs)
    parts = tuple(_part(claim, depths, found) for claim in study.claims if claim.tests(depths))
    overall = reduce(both, (part.verdict for part in parts if part.decides), parts[0].verdict)
    return Verdict(
        rule=rule_of(study, depths), history=history_of(study, depths), parts=parts, overall=overall,
        sentence=_sentence(parts),
    )  # fmt: skip


def _part(claim: Claim, depths: Depths, found: Found) -> VerdictPart:
    tests = claim.tests(depths)
    decided = [decide(test, found, of=len(tests)) for test in tests]
    numbers = "; ".join(numbers for _, numbers in decided)
    verdict = reduce(both, (verdict for verdict, _ in decided))
    have = found.extent()
    wanted = claim.extent
    if verdict == "held" and not claim.of_trained:
        wanted = Extent(wanted.depth if claim.of_depth else 0, 0)
    if verdict != "not decided" and (short := _short_of(wanted, have)):
        verdict, numbers = "not decided", f"{numbers}. Not decided at this budget: {short}"
    return VerdictPart(
        question=claim.text,
        verdict=verdict,
        numbers=numbers[0].upper() + numbers[1:],
        claim=claim.key,
        place=claim.place,
        decides=claim.decides,
    )


def _short_of(wanted: Extent, have: Extent) -> str:
    """Why what is found here says nothing of the paper's claim; nothing where it does."""
    short = []
    if have.depth < wanted.depth:
        short.append(f"the paper's networks have {wanted.depth} layers and more, these at most {have.depth}")
    if have.iterations < wanted.iterations:
        short.append(f"the paper trains for {wanted.iterations:,} iterations, these runs for {have.iterations:,}")
    return ", and ".join(short)


def _sentence(parts: Sequence[VerdictPart]) -> str:
    """Which of the claims came to what."""
    words: tuple[Judgement, ...] = ("held", "not held", "not decided")
    said = []
    for verdict in words:
        texts = [part.question.rstrip(".") for part in parts if part.decides and part.verdict == verdict]
        if texts:
            said.append(f"{verdict.capitalize()} here: {'; '.join(texts)}.")
    return " ".join(said)
