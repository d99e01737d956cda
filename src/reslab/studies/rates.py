"""How often the rule is wrong: verdicts of simulated runs, by the code that judges real ones.

Runs are drawn where a verdict is hardest to get right: with a true difference that lies exactly on the bound that a
claim is tested against. What is counted is verdicts in the direction that is then wrong, at any look.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reslab import studies
from reslab.report.summary import Curve, Judgement, Run
from reslab.studies.design import Claim, Depths, Study
from reslab.studies.sequential import LEVEL, LOOKS, Floats, adjusted, p_values
from reslab.studies.verdict import judge

Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]
"""Values of mean 0 and standard deviation 1, of a shape."""
SEEDS = LOOKS[-1]
NO_CURVE = Curve(iteration=(), train_error=(), test_error=())


def _skewed(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    sigma = 0.5  # skewness 1.75
    values = random.lognormal(0, sigma, shape)
    mean, variance = np.exp(sigma**2 / 2), (np.exp(sigma**2) - 1) * np.exp(sigma**2)
    found: Floats = (values - mean) / np.sqrt(variance)
    return found


def _outliers(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """One in twenty has five times the spread, as a training that almost fails."""
    scale = np.where(random.random(shape) < 0.05, 5.0, 1.0)
    found: Floats = random.standard_normal(shape) * scale / np.sqrt(0.95 + 0.05 * 25)
    return found


SHAPES: dict[str, Draw] = {
    "normal": lambda random, shape: random.standard_normal(shape),
    "heavy tails (t, 4 degrees of freedom)": lambda random, shape: random.standard_t(4, shape) / np.sqrt(2),
    "outliers": _outliers,
    "skewed up": _skewed,
    "skewed down": lambda random, shape: -_skewed(random, shape),
}


def resampled(differences: Sequence[Sequence[float]]) -> Draw:
    """The shape of differences that were seen: of each comparison those from its mean, in its standard deviations."""
    kept = []
    for values in map(np.asarray, differences):
        spread = values.std(ddof=1)
        if len(values) > 2 and spread > 0:
            kept.append((values - values.mean()) / spread * np.sqrt(len(values) / (len(values) - 1)))
    pool = np.concatenate(kept)
    pool = (pool - pool.mean()) / pool.std()
    return lambda random, shape: random.choice(pool, shape)


# --- by the code of verdicts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A claim, and a truth in which one of the verdicts is wrong, but only just."""

    study: str
    claim: str
    depths: Depths
    values: Mapping[str, float]
    """true mean of each row: of errors in per cent, of log2 of iterations, or of what is measured beside"""
    wrong: Judgement
    metric: str = ""
    """what is measured, where it is neither errors nor iterations"""

    @property
    def found(self) -> tuple[Study, Claim]:
        """The study with this claim alone."""
        study = studies.find(self.study)
        [claim] = [claim for claim in study.claims if claim.key == self.claim]
        return replace(study, claims=(claim,)), claim


CASES = (
    Case("degradation", "he2015-degradation", (20, 56), {"plain20": 20, "plain56": 20}, "held"),
    Case("degradation", "he2015-degradation", (20, 56), {"plain20": 20, "plain56": 20}, "not held"),
    Case("degradation", "he2015-cure", (20, 56), {"resnet20": 10, "resnet56": 12, "plain56": 40}, "held"),
    Case("degradation", "he2015-cure", (20, 56), {"resnet20": 10, "resnet56": 12, "plain56": 12}, "not held"),
    Case("degradation", "he2015-sooner-deep", (20, 56), {"resnet56": 10, "plain56": 10}, "held"),
    Case("degradation", "he2015-sooner-deep", (20, 56), {"resnet56": 10, "plain56": 10}, "not held"),
    Case("identity-shortcuts", "he2016-identity-conv1x1", (56,), {"identity": 20, "conv1x1": 20}, "held"),
    Case("identity-shortcuts", "he2016-identity-conv1x1", (56,), {"identity": 20, "conv1x1": 22.805}, "not held"),
    Case("orderings", "he2016-order-relu-only", (56,), {"original": 20, "relu-only-preactivation": 22}, "held"),
    Case("orderings", "he2016-order-relu-only", (56,), {"original": 20, "relu-only-preactivation": 22}, "not held"),
    Case("controls", "he2015-gradients-healthy", (20, 56), {"plain56": -1.0}, "held", "log10_gradient_ratio"),
    Case("controls", "he2015-gradients-healthy", (20, 56), {"plain56": -1.0}, "not held", "log10_gradient_ratio"),
)


