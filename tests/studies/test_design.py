"""Every study: its rows can be trained, its claims look at rows that are there, at each of its sizes."""

import pytest

from reslab import published, studies
from reslab.errors import InputError
from reslab.nets.catalog import resolve
from reslab.nets.cost import cost
from reslab.report.summary import Curve, Run
from reslab.studies.design import ALL_DEPTHS, Depths, Study
from reslab.studies.plan import Plan, differences, published_of, version_of
from reslab.studies.srivastava2015_highway import gated
from reslab.studies.verdict import judge, rule_of
from reslab.studies.zagoruyko2016_table4 import factor

from .test_degradation import CIFAR10

EACH = [
    pytest.param(study, depths, id=f"{study.name} {'-'.join(map(str, depths))}")
    for study in studies.every()
    for depths in dict.fromkeys((*study.scales, study.usual))
]


def compared(study: Study, depths: Depths) -> tuple[str, ...]:
    """Labels that some claim's tests look at."""
    tests = [test for claim in study.claims for test in claim.tests(depths)]
    return tuple(dict.fromkeys(label for test in tests for label in (test.a, getattr(test, "b", test.a))))


@pytest.mark.parametrize(("study", "depths"), EACH)
def test_rows_and_claims_go_together(study: Study, depths: Depths) -> None:
    plan = Plan(study, CIFAR10, depths, seeds=2, iterations=200)
    labels = [arm.label for arm in plan.arms]
    assert len(set(labels)) == len(labels)
    assert len({arm.folder for arm in plan.arms}) == len(labels)
    assert {arm.start for arm in plan.arms} - {None} <= set(labels)
    derived = {ALL_DEPTHS} if study.derive else set()
    assert set(compared(study, depths)) <= set(labels) | derived
    assert set(labels) & set(compared(study, depths))
    planned = plan.planned()
    assert len({run.name for run in planned}) == 2 * len(labels)
    names = [run.name for run in planned]
    for at, run in enumerate(planned):
        assert run.after is None or run.after in names[:at], "a run comes behind the one that it starts from"
        assert run.recipe.iterations == round(200 * run.arm.length)
        assert run.recipe.seed == at // len(labels)


@pytest.mark.parametrize(("study", "depths"), EACH)
def test_any_results_can_be_judged(study: Study, depths: Depths) -> None:
    """Whatever comes out of the runs, there is a verdict for each claim, and the rule says what decides it."""
    plan = Plan(study, CIFAR10, depths, seeds=2, iterations=200)
    names = {"log10_gradient_ratio_start": 0.0, "log10_gradient_ratio_end": 0.0, "log2_images_per_second": 9.0}
    found = [
        Run(
            name=f"{label}-{seed}", label=label, group="", net=label, kind="residual", depth=1, seed=seed,
            iterations=200, params=1, final_train_error=10.0 + i + seed, final_test_error=10.0 + i, best_test_error=1.0,
            iterations_to_threshold=100 + i, curve=Curve(iteration=(), train_error=(), test_error=()), measures=names,
        )
        for seed in range(2)
        for i, label in enumerate(dict.fromkeys([*(arm.label for arm in plan.arms), *compared(study, depths)]))
    ]  # fmt: skip
    verdict = judge(study, depths, found, papers_data=True)
    assert [part.claim for part in verdict.parts] == [claim.key for claim in study.claims if claim.tests(depths)]
    assert any(part.decides for part in verdict.parts)
    for claim in study.claims:
        assert (claim.text.rstrip(".") in rule_of(study, depths)) == bool(claim.tests(depths))


def test_keys_of_claims_are_unique_and_say_where_they_stand() -> None:
    claims = [claim for _, claim in studies.claims()]
    assert len({claim.key for claim in claims}) == len(claims) >= 30
    assert all(", " in claim.place or "popular" in claim.place for claim in claims)
    assert all(claim.text.endswith(".") for claim in claims)


def test_published_figures_are_those_of_the_rows() -> None:
    """At the paper's length and on its data; each path leads to a figure."""
    seen = {}
    for study in studies.every():
        plan = Plan(study, CIFAR10, study.scales[-1], seeds=1, iterations=64_000)
        beside = [text for text in differences(plan) if not text.startswith("The paper's experiment is on ImageNet")]
        assert not beside
        assert len(differences(plan)) == (study.on == "ImageNet")
        seen[study.name] = published_of(plan)
        for arm in plan.arms:
            if arm.published and "table6" not in arm.published and arm.label not in seen[study.name]:
                assert published.load(arm.published[0])[arm.published[1]]["rows"][arm.published[3]] == {"fails": True}
    assert seen["depth"] == {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17, "resnet56": 6.97, "resnet110": 6.43}
    assert seen["orderings"]["full-preactivation"] == 6.37
    assert seen["identity-shortcuts"]["conv1x1"] == 12.22
    assert "dropout" not in seen["identity-shortcuts"]
    assert seen["bottleneck"] == {"resnet110": 6.61, "bottleneck164": 5.93}


@pytest.mark.parametrize("depths", [(10, 28), (10, 58), (16, 52), (28, 100)])
def test_wide_and_thin_have_as_many_parameters(depths: Depths) -> None:
    wide = cost(resolve(f"cifar_wide(depth={depths[0]}, factor={factor(*depths)})")).params
    thin = cost(resolve(f"cifar_wide(depth={depths[1]}, factor=1)")).params
    assert 0.75 < wide / thin < 1.25


def test_cardinality_keeps_the_cost() -> None:
    macs = [cost(resolve(arm.net)).macs for arm in studies.find("cardinality").arms((29,))]
    assert max(macs) / min(macs) < 1.1


@pytest.mark.parametrize("depth", [8, 11, 19, 20, 32, 59])
def test_highway_networks_have_the_depth_that_is_asked_for(depth: int) -> None:
    for arm in studies.find("highway").arms((depth,)):
        assert resolve(arm.net).depth == depth
    assert sum(gated(19)) == 14
    assert gated(19) == (4, 5, 5)


def test_a_plain_highway_has_the_same_layers_without_gates() -> None:
    gates, none = (resolve(arm.net) for arm in studies.find("highway").arms((19,)))
    assert gates.depth == none.depth
    assert cost(none).params < cost(gates).params
    assert not none.is_residual


@pytest.mark.parametrize(
    ("name", "depths", "said"),
    [
        ("depth", (20,), "at least two depths"),
        ("shortcuts", (20, 32), "networks of one depth"),
        ("width-or-depth", (10, 29), "depth 6n"),
        ("width-or-depth", (10, 22), "no whole factor"),
        ("width-or-depth", (10,), "a wide and a thin network"),
        ("highway", (5, 19), "8 layers or more"),
        ("degradation", (20, 21), "6n"),
    ],
)
def test_depths_that_cannot_be_compared(name: str, depths: Depths, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Plan(studies.find(name), CIFAR10, depths, seeds=1, iterations=100)


def test_versions_tell_studies_apart() -> None:
    shortcuts = studies.find("shortcuts")
    assert version_of(shortcuts, (20,)) == version_of(shortcuts, (20,))
    assert version_of(shortcuts, (20,)) != version_of(shortcuts, (32,))
    assert version_of(shortcuts, (20,)) != version_of(studies.find("orderings"), (20,))


def test_an_unknown_study_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'shortcuts'"):
        studies.find("shortcut")
