"""Runs at a time in one process equal those that are trained alone, bit for bit."""

import itertools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from reslab.data.sources import load
from reslab.errors import InputError
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir, read_json
from reslab.studies.plan import Planned, of_no_study
from reslab.studies.runner import carry_out, run_all
from reslab.studies.together import Together
from reslab.train import trainer
from reslab.train.device import Execution
from reslab.train.recipe import Recipe, override

Reslab = Callable[..., tuple[int, str, str]]
CPU = Execution(torch.device("cpu"))
NETS = (
    "cifar_resnet(depth=8, width=4)",
    "cifar_plain(depth=14, width=4)",
    "cifar_wide(depth=10, factor=1, dropout=0.3)",  # which draws random numbers as it goes
)


def recipes(iterations: int = 8) -> dict[str, Recipe]:
    info = load("digits").info
    made = {
        f"{number}-{seed}": he2015_cifar(net, info, iterations=iterations, batch=16, seed=seed)
        for number, net in enumerate(NETS)
        for seed in range(2)
    }
    return {name: override(recipe, ["log_every=2", "evaluate_every=4"]) for name, recipe in made.items()}


def trained(planned: Sequence[Planned], folder: Path, count: int) -> None:
    data = load("digits")
    workers = Together(count, data, "digits", folder, CPU, None)
    run_all(planned, data, "digits", folder, execution=CPU, jobs=count, workers=workers, console=Console(quiet=True))


def left(folder: Path) -> Mapping[str, Any]:
    """What a run leaves, but for what a clock says."""
    run = RunDir(folder)
    timed = ("seconds", "finished", "images_per_second", "waiting_for_data")
    result = {key: value for key, value in read_json(run.result).items() if key not in timed}
    weights = (run.checkpoints / "final.safetensors").read_bytes()
    return {"result": result, "metrics": run.read_metrics(), "weights": weights}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which run each iteration is of, by its thread, in their order."""
    seen, step = list[str](), trainer.Trainer.step

    def seen_step(self: trainer.Trainer) -> None:
        seen.append(threading.current_thread().name)
        step(self)

    monkeypatch.setattr(trainer.Trainer, "step", seen_step)
    return seen


def test_as_by_itself_bit_for_bit(tmp_path: Path, steps: list[str]) -> None:
    planned = of_no_study(recipes())
    for run in planned:
        carry_out(run, load("digits"), "digits", tmp_path / "alone", CPU, None)
    assert set(steps) == {"MainThread"}
    steps.clear()
    trained(planned, tmp_path / "together", 4)
    for run in planned:
        assert left(tmp_path / "together" / run.name) == left(tmp_path / "alone" / run.name), run.name
    changes = sum(one != other for one, other in itertools.pairwise(steps))
    assert changes > len(steps) / 2, "they took turns"


def test_one_that_fails_ends_the_others_with_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command then goes on, to the same end."""
    planned = of_no_study({name: recipe for name, recipe in recipes(40).items() if name.startswith("0")})
    for run in planned:
        carry_out(run, load("digits"), "digits", tmp_path / "alone", CPU, None)
    step = trainer.Trainer.step

    def fails(self: trainer.Trainer) -> None:
        if self.recipe.seed == 1 and self.iteration == 5:
            raise InputError("out of memory")
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", fails)
        with pytest.raises(InputError, match="out of memory"):
            trained(planned, tmp_path / "together", 2)
    assert not any(RunDir(tmp_path / "together" / run.name).finished for run in planned)
    other = RunDir(tmp_path / "together" / planned[0].name)
    assert sorted(other.checkpoints.glob("iteration-*.safetensors")), "it left a checkpoint"
    trained(planned, tmp_path / "together", 2)
    for run in planned:
        assert left(tmp_path / "together" / run.name) == left(tmp_path / "alone" / run.name)


def test_the_command(reslab: Reslab, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    words = ["study", "degradation", "--data", "digits", "--batch-size", 32, "--iterations", 4, "--depths", 8, 14]
    ends = []
    for name, more in (("one", []), ("together", ["--at-a-time", 3, "--deterministic"])):
        code, text, err = reslab(*words, "--seeds", 1, "--json", "--out", tmp_path / name / "study", *more)
        assert code == 0, err
        summary = json.loads(text)
        ends.append([{k: v for k, v in run.items() if k != "seconds"} for run in summary["runs"]])
    assert "3 at a time" in err
    assert ends[0] == ends[1]
    assert summary["command"].endswith("--at-a-time 3 --deterministic")
    envs = [read_json(path) for path in sorted((tmp_path / "together").glob("study/runs/*/env.json"))]
    assert [env["deterministic"] for env in envs] == 4 * [True]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--at-a-time", 0), "--at-a-time takes 1 or more, got 0"),
        (("--at-a-time", 2, "--jobs", 2), "neither with --jobs nor with --on"),
        (("--at-a-time", 2, "--on", "ray"), "neither with --jobs nor with --on"),
    ],
)
def test_what_cannot_be(reslab: Reslab, tmp_path: Path, more: tuple[object, ...], said: str) -> None:
    code, _, err = reslab("study", "degradation", "--out", tmp_path / "x", *more)
    assert code == 2
    assert said in err
