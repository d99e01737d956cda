"""The verdict's rule, on numbers made by hand."""

import math
from collections.abc import Sequence

import pytest
from scipy import stats

from reslab.report.summary import Curve, Judgement, Kind, Run, Verdict, VerdictPart
from reslab.studies.design import Absolute, Below, Test, Within, twins
from reslab.studies.he2015_figure6 import MARGIN, STUDY
from reslab.studies.he2015_table6 import STUDY as depth_study
from reslab.studies.summarise import tail_error
from reslab.studies.verdict import Difference, Found, both, decide, history_of, rule_of
from reslab.studies.verdict import judge as judge_study


def test_three_seeds_by_hand() -> None:
    found = Difference.of([1.0, 2.0, 3.0])
    # t(0.95, 2 degrees of freedom) = 2.920; standard error = 1 / sqrt(3)
    assert (found.mean, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - 2.919986 / math.sqrt(3), abs=1e-5)
    assert found.high == pytest.approx(2 + 2.919986 / math.sqrt(3), abs=1e-5)


@pytest.mark.parametrize("values", [[0.3, -0.2], [5.0, 5.5, 4.0, 6.1, 5.2], [-1.0, 2.0, -3.0, 4.0]])
def test_the_bounds_are_those_of_the_one_sided_t_test(values: list[float]) -> None:
    """The interval lies above a bound exactly where the one-sided test at 5 % rejects it."""
    found = Difference.of(values)
    for bound, side in ((found.low, "greater"), (found.high, "less")):
        assert stats.ttest_1samp(values, bound, alternative=side).pvalue == pytest.approx(0.05)
    assert found.above(found.low - 1e-9) == "held"
    assert found.above(found.low + 1e-9) == "not decided"
    assert found.above(found.high + 1e-9) == "not held"
    assert found.below(found.high + 1e-9) == "held"
    assert found.below(found.high - 1e-9) == "not decided"
    assert found.below(found.low - 1e-9) == "not held"


def test_one_seed_decides_nothing() -> None:
    found = Difference.of([50.0])
    assert found.above(0) == found.below(0) == found.above(-1e9) == "not decided"
    assert str(found) == "+50.00 points (one seed, so no interval)"


def test_equal_differences_have_an_interval_of_no_width() -> None:
    assert Difference.of([1.0, 1.0]).above(0) == "held"
    assert Difference.of([0.0, 0.0]).above(0) == "not decided", "two networks that both guess say nothing"
    assert Difference.of([2.0, 2.0]).below(2.0) == "not decided"
    assert Difference.of([2.0, 2.0]).below(1.0) == "not held"


@pytest.mark.parametrize(
    ("a", "b", "together"),
    [
        ("held", "held", "held"),
        ("held", "not held", "not held"),
        ("held", "not decided", "not decided"),
        ("not held", "not decided", "not held"),
        ("not decided", "not decided", "not decided"),
    ],
)
def test_both(a: Judgement, b: Judgement, together: Judgement) -> None:
    assert both(a, b) == both(b, a) == together


def judge(runs: Sequence[Run]) -> Verdict:
    return judge_study(STUDY, (20, 56), runs)


def run(kind: Kind, depth: int, seed: int, error: float, reached: int | None = 100, *, iterations: int = 64_000) -> Run:
    net = f"{'plain' if kind == 'plain' else 'resnet'}{depth}"
    return Run(
        name=f"{net}-seed{seed}",
        label=net,
        group=f"{kind} networks",
        net=net,
        kind=kind,
        depth=depth,
        seed=seed,
        iterations=iterations,
        params=1,
        final_train_error=error,
        final_test_error=error,
        best_test_error=error,
        iterations_to_threshold=reached,
        curve=Curve(iteration=(500,), train_error=(error,), test_error=(error,)),
    )


def runs(plain: Sequence[tuple[float, float]], residual: Sequence[tuple[float, float]]) -> list[Run]:
    """One pair (20 layers, 56 layers) of training errors a seed."""
    found = []
    for seed, pairs in enumerate(zip(plain, residual, strict=True)):
        kinds: tuple[Kind, Kind] = ("plain", "residual")
        for kind, (shallow, deep) in zip(kinds, pairs, strict=True):
            found += [run(kind, 20, seed, shallow), run(kind, 56, seed, deep)]
    return found


