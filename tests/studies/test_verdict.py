"""The verdict's rule, on numbers made by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from scipy import stats

from reslab.report.summary import Curve, Judgement, Kind, Run, Verdict, VerdictPart
from reslab.studies.design import Absolute, Below, Claim, Test, Within, twins
from reslab.studies.he2015_figure6 import MARGIN, STUDY
from reslab.studies.he2015_table6 import STUDY as depth_study
from reslab.studies.summarise import tail_error
from reslab.studies.verdict import (
    Difference,
    Found,
    Outcome,
    both,
    decide,
    history_of,
    levels,
    outcome,
    rule_of,
    verdict_of,
)
from reslab.studies.verdict import judge as judge_study


def test_three_seeds_by_hand() -> None:
    found = Difference.of([1.0, 2.0, 3.0])
    # At the level of a look, 1 %: t(0.99, 2 degrees of freedom) = 6.9646; standard error = 1 / sqrt(3)
    assert (found.mean, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - 6.964557 / math.sqrt(3), abs=1e-5)
    assert found.high == pytest.approx(2 + 6.964557 / math.sqrt(3), abs=1e-5)


@pytest.mark.parametrize("values", [[0.3, -0.2, 0.1], [5.0, 5.5, 4.0, 6.1, 5.2]])
def test_the_bounds_are_where_the_verdict_changes(values: list[float]) -> None:
    """Of the last look, that is: of three seeds it is the first."""
    found = Difference.of(values)
    for bound, side in ((found.low, "greater"), (found.high, "less")):
        assert stats.ttest_1samp(values, bound, alternative=side).pvalue == pytest.approx(0.01)
    if len(values) == 3:
        assert levels(Below("a", "b", bound=found.high), values) == pytest.approx((0.05, 1), abs=1e-6)
        assert levels(Below("a", "b", bound=found.low), values) == pytest.approx((1, 0.05), abs=1e-6)


def test_seeds_between_two_looks_wait_for_the_next() -> None:
    four = Difference.of([1.0, 2.0, 3.0, 50.0])
    assert four == Difference.of([1.0, 2.0, 3.0])
    assert str(four).endswith("n = 3 paired seeds)")


def test_one_or_two_seeds_decide_nothing() -> None:
    for values in ([50.0], [50.0, 50.1]):
        assert levels(Below("a", "b"), values) == (1, 1)
        assert "no interval before 3 seeds" in str(Difference.of(values))


def test_equal_differences() -> None:
    below = Below("a", "b")
    assert verdict_of(*levels(below, [-1.0] * 3)) == "held"
    assert verdict_of(*levels(below, [0.0] * 3)) == "not decided", "two networks that both guess say nothing"
    assert verdict_of(*levels(below, [1.0] * 3)) == "not held"


def test_less_than_half_of_the_published_difference_speaks_against_a_claim() -> None:
    near = [-0.5, 0.1, 0.2, -0.2, 0.1, -0.1, 0.3, -0.2]
    assert verdict_of(*levels(Below("a", "b"), near)) == "not decided"
    assert verdict_of(*levels(Below("a", "b", published=2.0), near)) == "not held"
    there = [-0.8, -0.9, -0.85, -0.8, -0.9]
    assert verdict_of(*levels(Below("a", "b", published=2.0), there)) == "held", "it is there, and it is small"


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
    return judge_study(STUDY, (20, 56), runs, papers_data=True)


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


def test_less_than_a_claim_asks_for_decides_nothing_either_way() -> None:
    """Equal burdens: what is too short or too shallow to speak against a paper does not speak for it."""

    def judged(iterations: int, deep: int, pairs: Sequence[tuple[float, float]], papers: bool = True) -> VerdictPart:
        found = []
        for seed, (shallow, other) in enumerate(pairs):
            for depth, error in ((20, shallow), (deep, other)):
                made = run("plain", depth, seed, error, iterations=iterations)
                found.append(made.model_copy(update={"label": twins(depth)[0]}))
        degradation = replace(STUDY, claims=STUDY.claims[:1])
        return judge_study(degradation, (20, deep), found, papers_data=papers).parts[0]

    assert judged(2000, 32, BETTER).verdict == "not held"
    assert judged(2000, 32, WORSE).verdict == "held"
    for iterations, deep, why in (
        (1000, 56, "the claim needs at least 2,000 iterations (here 1,000)"),
        (64_000, 26, "the claim needs at least 28 layers (here 26)"),
    ):
        for pairs in (BETTER, WORSE):
            part = judged(iterations, deep, pairs)
            assert part.verdict == "not decided"
            assert part.speaks_for is part.against is None
            assert part.numbers.endswith(f"Not decided at this size: {why}")
    assert judged(500, 26, WORSE, papers=False).verdict == "held", "what other images show is said of these"


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
        return judge_study(depth_study, depths, found, papers_data=True)

    for errors in ((9.0, 8.0), (8.0, 9.0)):
        part = judged((8, 14), errors).parts[0]
        assert part.verdict == "not decided"
        assert part.numbers.endswith("the claim needs at least 32 layers (here 14)")
    assert judged((20, 32), (9.0, 8.0)).parts[0].verdict == "held"
    assert judged((20, 32), (8.0, 9.0)).parts[0].verdict == "not held"


def test_a_rule_says_when_it_was_fixed_and_each_change() -> None:
    found = [run("residual", depth, seed, 9.0, iterations=64_000) for depth in (8, 14) for seed in range(2)]
    history = judge_study(depth_study, (8, 14), found, papers_data=True).history
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
        parts = judge_study(depth_study, (20, 110, 1202), found, papers_data=True).parts
        return next(part for part in parts if part.claim == "he2015-1202-test")

    assert judged(64_000, 8.0).verdict == "held"
    assert judged(64_000, 5.0).verdict == "not held"
    for huge in (8.0, 5.0):
        part = judged(4000, huge)
        assert part.verdict == "not decided"
        assert "Not decided at this size: the claim needs at least 64,000 iterations (here 4,000)" in part.numbers


def test_of_several_tests_any_may_fail_by_chance() -> None:
    """Each has to speak for a claim, so that the weakest counts; any may speak against it, so that they share 5 %."""

    def outcome_of(tests: tuple[Test, ...]) -> Outcome:
        found = [value("a", seed, final_test_error=10.0) for seed in range(3)]
        found += [value("b", seed, final_test_error=10.0 - gap) for seed, gap in enumerate((0.9, 1.0, 1.1))]
        found += [value("c", seed, final_test_error=20.0 - gap) for seed, gap in enumerate((0.6, 1.0, 1.9))]
        claim = Claim("key", "place", "text", lambda _: tests)
        return outcome(claim, (20,), Found(found))

    one, other = outcome_of((Below("b", "a"),)), outcome_of((Below("a", "c"),))
    both_held = outcome_of((Below("b", "a"), Below("a", "c")))
    assert both_held.speaks_for == max(one.speaks_for, other.speaks_for)
    failed, fails_too = outcome_of((Below("a", "b"),)), outcome_of((Below("a", "b"), Below("a", "c")))
    assert failed.verdict == "not held"
    assert fails_too.against == 2 * failed.against


def test_what_was_not_measured_is_in_no_pair() -> None:
    """A training that failed has errors, those of guessing, and no gradients."""
    found = [value("a", seed, measures={"x": 1.0 + 0.1 * seed}) for seed in range(3)]
    found += [value("b", seed, measures={"x": 2.0} if seed else {}) for seed in range(3)]
    assert "(n = 2: no interval" in decide(Below("a", "b", "x"), Found(found)).said
    assert "n = 3 paired seeds" in decide(Below("a", "b"), Found(found)).said
    assert decide(Absolute("c", "above", 0, "x"), Found([value("c", 0)])) == Outcome(1, 1, "x of c: not measured")


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
        (Within("a", "b", margin=0.3), "not held"),
        (Within("a", "b", margin=0.5), "not decided"),
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
    assert decide(test, Found(found)).verdict == verdict


def test_two_tests_of_a_claim_both_count() -> None:
    """The cure needs both: within the margin of the shallower network, and below the plain twin."""
    worse_than_plain = judge(runs([(9.0, 1.0)] * 3, CURED))
    assert worse_than_plain.parts[1].verdict != "held"
