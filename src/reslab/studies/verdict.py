"""Judging a difference over paired seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from reslab.report.summary import Judgement

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences (in points of error) with the ends of its one-sided t-intervals, of 95 % usually."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float], confidence: float = CONFIDENCE) -> "Difference":
        """From one difference per seed. One seed has no spread: its interval is unbounded."""
        n = len(values)
        mean = math.fsum(values) / n
        if n == 1:
            return cls(mean, -math.inf, math.inf, 1)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
        half = float(stats.t.ppf(confidence, n - 1)) * std / math.sqrt(n)
        return cls(mean, mean - half, mean + half, n)

    def above(self, bound: float) -> Judgement:
        """Whether the true difference is over a bound: decided only if the interval lies on one side of it."""
        if self.low > bound:
            return "held"
        return "not held" if self.high <= bound else "not decided"

    def below(self, bound: float) -> Judgement:
        """Whether the true difference is under a bound."""
        if self.high < bound:
            return "held"
        return "not held" if self.low >= bound else "not decided"

    def __str__(self) -> str:
        if self.n == 1:
            return f"{self.mean:+.2f} points (one seed, so no interval)"
        return f"{self.mean:+.2f} points (95 % bounds {self.low:+.2f} and {self.high:+.2f}, n = {self.n} paired seeds)"


def both(a: Judgement, b: Judgement) -> Judgement:
    """Held if both are; not held if either is not; otherwise not decided."""
    if "not held" in (a, b):
        return "not held"
    return "held" if a == b == "held" else "not decided"