WORSE = [(1.0, 30.0), (2.0, 33.0), (1.5, 36.0)]
EVEN = [(1.0, 1.2), (2.0, 1.7), (1.5, 1.6)]
BETTER = [(30.0, 1.0), (33.0, 2.0), (36.0, 1.0)]
MIXED = [(1.0, 9.0), (2.0, 1.5), (1.5, 2.5)]
CURED = [(1.0, 1.5), (1.2, 1.0), (0.8, 1.1)]


@pytest.mark.parametrize(
    ("plain", "residual", "degradation", "cure", "overall"),
    [
        pytest.param(WORSE, CURED, "held", "held", "held", id="as in the paper"),
        pytest.param(BETTER, CURED, "not held", "not decided", "not held", id="the deeper plain one is better"),
        pytest.param(MIXED, CURED, "not decided", "not decided", "not decided", id="the seeds disagree"),
        pytest.param(WORSE, WORSE, "held", "not held", "not held", id="no cure"),
        pytest.param(WORSE, [(1.0, 4.9), (1.0, 0.5), (1.0, 1.5)], "held", "not decided", "not decided", id="perhaps"),
        pytest.param(WORSE[:1], CURED[:1], "not decided", "not decided", "not decided", id="one seed"),
        pytest.param(EVEN, [(9.0, 9.1)] * 3, "not decided", "not held", "not held", id="worse than plain"),
    ],
)  # fmt: skip
def test_the_rule(
    plain: list[tuple[float, float]],
    residual: list[tuple[float, float]],
    degradation: Judgement,
    cure: Judgement,
    overall: Judgement,
) -> None:
    verdict = judge(runs(plain, residual))
    assert [part.verdict for part in verdict.parts[:2]] == [degradation, cure]
    assert verdict.overall == overall
    assert verdict.rule == rule_of(STUDY, (20, 56))
    assert verdict.sentence.startswith("Held here: " if "held" in (degradation, cure) else "Not ")
    for claim, part in zip(STUDY.claims, verdict.parts, strict=True):
        assert (part.claim, part.question, part.decides) == (claim.key, claim.text, claim.decides)


def test_differences_are_taken_seed_by_seed() -> None:
    """Seeds that differ far more from each other than the depths do: paired, it is decided."""
    plain = [(10.0, 12.0), (40.0, 42.1), (70.0, 71.9)]
    residual = [(10.0, 10.1), (40.0, 40.0), (70.0, 69.9)]
    assert judge(runs(plain, residual)).overall == "held"
    shuffled = list(reversed(runs(plain, residual)))
    assert judge(shuffled).overall == "held"


def test_the_cure_allows_a_margin_and_no_more() -> None:
    for gap, verdict in ((MARGIN - 0.5, "held"), (MARGIN + 0.5, "not held")):
        found = judge(runs(WORSE, [(1.0, 1.0 + gap), (2.0, 2.0 + gap + 0.01), (3.0, 3.0 + gap - 0.01)]))
        assert found.parts[1].verdict == verdict


def test_only_the_least_and_the_greatest_depth_are_judged() -> None:
    found = runs(WORSE, CURED)
    between = [
        run(kind, 38, seed, 99.0) for kind in ("plain", "residual") for seed in range(3)
    ]  # fmt: skip
    assert judge([*found, *between]) == judge(found)