def wrong_share(case: Case, draw: Draw, *, spread: float, trials: int, random: np.random.Generator) -> float:
    """Share of simulated studies with the wrong verdict at any look; ``spread`` of the differences between two rows."""
    study, claim = case.found
    each = spread / np.sqrt(2) if len(case.values) > 1 else spread  # of a row
    wrong = 0
    for _ in range(trials):
        runs = _runs(case, {label: mean + each * draw(random, (SEEDS,)) for label, mean in case.values.items()})
        wrong += any(
            judge(study, case.depths, [run for run in runs if run.seed < look], papers_data=True).overall == case.wrong
            for look in LOOKS
        )
    assert claim.tests(case.depths)
    return wrong / trials


def _runs(case: Case, drawn: Mapping[str, Floats]) -> list[Run]:
    return [
        Run(
            name=f"{label}-{seed}", label=label, group="", net=label, kind="residual", depth=110, seed=seed,
            iterations=64_000, params=1, final_train_error=value, final_test_error=value, best_test_error=None,
            iterations_to_threshold=max(1, round(2**value)), curve=NO_CURVE,
            measures={f"{case.metric}_{when}": value for when in ("start", "end")} if case.metric else {},
        )
        for label, values in drawn.items()
        for seed, value in enumerate(map(float, values))
    ]  # fmt: skip


# --- by its p-values alone, many more -------------------------------------------------------------------------------


def share_below(draw: Draw, *, trials: int, random: np.random.Generator, level: float = LEVEL) -> float:
    """Share of p-values of one comparison under a level, its true difference on the bound."""
    return float((p_values(draw(random, (trials, SEEDS)), 0.0, "above") <= level).mean())


@dataclass(frozen=True)
class LedgerRate:
    """The false-discovery rate in simulated ledgers."""

    false: float
    """share of wrong verdicts among those that were reached, on average over ledgers; none reached counts as 0"""
    reached: float
    """share of the claims that were decided"""


def ledger_rate(draw: Draw, *, claims: int, true: float, effect: float, groups: int, trials: int,
                random: np.random.Generator) -> LedgerRate:  # fmt: skip
    """Simulates ledgers in which some claims are true by a margin, and the others lie exactly on their bound.

    Both directions are tested. Claims come in groups that are compared with the same row, so that their differences
    share half of their variance.
    """
    false, reached = [], []
    for _ in range(trials):
        own, shared = draw(random, (claims, SEEDS)), draw(random, (-(-claims // groups), SEEDS))
        noise = (own + shared.repeat(groups, axis=0)[:claims]) / np.sqrt(2)
        is_true = random.random(claims) < true
        values = noise + np.where(is_true, effect, 0.0)[:, None]
        for_, against = p_values(values, 0.0, "above"), p_values(values, effect / 2, "below")
        level = adjusted({str(i): p for i, p in enumerate(np.minimum(for_, against))})
        decided = np.array([level[str(i)] <= LEVEL for i in range(claims)])
        held = decided & (for_ <= against)
        # Of a claim whose effect is nothing, "held" is wrong; of one that is true, "not held".
        wrong = (held & ~is_true) | (decided & ~held & is_true)
        false.append(wrong.sum() / max(1, decided.sum()))
        reached.append(decided.mean())
    return LedgerRate(float(np.mean(false)), float(np.mean(reached)))
