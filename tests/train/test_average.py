"""The average of the weights: what is evaluated and kept, while training goes on from the weights themselves."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reslab.data.sources import Dataset, load
from reslab.evaluate.metrics import evaluate
from reslab.nets import build
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir
from reslab.train.device import Execution
from reslab.train.loop import Stopped, train
from reslab.train.recipe import Average, Recipe
from reslab.train.trainer import Trainer
from reslab.weights.files import read_safetensors

CPU = Execution(torch.device("cpu"))
RULE = Average(decay=0.5, every=2)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def recipe_of(data: Dataset, *, holdout: int = 0) -> Recipe:
    recipe = he2015_cifar("cifar_resnet(depth=8, width=4)", data.info, iterations=12, batch=32, holdout=holdout)
    return recipe.model_copy(update={"average": RULE, "evaluate_every": 4, "log_every": 4, "precision": "fp32"})


def test_it_is_the_average(digits: Dataset) -> None:
    """By hand: half of what it was and half of the weights, every other iteration, from the second on."""
    trainer = Trainer(recipe_of(digits), digits, CPU)
    plain = Trainer(replace_average(recipe_of(digits)), digits, CPU)
    expected: dict[str, torch.Tensor] = {}
    for i in range(1, 8):
        trainer.step()
        plain.step()
        now = {name: tensor.clone() for name, tensor in plain.net.state_dict().items() if tensor.is_floating_point()}
        assert all(torch.equal(tensor, trainer.net.state_dict()[name]) for name, tensor in now.items())
        if i % 2 == 0:
            expected = {name: (expected.get(name, tensor) + tensor) / 2 for name, tensor in now.items()}
    assert expected.keys() == trainer.average.keys()
    assert all(torch.allclose(trainer.average[name], tensor, atol=1e-6) for name, tensor in expected.items())
    before = {name: tensor.clone() for name, tensor in trainer.net.state_dict().items()}
    with trainer.averaged():
        assert all(torch.equal(trainer.net.state_dict()[name], tensor) for name, tensor in trainer.average.items())
    assert all(torch.equal(trainer.net.state_dict()[name], tensor) for name, tensor in before.items())


def replace_average(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"average": None})


@pytest.mark.parametrize("holdout", [0, 400])
def test_it_is_what_is_evaluated_and_kept(holdout: int, digits: Dataset, tmp_path: Path) -> None:
    recipe = recipe_of(digits, holdout=holdout)
    result = train(recipe, digits, tmp_path / "run", execution=CPU, quiet=True)
    weights, _ = read_safetensors(tmp_path / "run" / "checkpoints" / "final.safetensors")
    net = build(recipe.own_net)
    net.load_state_dict(weights)
    trainer = Trainer(recipe, digits, CPU)
    assert evaluate(net, trainer.test).top1_error == pytest.approx(result["test_error"])
    other = train(replace_average(recipe), digits, tmp_path / "plain", execution=CPU, quiet=True)
    plain, _ = read_safetensors(tmp_path / "plain" / "checkpoints" / "final.safetensors")
    assert not torch.equal(plain["conv1.weight"], weights["conv1.weight"])
    assert other["train_loss"] == result["train_loss"]  # training itself is the same


def test_a_run_that_was_stopped_ends_the_same(digits: Dataset, tmp_path: Path) -> None:
    recipe = recipe_of(digits)
    train(recipe, digits, tmp_path / "straight", execution=CPU, quiet=True)
    for stop in (1, 5):
        out = tmp_path / f"stopped-{stop}"
        steps = iter(range(1, 100))
        with pytest.raises(Stopped):
            train(recipe, digits, out, execution=CPU, quiet=True, stop=lambda s=steps, n=stop: next(s) == n)  # type: ignore[misc]
        train(recipe, digits, out, execution=replace(CPU), quiet=True)
        one, two = (
            read_safetensors(run / "checkpoints" / "final.safetensors")[0] for run in (tmp_path / "straight", out)
        )
        assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
        assert RunDir(out).metrics.read_bytes() == RunDir(tmp_path / "straight").metrics.read_bytes()