@pytest.mark.parametrize(
    ("plain", "residual", "verdict"),
    [
        ((300, 310, 320), (100, 110, 120), "held"),
        ((None, None, None), (100, 110, 120), "held"),
        ((300, 310, 320), (100, 110, 400), "not decided"),
        ((100, 110, 120), (300, 310, 320), "not held"),
        ((100, 110, 120), (100, 110, 120), "not decided"),
        ((100, 110, 120), (None, None, None), "not held"),
        ((None, None, None), (None, None, None), "not decided"),
        ((300,), (100,), "not decided"),
        ((300, 400, 100), (100, 390, 99), "not decided"),
    ],
)
def test_convergence(plain: tuple[int | None, ...], residual: tuple[int | None, ...], verdict: Judgement) -> None:
    found = []
    for seed, (p, r) in enumerate(zip(plain, residual, strict=True)):
        found += [run("plain", 20, seed, 1), run("residual", 20, seed, 1)]
        found += [run("plain", 56, seed, 30, p), run("residual", 56, seed, 1, r)]
    part = judge(found).parts[3]
    assert part.claim == "he2015-sooner-deep"
    assert part.verdict == verdict


def test_against_a_claim_only_what_the_paper_says_it_of() -> None:
    """Fewer iterations or layers than the paper's can speak for its claim, and not against it."""

    def judged(iterations: int, deep: int, pairs: Sequence[tuple[float, float]]) -> Verdict:
        found = []
        for seed, (shallow, other) in enumerate(pairs):
            for kind in ("plain", "residual"):
                found.append(run(kind, 20, seed, shallow, iterations=iterations))
                found.append(run(kind, deep, seed, other, iterations=iterations))
        return judge_study(STUDY, (20, deep), found)

    assert judged(64_000, 56, BETTER).parts[0].verdict == "not held"
    for iterations, deep, why in (
        (4000, 56, "the paper trains for 64,000 iterations, these runs for 4,000"),
        (64_000, 44, "the paper's networks have 56 layers and more, these at most 44"),
    ):
        part = judged(iterations, deep, BETTER).parts[0]
        assert part.verdict == "not decided"
        assert part.numbers.endswith(f"Not decided at this budget: {why}")
        assert judged(iterations, deep, WORSE).parts[0].verdict == "held"


def test_depths_are_part_of_a_claim_about_depths() -> None:
    """Table 6 begins at 20 layers and says that 110 are better; 14 against 8 decide nothing of it, whichever way."""

    def judged(depths: tuple[int, int], errors: tuple[float, float]) -> Verdict:
        found = [
            run("residual", depth, seed, error + seed / 10, iterations=64_000).model_copy(
                update={"label": twins(depth)[1]}
            )
            for depth, error in zip(depths, errors, strict=True)
            for seed in range(3)
        ]
        return judge_study(depth_study, depths, found)

    for errors in ((9.0, 8.0), (8.0, 9.0)):
        part = judged((8, 14), errors).parts[0]
        assert part.verdict == "not decided"
        assert part.numbers.endswith("the paper's networks have 32 layers and more, these at most 14")
    assert judged((20, 32), (9.0, 8.0)).parts[0].verdict == "held"
    assert judged((20, 32), (8.0, 9.0)).parts[0].verdict == "not held"


def test_a_rule_says_when_it_was_fixed_and_each_change() -> None:
    found = [run("residual", depth, seed, 9.0, iterations=64_000) for depth in (8, 14) for seed in range(2)]
    history = judge_study(depth_study, (8, 14), found).history
    assert history[0] == "2026-11-22: written down."
    assert any("shallower networks no longer decide it" in line for line in history)
    assert list(history) == sorted(history, key=lambda line: line[:10])
    assert not any("shallower" in line for line in history_of(STUDY, (20, 56)))


def test_what_too_little_training_would_confirm_is_not_confirmed_by_it() -> None:
    """That a network of 1202 layers is worse than one of 110 is said of networks that are trained."""

    def judged(iterations: int, huge: float) -> VerdictPart:
        found = []
        for seed in range(3):
            for depth, error in ((20, 9.0), (110, 6.0), (1202, huge)):
                found.append(run("residual", depth, seed, error + seed / 10, iterations=iterations))
        parts = judge_study(depth_study, (20, 110, 1202), found).parts
        return next(part for part in parts if part.claim == "he2015-1202-test")

    assert judged(64_000, 8.0).verdict == "held"
    assert judged(64_000, 5.0).verdict == "not held"
    for huge in (8.0, 5.0):
        part = judged(4000, huge)
        assert part.verdict == "not decided"
        assert (
            "Not decided at this budget: the paper trains for 64,000 iterations, these runs for 4,000" in part.numbers
        )


