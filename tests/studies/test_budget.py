"""From minutes to a plan."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reslab import studies
from reslab.errors import InputError
from reslab.runs import read_json
from reslab.studies.budget import Budget, Cost, Costs, fitted, guessed
from reslab.studies.design import Depths
from reslab.studies.plan import Plan, macs_of
from reslab.studies.sequential import LOOKS

from .test_degradation import CIFAR10

Reslab = Callable[..., tuple[int, str, str]]


def plan(depths: Depths = (20, 32), seeds: int = 3, iterations: int = 1000) -> Plan:
    return Plan(studies.find("depth"), CIFAR10, depths, seeds, iterations)


COSTS: Costs = {"resnet20": Cost(0.1, 4.0), "resnet32": Cost(0.2, 8.0)}


def test_the_total_by_hand() -> None:
    budget = Budget(plan(), COSTS, jobs=1)
    # 5 seconds of overhead, 1,000 steps, an evaluation every 125 iterations.
    assert budget.seconds("resnet20") == 5 + 100 + 8 * 4
    assert budget.total == 3 * (5 + 100 + 32 + 5 + 200 + 64)
    assert Budget(plan(), COSTS, jobs=2).total == pytest.approx(budget.total * 1.15 / 2)


@pytest.mark.parametrize("seconds", [700, 1000, 3600, 20_000])
def test_as_many_iterations_as_there_is_time_for(seconds: float) -> None:
    chosen = fitted(plan(), COSTS, 1, seconds)
    assert Budget(plan(iterations=chosen), COSTS, 1).total <= seconds
    digits = f"{chosen:.1e}".partition("e")[0]
    assert digits in ("1.0", "1.5", "2.0", "3.0", "4.0", "6.0", "8.0"), "a rung on which studies meet"
    assert Budget(plan(iterations=2 * chosen), COSTS, 1).total > seconds


def test_no_more_than_the_paper_and_none_where_there_is_no_time() -> None:
    assert fitted(plan(), COSTS, 1, 1e9) == 64_000
    assert fitted(plan(), COSTS, 1, 20) == 0


def test_networks_that_were_not_measured_are_reckoned_by_their_macs() -> None:
    def macs(net: str) -> int:
        return macs_of(net, CIFAR10)

    found = guessed(plan((20, 56)), COSTS, macs)
    assert found["resnet20"] == COSTS["resnet20"]
    ratio = macs("resnet56") / (macs("resnet20") + macs("resnet32"))
    assert found["resnet56"].step == pytest.approx(0.3 * ratio)


def test_a_dry_run_plans_and_writes_nothing(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reslab.studies.budget.SHARE", 0.0003)  # a second of measuring
    out = tmp_path / "study"
    words = ("study", "depth", "--data", "digits", "--out", out, "--dry-run", "--json")
    code, text, err = reslab(*words, "--budget", 60)  # minutes, of which a machine at work has some for it
    assert code == 0, err
    planned = json.loads(text)
    assert planned["seeds"] in LOOKS
    assert planned["iterations"] >= studies.find("depth").least
    assert planned["seconds"] <= 3600
    assert not out.exists()
    code, text, _ = reslab(*words, "--budget", 60, "--depths", 8, 14, "--seeds", 2, "--iterations", 50)
    assert code == 0
    planned = json.loads(text)
    assert (planned["depths"], planned["seeds"], planned["iterations"]) == ([8, 14], 2, 50)


def test_a_budget_that_is_too_small_says_what_the_least_is(reslab: Reslab, tmp_path: Path) -> None:
    code, _, err = reslab("study", "depth", "--data", "digits", "--budget", 0.02, "--out", tmp_path / "study")
    assert code == 2
    assert "--budget 0.02 is too small: 6 runs of 200 iterations" in err
    assert "here; give --budget" in err
    code, _, err = reslab("study", "depth", "--data", "digits", "--budget", -1)
    assert code == 2
    assert "--budget takes minutes" in err


def test_a_study_that_was_begun_keeps_its_plan(reslab: Reslab, tmp_path: Path) -> None:
    """Measured once more, a step would take another time, and the runs would be of another length."""
    out = tmp_path / "study"
    words = ("study", "depth", "--data", "digits", "--depths", 8, 14, "--seeds", 1, "--out", out, "--json")
    code, first, err = reslab(*words, "--iterations", 12, "--budget", 1)
    assert code == 0, err
    assert read_json(out / "study.json")["budget"] == 1
    code, again, err = reslab(*words, "--budget", 3)
    assert code == 0, err
    assert "continuing the plan in" in err
    assert json.loads(again)["runs"] == json.loads(first)["runs"]


def test_more_time_brings_deeper_networks_then_more_seeds() -> None:
    """By costs made by hand: what `choose` decides is in the order of its docstring."""
    from unittest.mock import patch

    from reslab.data.sources import load
    from reslab.studies import budget as module
    from reslab.train.device import Execution, pick_device

    study = studies.find("depth")
    data = load("synthetic")

    def make(depths: Depths, seeds: int, iterations: int) -> Plan:
        return Plan(study, data.info, depths, seeds, iterations)

    def by_macs(plan: Plan, *_: object) -> Costs:
        return {arm.net: Cost(macs_of(arm.net, data.info) * 1e-9, 1.0) for arm in plan.arms}

    def chosen(minutes: float) -> Budget:
        execution = Execution(pick_device("cpu"))
        return module.choose(
            study, make, data, Path("nowhere"), minutes=minutes, depths=None, seeds=None, iterations=None,
            execution=execution, jobs=1,
        )  # fmt: skip

    with patch.object(module, "measured", by_macs):
        small, middle, large, vast = (chosen(minutes) for minutes in (4, 100, 1000, 200_000))
        with pytest.raises(InputError, match="too small"):
            chosen(0.5)
    assert small.plan.depths == (8, 14)
    assert small.plan.iterations < study.enough or small.plan.depths == study.scales[0]
    assert max(small.plan.depths) < max(middle.plan.depths) <= max(large.plan.depths)
    assert middle.plan.iterations >= study.enough
    assert vast.plan.depths == study.scales[-1]
    assert (vast.plan.iterations, vast.plan.seeds) == (64_000, 12)
    for each, minutes in ((small, 4), (middle, 100), (large, 1000)):
        assert each.total <= 60 * minutes
        assert 3 <= each.plan.seeds <= 5
    assert middle.plan.seeds == 5
