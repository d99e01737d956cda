"""How often the rule is wrong, by simulation: few draws here, many in `benchmarks/false_verdicts.py`."""

import numpy as np
import pytest

from reslab.studies.rates import CASES, SHAPES, Case, ledger_rate, resampled, share_below, wrong_share
from reslab.studies.sequential import LEVEL

TRIALS = 120
CHANCE = 0.045
"""Above 5 %, that so few draws may come to by chance: more than two standard errors."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.claim} {case.wrong}")
def test_a_claim_comes_out_wrong_in_a_twentieth_at_most(case: Case) -> None:
    found = wrong_share(case, SHAPES["normal"], spread=1.0, trials=TRIALS, random=np.random.default_rng(1))
    assert found <= LEVEL + CHANCE


def test_the_cases_would_show_a_rule_that_is_wrong_too_often() -> None:
    """Three standard errors inside of a claim's bound the same verdict is right, and comes in most."""
    case = Case("degradation", "he2015-degradation", (20, 56), {"plain20": 20, "plain56": 23}, "held")
    assert wrong_share(case, SHAPES["normal"], spread=1.0, trials=20, random=np.random.default_rng(1)) > 0.8


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_have_mean_0_and_deviation_1(shape: str) -> None:
    drawn = SHAPES[shape](np.random.default_rng(0), (200_000,))
    assert abs(drawn.mean()) < 0.01
    assert drawn.std() == pytest.approx(1, abs=0.03)


def test_what_is_not_spent_on_looks_is_left() -> None:
    """The looks depend on each other: together they spend less than the sum of their parts, and most of it."""
    assert 0.03 < share_below(SHAPES["normal"], trials=40_000, random=np.random.default_rng(0)) < LEVEL


def test_the_shape_of_differences_that_were_seen() -> None:
    draw = resampled([[1.0, 2.0, 6.0], [100.0, 300.0, 200.0], [5.0, 5.0, 5.0], [1.0, 2.0]])
    drawn = draw(np.random.default_rng(0), (50_000,))
    assert len(np.unique(drawn.round(9))) == 6, "what has no spread, or two values, has no shape"
    assert abs(drawn.mean()) < 0.02
    assert drawn.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("true", [0.0, 0.5])
def test_of_a_ledgers_verdicts_a_twentieth_is_false_at_most(true: float) -> None:
    found = ledger_rate(
        SHAPES["normal"], claims=40, true=true, effect=4.0, groups=5, trials=60, random=np.random.default_rng(2)
    )
    assert found.false <= LEVEL + 0.03
    assert true == 0 or found.reached > 0.4