def test_of_several_tests_each_has_to_fail_more_clearly() -> None:
    """At 5 % for all together: a difference that one test alone would call against the claim does not do of two."""
    found = [value("a", seed, final_test_error=10.0) for seed in range(3)]
    found += [value("b", seed, final_test_error=10.0 - gap) for seed, gap in enumerate((0.6, 1.0, 1.9))]
    test = Below("a", "b")
    gap = stats.ttest_1samp([0.6, 1.0, 1.9], 0, alternative="greater").pvalue
    assert 0.025 < gap < 0.05
    assert decide(test, Found(found))[0] == "not held"
    assert decide(test, Found(found), of=2)[0] == "not decided"
    held = Below("b", "a")
    assert decide(held, Found(found), of=2)[0] == decide(held, Found(found))[0] == "held"


def test_what_was_not_measured_is_in_no_pair() -> None:
    """A training that failed has errors, those of guessing, and no gradients."""
    found = [value("a", seed, measures={"x": 1.0 + 0.1 * seed}) for seed in range(3)]
    found += [value("b", seed, measures={"x": 2.0} if seed else {}) for seed in range(3)]
    assert "n = 2 paired seeds" in decide(Below("a", "b", "x"), Found(found))[1]
    assert "n = 3 paired seeds" in decide(Below("a", "b"), Found(found))[1]
    assert decide(Absolute("c", "above", 0, "x"), Found([value("c", 0)])) == ("not decided", "x of c: not measured")


def test_the_tail_weighs_windows_by_their_length() -> None:
    """Points at 85, 95, 99 and 100 of 100: the last tenth is 5 iterations of the second, 4 and 1 of the others."""
    history = [
        {"iteration": at, "train_error": error} for at, error in ((85, 100.0), (95, 50.0), (99, 10.0), (100, 0.0))
    ]
    assert tail_error(history, 100) == pytest.approx((5 * 50 + 4 * 10) / 10)
    even = [{"iteration": 10 * i, "train_error": float(i)} for i in range(1, 11)]
    assert tail_error(even, 100) == 10.0
    assert tail_error([{"iteration": 1, "train_error": 7.0}], 1) == 7.0


def value(label: str, seed: int, **fields: object) -> Run:
    plain = run("plain", 20, seed, 0.0)
    return plain.model_copy(update={"label": label, **fields})


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (Below("a", "b"), "held"),
        (Below("b", "a"), "not held"),
        (Below("b", "a", bound=2.0), "held"),
        (Below("b", "a", bound=1.0), "not decided"),
        (Within("a", "b", margin=2.0), "held"),
        (Within("a", "b", margin=0.5), "not held"),
        (Within("b", "a", margin=1.0), "not decided"),
        (Below("a", "b", "log10_gradient_ratio_start"), "not held"),
        (Absolute("a", "above", -1.0, "log10_gradient_ratio_start"), "held"),
        (Absolute("a", "below", -1.0, "log10_gradient_ratio_start"), "not held"),
        (Absolute("a", "above", 0.3, "log10_gradient_ratio_start"), "not decided"),
        (Below("a", "missing"), "not decided"),
    ],
)
def test_a_test_of_each_kind(test: Test, verdict: Judgement) -> None:
    """b is a point worse than a in test error, a little more or less from seed to seed."""
    found = []
    for seed, (more, ratio) in enumerate(((0.9, 0.2), (1.0, 0.3), (1.1, 0.4))):
        measures = {"log10_gradient_ratio_start": ratio}
        found.append(value("a", seed, final_test_error=10.0 * seed, measures=measures))
        found.append(
            value("b", seed, final_test_error=10.0 * seed + more, measures={m: v - 1 for m, v in measures.items()})
        )
    assert decide(test, Found(found))[0] == verdict


def test_two_tests_of_a_claim_both_count() -> None:
    """The cure needs both: within the margin of the shallower network, and below the plain twin."""
    worse_than_plain = judge(runs([(9.0, 1.0)] * 3, CURED))
    assert worse_than_plain.parts[1].verdict != "held"
