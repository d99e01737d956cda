"""The learning rate, iteration by iteration, and the warm-up that has to end."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from reslab.data.sources import load
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir
from reslab.train.device import Execution
from reslab.train.loop import Stopped, Trainer, train
from reslab.train.recipe import Plateau, Ramp, Recipe, Resolution, Steps, WarmUp
from reslab.train.schedule import PlateauState, WarmUpState, scheduled, side

CPU = Execution(torch.device("cpu"))
TINY = "cifar_resnet(depth=8, width=4)"


def tiny(iterations: int, **changes: object) -> Recipe:
    recipe = he2015_cifar(TINY, load("digits").info, iterations=iterations, batch=32)
    return Recipe.model_validate({**recipe.model_dump(), **changes})


@pytest.mark.parametrize(
    ("iteration", "rate"),
    [(0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)],
)
def test_the_papers_rates(iteration: int, rate: float) -> None:
    recipe = he2015_cifar("resnet20", load("digits").info)
    assert recipe.iterations == 64_000
    # exactly, as the paper writes it
    assert scheduled(recipe.optimizer.lr, recipe.schedule, iteration, recipe.iterations) == rate


@pytest.mark.parametrize(
    ("iterations", "drops"),
    [(64_000, (32_000, 48_000)), (4_000, (2_000, 3_000)), (500, (250, 375)), (3, (1, 2)), (2, (1, 2)), (1, (1, 2))],
)
def test_a_shorter_run_scales_the_drops(iterations: int, drops: tuple[int, ...]) -> None:
    assert tiny(iterations).schedule == Steps(drops=drops)


def test_other_factors_and_no_drops() -> None:
    assert [scheduled(0.1, Steps(drops=(1, 2, 3), factor=0.2), i, 5) for i in range(5)] == [
        0.1,
        0.02,
        0.004,
        0.0008,
        0.0008,
    ]
    assert scheduled(0.3, Steps(drops=()), 10**9, 10**9) == 0.3


def test_a_ramp() -> None:
    ramp = Ramp(start=0.2, peak=0.25, end=0.1)
    rates = [scheduled(2.0, ramp, i, 8) for i in range(9)]
    assert rates == pytest.approx([0.4, 1.2, 2.0, 1.7, 1.4, 1.1, 0.8, 0.5, 0.2])
    falling = Ramp(peak=0.0, end=0.0)
    assert [scheduled(1.0, falling, i, 4) for i in range(4)] == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_a_ramp_in_a_run() -> None:
    recipe = tiny(8, schedule={"kind": "ramp", "start": 0.5, "peak": 0.5, "end": 0.0})
    trainer = Trainer(recipe, load("digits"), CPU)
    trainer.net.train()
    seen = []
    for _ in range(8):
        trainer.step()
        seen.append(trainer.optimizer.lr / recipe.optimizer.lr)
    assert seen == pytest.approx([0.5, 0.625, 0.75, 0.875, 1.0, 0.75, 0.5, 0.25])


def test_the_trace_of_a_real_run_follows_the_schedule(tmp_path: Path) -> None:
    recipe = tiny(12, log_every=1, evaluate_every=12)
    torch.set_num_threads(1)
    train(recipe, load("digits"), tmp_path / "run", execution=CPU, quiet=True)
    trace = [line["lr"] for line in RunDir(tmp_path / "run").read_metrics()]
    assert trace == [0.1] * 6 + [0.01] * 3 + [0.001] * 3


@pytest.mark.parametrize(
    ("active", "wrong", "seen", "ends"),
    [
        (True, 79, 100, True),
        (True, 80, 100, False),  # "below 80 %": 80 itself is not
        (True, 100, 100, False),
        (True, 0, 0, False),  # nothing seen is no error of zero
        (False, 0, 100, False),
    ],
)
def test_the_rule_of_the_warm_up(active: bool, wrong: int, seen: int, ends: bool) -> None:
    state = WarmUpState(active=active)
    state.look(WarmUp(), 400, wrong, seen)
    assert state.active == (active and not ends)
    assert state.ended_at == (400 if ends else None)


def test_the_warm_up_ends_at_the_first_window_whose_error_is_low_enough(tmp_path: Path) -> None:
    rule = {"lr": 0.01, "until_error": 88.0, "window": 5}
    recipe = tiny(60, log_every=5, evaluate_every=60, warm_up=rule, schedule={"drops": (55,)})
    torch.set_num_threads(1)
    result = train(recipe, load("digits"), tmp_path / "run", execution=CPU, quiet=True)
    lines = RunDir(tmp_path / "run").read_metrics()
    below = [line["iteration"] for line in lines if line["train_error"] < 88]
    end = result["warm_up_ended_at"]
    assert end == below[0]
    assert 5 <= end < 50
    # The rate of a line is that of its last iteration; the end is seen by the iteration after it.
    for line in lines:
        at = line["iteration"]
        assert line["lr"] == (0.01 if at <= end else 0.1 if at <= 55 else 0.01), line


def test_a_warm_up_never_raises_the_rate() -> None:
    trainer = Trainer(tiny(10, optimizer={"lr": 0.002}, warm_up={"lr": 0.01}), load("digits"), CPU)
    assert trainer.lr() == 0.002


def test_a_warm_up_survives_a_checkpoint() -> None:
    rule = {"lr": 0.01, "until_error": 99.9, "window": 4}
    data = load("digits")
    recipe = tiny(20, warm_up=rule)
    trainer = Trainer(recipe, data, CPU)
    for _ in range(3):
        trainer.step()
    tensors, meta = trainer.state()
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    other = Trainer(recipe, data, CPU)
    other.restore(saved, {"iteration": 3, **meta})
    assert other.warm_up.active
    assert other.warm_up_window.seen == 96  # the window goes on and does not begin anew
    for each in (trainer, other):
        each.step()
        each.look()
    assert other.warm_up == trainer.warm_up == WarmUpState(active=False, ended_at=4)
    assert other.lr() == trainer.lr() == 0.1


@pytest.mark.parametrize(("net", "warm"), [("resnet56", False), ("resnet110", True), ("plain110", True)])
def test_only_the_deepest_warm_up(net: str, warm: bool) -> None:
    recipe = he2015_cifar(net, load("digits").info)
    assert recipe.warm_up == (WarmUp(lr=0.01, until_error=80) if warm else None)


# --- the plateau -----------------------------------------------------------------------------------------------------


def drops(rule: Plateau, errors: list[float]) -> list[int]:
    state, found = PlateauState(), []
    for error in errors:
        state.look(rule, error)
        found.append(state.drops)
    return found


def test_a_plateau_is_a_number_of_evaluations_without_a_fall() -> None:
    rule = Plateau(patience=3, threshold=0.1, drops=2)
    assert drops(rule, [50, 40, 30, 29, 28, 27.5]) == [0, 0, 0, 0, 0, 1]  # of less than a tenth
    assert drops(rule, [50, 40, 30, 29, 28, 26.9, 26, 26, 26]) == [0] * 8 + [1]
    assert drops(rule, [50] * 20)[-1] == 2  # and no more than that
    assert drops(rule, [50] * 7) == [0, 0, 0, 1, 1, 1, 2]


def test_the_rate_behind_each_drop() -> None:
    rule = Plateau(factor=0.1)
    rates = [scheduled(0.1, rule, 5, 10) * PlateauState(drops=n).factor(rule) for n in range(3)]
    assert rates == pytest.approx([0.1, 0.01, 0.001], rel=1e-12)


def test_the_plateau_looks_at_validation_or_training_and_survives_a_checkpoint(tmp_path: Path) -> None:
    """Never at the test images; and a run that was stopped drops where it would have dropped."""
    digits = load("digits")
    for holdout in (0, 300):
        recipe = he2015_cifar(TINY, digits.info, iterations=24, batch=32, holdout=holdout)
        rule = Plateau(patience=1, threshold=0.5, drops=2)
        recipe = recipe.model_copy(update={"schedule": rule, "evaluate_every": 4, "log_every": 2, "select": "last"})
        out = tmp_path / str(holdout)
        result = train(recipe, digits, out / "straight", execution=CPU, quiet=True)
        lines = RunDir(out / "straight").read_metrics()
        training = [(a["train_error"] + b["train_error"]) / 2 for a, b in zip(lines[::2], lines[1::2], strict=True)]
        watched = [line["validation_error"] for line in lines[1::2]] if holdout else training
        expected = [0, *drops(rule, watched)[:-1]]
        assert [line["lr"] for line in lines[1::2]] == pytest.approx([0.1 / 10**n for n in expected])
        assert expected[-1] > 0

        steps = iter(range(1, 100))
        with pytest.raises(Stopped):
            train(
                recipe, digits, out / "stopped", execution=CPU, quiet=True,
                stop=lambda steps=steps: next(steps) == 14,  # type: ignore[misc]
            )  # fmt: skip
        again = train(recipe, digits, out / "stopped", execution=CPU, quiet=True)
        assert again["test_error"] == result["test_error"]
        assert (out / "stopped" / "metrics.jsonl").read_bytes() == (out / "straight" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("iteration", "expected"), [(0, 160), (68, 160), (70, 160), (74, 160), (76, 192), (82, 192), (99, 192)]
)
def test_the_resolution_over_time(iteration: int, expected: int) -> None:
    """FFCV's 16 epochs: 160 pixels up to the 11th, 192 from the 13th on."""
    rule = Resolution(start=160, end=192, ramp=(11 / 16, 13 / 16))
    assert side(rule, iteration, 100) == expected


def test_the_resolution_in_steps() -> None:
    rule = Resolution(start=100, end=200, step=32)
    sides = [side(rule, i, 1000) for i in range(1000)]
    assert sides == sorted(sides)
    assert set(sides) == {100, 128, 160, 192, 200} - ({200} if 200 not in sides else set())
    assert side(Resolution(start=64, end=64), 5, 10) == 64


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"start": 9, "end": 8}, "start has to be at most end"),
        ({"start": 8, "end": 9, "ramp": (0.5, 0.2)}, "ramp is two"),
    ],
)
def test_resolutions_that_make_no_sense(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Resolution(**values)
