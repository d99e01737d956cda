"""The account of a training step's memory, and what is computed twice so that it fits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from reslab.data.sources import Dataset
from reslab.data.sources import load as load_data
from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.network import Network
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import read_json
from reslab.train.device import Execution
from reslab.train.memory import measure, plan, size_of, words
from reslab.train.optim import make_optimizer
from reslab.train.recipe import Muon, Recipe, Sgd, override
from reslab.train.trainer import Trainer
from reslab.weights.files import read_safetensors

CPU = Execution(torch.device("cpu"))
DEEP = "cifar_resnet(depth=38, width=16)"
Reslab = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def recipe_of(data: Dataset, net: str = DEEP, *settings: str, batch: int = 128) -> Recipe:
    recipe = he2015_cifar(net, data.info, iterations=4, batch=batch)
    return override(recipe, ["precision=fp32", *settings])


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("4G", 4 * 10**9), ("500MB", 5 * 10**8), ("4GiB", 2**32), ("1.5 gb", 1_500_000_000)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["4", "GB", "-4GB", "0GB", "4 apples", "4GBs", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="--memory-budget takes a size such as 4GB, 500MB or 4GiB, got"):
        size_of(text)


def test_sizes_in_words() -> None:
    assert [words(n) for n in (1.26e9, 999.6e6, 640e6, 1e3)] == ["1.3 GB", "1.0 GB", "640 MB", "1 kB"]


@pytest.mark.parametrize("net", [DEEP, "cifar_resnet(depth=20, width=4, drop_path=0.5)", "timm:resnet18"])
def test_measuring_changes_nothing(net: str) -> None:
    data = load_data("synthetic")
    recipe = he2015_cifar(net, data.info, batch=8)
    trainer = Trainer(recipe, data, CPU)
    if isinstance(trainer.net, Network):
        trainer.net.checkpoint_activations((2,))
    trainer.net.eval()
    before = {name: tensor.clone() for name, tensor in trainer.net.state_dict().items()}
    random = torch.get_rng_state()
    found = measure(trainer.net, recipe, trainer.device)
    assert sum(piece.kept.at(8) for piece in found.pieces) > 0
    torch.testing.assert_close(dict(trainer.net.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in trainer.net.parameters())
    assert not trainer.net.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in trainer.net.modules())
    if isinstance(trainer.net, Network):
        assert [stage.segment is not None for stage in trainer.net.stages] == [False, True, False]


def held(net: torch.nn.Module, images: int, size: tuple[int, int], channels: int) -> int:
    """Bytes that autograd keeps between forward and backward, counted apart from the code that is tested."""
    kept: dict[int, int] = {}
    x = torch.rand(images, channels, *size).contiguous(memory_format=torch.channels_last)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*net.parameters(), *net.buffers(), x)}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        F.cross_entropy(net.train()(x), torch.zeros(images, dtype=torch.long))
    return sum(size for place, size in kept.items() if place not in own)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("net", [DEEP, "cifar_resnet(depth=20, width=16, order='full-preactivation')"])
def test_activations_are_those_that_autograd_keeps(digits: Dataset, net: str, fused: bool) -> None:
    trainer = Trainer(recipe_of(digits, net), digits, replace(CPU, fused=fused))
    found = measure(trainer.net, trainer.recipe, trainer.device)
    alone = found.account(64, 128)
    assert alone.activations == pytest.approx(held(trainer.net, 64, (8, 8), 1), rel=0.01)
    assert alone.recomputation == 0
    assert alone.batch == 128 * 64 * 4
    parameters = sum(4 * p.numel() for p in trainer.net.parameters())
    assert alone.gradients == alone.momenta == parameters <= alone.parameters
    assert alone.total == sum(vars(alone).values())
    assert trainer.account() == found.account(128, 128)


def test_what_checkpointing_keeps(digits: Dataset) -> None:
    """What enters each segment; and, when the segment runs again, no more than a block of it."""
    trainer = Trainer(recipe_of(digits), digits, CPU)
    found = measure(trainer.net, trainer.recipe, trainer.device)
    assert isinstance(trainer.net, Network)
    for stages in (1, 2, 3):
        trainer.net.checkpoint_activations(tuple(range(1, stages + 1)))
        # Autograd's hooks see the inputs of segments, and nothing from within.
        kept = held(trainer.net, 64, (8, 8), 1)
        over = found.account(64, 64, stages).activations - kept
        # What enters the head is counted, although pooling does not keep it; labels are not.
        assert -1024 <= over <= found.pieces[-1].enters.at(64)
        trainer.execution = replace(CPU, checkpoint_activations=tuple(range(1, stages + 1)))
        assert trainer.account().activations == found.account(128, 128, stages).activations
    whole = found.account(64, 64, 3)
    assert 0 <= whole.recomputation <= max(piece.kept.at(64) for piece in found.pieces)


def test_the_least_recomputation_that_fits(digits: Dataset) -> None:
    trainer = Trainer(recipe_of(digits), digits, CPU)
    found = measure(trainer.net, trainer.recipe, trainer.device)
    images = 20_000  # so many that activations outweigh what libraries take
    needs = [found.account(images, images, twice).total for twice in range(4)]
    assert needs == sorted(needs, reverse=True)
    for twice, need in enumerate(needs):
        made = found.plan(images, images, need)
        assert made is not None
        assert (made.twice, made.account.total) == (twice, need)
        assert made.choice == (False, (1,), (1, 2), True)[twice]
        named = ("without checkpointing", "computing stage 1 twice", "computing stages 1 to 2 twice", "all stages")
        assert named[twice] in made.said()
        assert made.said().startswith(f"memory: {words(need)} of {words(need)}")
    assert found.plan(images, images, needs[-1] - 1) is None
    assert found.more_time(0) == 0
    assert found.more_time(1) == pytest.approx(found.macs[1] / sum(found.macs) / 3)
    assert 0.3 < found.more_time(3) < 1 / 3


def test_what_does_not_fit_says_what_would(digits: Dataset) -> None:
    recipe = recipe_of(digits, "cifar_resnet(depth=20, width=64)", "bn_group=16", batch=512)
    trainer = Trainer(recipe, digits, CPU)
    found = measure(trainer.net, recipe, trainer.device)
    quarter = found.least(128, 512)
    with pytest.raises(InputError, match=r"a step of 512 images.*even with all stages.*--accumulate 4 \(the same"):
        plan(trainer.net, trainer.recipe, trainer.execution, quarter)
    in_parts = Trainer(recipe, digits, replace(CPU, accumulate=4, memory_budget=quarter))
    assert in_parts.plan is not None
    assert in_parts.plan.account.total <= quarter
    grouped = override(recipe, ["bn_group=null"])
    with pytest.raises(
        InputError, match=r"try a smaller batch \(--batch-size 128, a different training\) or --memory-b"
    ):
        plan(Trainer(grouped, digits, CPU).net, grouped, CPU, found.least(128, 128))
    with pytest.raises(InputError, match=r"try --memory-budget \d+MB$"):
        plan(trainer.net, trainer.recipe, trainer.execution, 10**6)


def test_other_libraries_networks_are_not_checkpointed() -> None:
    data = load_data("synthetic")
    recipe = he2015_cifar("timm:resnet18", data.info, batch=8)
    trainer = Trainer(recipe, data, replace(CPU, memory_budget=4 * 10**9))
    assert trainer.plan is not None
    assert trainer.plan.choice is False
    with pytest.raises(InputError, match="resnet18 cannot be checkpointed; try"):
        Trainer(recipe, data, replace(CPU, memory_budget=10**8))


@pytest.mark.parametrize("spec", [Sgd(), Sgd(momentum=0), Muon()], ids=["sgd", "no momentum", "muon"])
def test_gradients_that_stay_in_their_places_train_the_same(spec: Any) -> None:
    weights = []
    for reserved in (False, True):
        net = build("cifar_resnet(depth=8, width=4, size=(8, 8))", seed=3)
        optimizer = make_optimizer(net, spec)
        if reserved:
            optimizer.reserve()
            places = [p.grad.data_ptr() for p in net.parameters() if p.grad is not None]
            moving = {name: v.data_ptr() for name, v in optimizer.momentum().items()}
        draw = torch.Generator().manual_seed(1)
        for lr in (0.1, 0.1, 0.01):
            optimizer.set_lr(lr)
            F.cross_entropy(net(torch.randn(8, 3, 8, 8, generator=draw)), torch.arange(8)).backward()
            optimizer.step()
        if reserved:
            assert [p.grad.data_ptr() for p in net.parameters() if p.grad is not None] == places
            assert {name: v.data_ptr() for name, v in optimizer.momentum().items()} == moving
        weights.append(dict(net.state_dict()))
    torch.testing.assert_close(*weights, rtol=0, atol=0)


WORDS = ("train", "he2015_cifar", "--net", "cifar_resnet(depth=56)", "--precision", "fp32")


def test_a_budget_decides_what_is_computed_twice(reslab: Reslab, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for split, count in (("train", 128), ("test", 8)):  # no more: evaluations of such a network take long
        for i in range(count):
            file = tmp_path / "images" / split / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    words = (*WORDS, "--data", tmp_path / "images", "--threads", 1, "--iterations", 2)
    code, _, err = reslab(*words, "--memory-budget", "600MB", "--out", tmp_path / "less")
    assert code == 0, err
    assert "MB of 600 MB by computing stage" in err
    env = read_json(tmp_path / "less" / "env.json")
    assert env["memory_budget"] == 600_000_000
    assert env["checkpoint_activations"] in ([1], [1, 2])
    code, _, err = reslab(*words, "--memory-budget", "4GB", "--out", tmp_path / "all")
    assert code == 0, err
    assert "of 4.0 GB without checkpointing" in err
    assert read_json(tmp_path / "all" / "env.json")["checkpoint_activations"] is False
    # On going on, the choice is the one of the start.
    before = read_safetensors(tmp_path / "less" / "checkpoints" / "final.safetensors")[0]
    for more in (("--resume", tmp_path / "less"), (*words[1:], "--memory-budget", "600MB", "--out", tmp_path / "less")):
        (tmp_path / "less" / "result.json").unlink()
        for path in (tmp_path / "less" / "checkpoints").iterdir():
            path.unlink()
        code, _, err = reslab("train", *more)
        assert code == 0, err
        assert "memory:" not in err
        after = read_safetensors(tmp_path / "less" / "checkpoints" / "final.safetensors")[0]
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_budget_and_the_choice_itself(reslab: Reslab, tmp_path: Path) -> None:
    words = (*WORDS, "--data", "synthetic", "--iterations", 2, "--out", tmp_path / "run")
    code, _, err = reslab(*words, "--memory-budget", "4GB", "--checkpoint-activations")
    assert code == 2
    assert "--memory-budget chooses the --checkpoint-activations itself; give one of the two" in err
    code, _, err = reslab(*words, "--memory-budget", "much")
    assert code == 2
    assert "got 'much'" in err
    code, _, err = reslab(*words, "--memory-budget", "10MB")
    assert code == 2
    assert "even with all stages computed twice" in err
    assert not (tmp_path / "run").exists()


def test_a_small_group_of_bn(digits: Dataset) -> None:
    """Whole groups are measured; a batch that cannot be cut into them would be refused."""
    recipe = recipe_of(digits, "cifar_resnet(depth=8, width=4)", "bn_group=3", batch=9)
    assert Trainer(recipe, digits, CPU).account().activations > 0


def test_images_that_grow_are_reckoned_with_as_large_as_they_become(digits: Dataset) -> None:
    recipe = recipe_of(digits, "cifar_resnet(depth=8, width=4)", batch=16)
    small, large, usual = (
        Trainer(override(recipe, settings), digits, CPU).account().activations
        for settings in (['resolution={"start":2,"end":4}'], ['resolution={"start":2,"end":12}'], [])
    )
    assert small < usual < large
