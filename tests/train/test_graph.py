"""A captured step sees nothing but its tensors: what a CUDA graph replays, done by hand on the CPU."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reslab.data.sources import load
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir
from reslab.train import trainer
from reslab.train.device import Execution
from reslab.train.loop import Trainer, train
from reslab.train.recipe import Recipe

CPU = Execution(torch.device("cpu"))


class ByHand:
    """Copies its arguments into fixed tensors and calls the step with these, as a graph is replayed."""

    def __init__(self, work: Callable[[Tensor, Tensor], None]) -> None:
        self.work = work
        self.index = self.epoch = torch.empty(0)
        self.calls = 0

    def __call__(self, index: Tensor, epoch: Tensor) -> None:
        if not self.calls:
            self.index, self.epoch = index.clone(), epoch.clone()
        self.index.copy_(index)
        self.epoch.copy_(epoch)
        self.calls += 1
        self.work(self.index, self.epoch)


def recipe(iterations: int, net: str = "cifar_resnet(depth=8, width=4)") -> Recipe:
    made = he2015_cifar(net, load("digits").info, iterations=iterations, batch=32)
    warm_up = {"lr": 0.01, "until_error": 99.0, "window": 4}
    return Recipe.model_validate({**made.model_dump(), "warm_up": warm_up, "precision": "fp32", "log_every": 5})


def kept(one: Trainer) -> dict[str, int]:
    """Where the tensors lie that a captured step writes to."""
    tensors = dict(one.net.state_dict()) | {f"velocity.{k}": v for k, v in one.optimizer.momentum().items()}
    tensors |= {"bad": one.first_bad, "done": one.done, "loss": one.window.loss, "wrong": one.window.wrong}
    tensors |= {"warm.loss": one.warm_up_window.loss, "warm.wrong": one.warm_up_window.wrong}
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


def test_replayed_steps_are_the_steps() -> None:
    data = load("digits")
    eager, replayed = Trainer(recipe(12), data, CPU), Trainer(recipe(12), data, CPU)
    replayed.graphed = ByHand(replayed._whole_step)  # type: ignore[assignment]
    for one in (eager, replayed):
        one.net.train()
        for _ in range(12):
            one.step()
            one.look()
    tensors, meta = eager.state()
    others, other_meta = replayed.state()
    torch.testing.assert_close(others, tensors, rtol=0, atol=0)
    assert {k: v for k, v in other_meta.items() if k != "seconds"} == {k: v for k, v in meta.items() if k != "seconds"}
    assert eager.warm_up.ended_at is not None, "the rate changed on the way"


def test_what_a_step_writes_to_stays_in_its_place(tmp_path: Path) -> None:
    """Through logging, evaluation, checkpoints and the end of a warm-up."""
    one = Trainer(recipe(12), load("digits"), CPU)
    one.net.train()
    one.step()
    before = kept(one)
    for _ in range(8):
        one.step()
        one.look()
        one.window.clear()
        one.state()
    assert kept(one) == before


def test_a_run_by_replay_equals_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits")
    results = [train(recipe(12), data, tmp_path / "eager", execution=CPU, quiet=True)]
    monkeypatch.setattr(trainer, "Graphed", lambda work, device: ByHand(work))
    monkeypatch.setattr(Execution, "captures", property(lambda self: True))
    results.append(train(recipe(12), data, tmp_path / "replayed", execution=CPU, quiet=True))
    timed = ("seconds", "finished", "images_per_second", "waiting_for_data")
    bare = [{k: v for k, v in result.items() if k not in timed} for result in results]
    assert bare[0] == bare[1]
    assert RunDir(tmp_path / "eager").read_metrics() == RunDir(tmp_path / "replayed").read_metrics()


def test_networks_that_draw_are_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their random numbers are a function of the iteration, which a captured step does not see."""
    monkeypatch.setattr(trainer, "Graphed", lambda work, device: ByHand(work))
    monkeypatch.setattr(Execution, "captures", property(lambda self: True))
    for net, captured in (
        ("cifar_resnet(depth=8, width=4)", True),
        ("cifar_wide(depth=10, factor=1, dropout=0.3)", False),
    ):
        assert (Trainer(recipe(4, net), load("digits"), CPU).graphed is not None) == captured
