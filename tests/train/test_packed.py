"""Parameters in one piece of memory: the training is that of the optimiser which has them apart."""

from pathlib import Path

import pytest
import torch

from reslab.data.sources import load
from reslab.nets.layers import Conv2d
from reslab.nets.network import build
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.train import state as checkpoints
from reslab.train.device import Execution
from reslab.train.loop import Trainer
from reslab.train.optim import Optimizer
from reslab.train.packed import ALIGNED, Packed
from reslab.train.recipe import Recipe, Sgd, override

CPU = Execution(torch.device("cpu"), fused=False)
SGD = ("optimizer.momentum_form=lr-inside", "optimizer.nesterov=true", "optimizer.decay=all", "optimizer.momentum=0")


def recipe(*settings: str, net: str = "cifar_resnet(depth=8, width=5, shortcut='B')") -> Recipe:
    return override(he2015_cifar(net, load("digits").info, iterations=8, batch=16), ["precision=bf16", *settings])


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU taken for a GPU that has its parameters in one piece."""
    monkeypatch.setattr(Execution, "packs", property(lambda self: True))


def run(made: Recipe, steps: int) -> Trainer:
    one = Trainer(made, load("digits"), CPU)
    one.net.train()
    for _ in range(steps):
        one.step()
        one.look()
    return one


@pytest.mark.parametrize("setting", [None, *SGD])
def test_the_formula_is_the_same(setting: str | None) -> None:
    """The same gradients, over drops of the rate; within an ulp or two of fp32, as vectors begin elsewhere."""
    spec = recipe(*([] if setting is None else [setting])).optimizer
    assert isinstance(spec, Sgd)
    plain, packed = (build("cifar_resnet(depth=8, width=5)", seed=1) for _ in range(2))
    wanted, found = Optimizer.of(plain, spec), Packed(packed, spec)
    halves = {f"{name}.weight": layer.in_bf16 for name, layer in packed.named_modules() if isinstance(layer, Conv2d)}
    assert found.momentum() == wanted.momentum() == {}
    draw = torch.Generator().manual_seed(0)
    for lr in (0.1, 0.1, 0.01, 0.01, 0.2):
        for (name, one), other in zip(plain.named_parameters(), packed.parameters(), strict=True):
            gradient = torch.randn(one.shape, generator=draw).bfloat16()
            leaf = halves.get(name)
            one.grad = gradient.float()
            (other if leaf is None else leaf).grad = gradient.float() if leaf is None else gradient
        for optimizer in (wanted, found):
            optimizer.set_lr(lr)
            optimizer.step()
        found.cast()
        for (name, one), other in zip(plain.named_parameters(), packed.parameters(), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-7, msg=name)
            assert other.grad is None
            if (leaf := halves.get(name)) is not None:
                assert leaf.grad is None
                assert torch.equal(leaf, other.bfloat16())
        torch.testing.assert_close(found.momentum(), wanted.momentum(), rtol=1e-6, atol=1e-6)


def test_the_training_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps: with more, what is an ulp apart is rounded to other numbers in bf16."""
    made, steps = recipe(), 2
    wanted = run(made, steps)
    monkeypatch.setattr(Execution, "packs", property(lambda self: True))
    found = run(made, steps)
    assert isinstance(wanted.optimizer, Optimizer)
    assert isinstance(found.optimizer, Packed)
    tensors, own = wanted.state()[0], found.state()[0]
    assert own.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(own[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.usefixtures("packs")
def test_each_parameter_keeps_its_place_and_shape() -> None:
    one = run(recipe(), 1)
    whole = one.optimizer._weights  # type: ignore[union-attr]
    begin = whole.data_ptr()
    ends = []
    for parameter in one.net.parameters():
        offset = parameter.data_ptr() - begin
        assert 0 <= offset < 4 * len(whole)
        assert offset % (4 * ALIGNED) == 0
        ends.append((offset, offset + 4 * parameter.numel()))
        assert parameter.dim() != 4 or parameter.is_contiguous(memory_format=torch.channels_last)
    assert all(end <= start for (_, end), (start, _) in zip(sorted(ends), sorted(ends)[1:], strict=False))
    assert sum(layer.in_bf16 is not None for layer in one.net.modules() if isinstance(layer, Conv2d)) == 7 + 2


@pytest.mark.usefixtures("packs")
def test_a_step_computes_with_the_weights_as_they_are_now() -> None:
    """Weights that were loaded since the last step, too: nothing keeps a copy that is older."""
    made, steps = recipe(), 3
    whole, changed = run(made, steps + 1), run(made, steps)
    tensors, _ = whole.state()
    before = {name: tensor.clone() for name, tensor in changed.net.state_dict().items()}
    with torch.no_grad():
        for parameter in changed.net.parameters():
            parameter.mul_(3)
    changed.net.load_state_dict(before)
    changed.step()
    torch.testing.assert_close(changed.state()[0], tensors, rtol=0, atol=0)


@pytest.mark.usefixtures("packs")
def test_a_checkpoint_goes_from_one_to_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a file: where it was trained is nothing that a run depends on."""
    made = recipe()
    whole, begun = run(made, 6), run(made, 3)
    checkpoints.save_checkpoint(tmp_path, 3, *begun.state())
    saved = checkpoints.newest_checkpoint(tmp_path)
    assert saved is not None
    resumed = Trainer(made, load("digits"), CPU)
    monkeypatch.setattr(Execution, "packs", property(lambda self: False))
    plain = Trainer(made, load("digits"), CPU)
    for one in (resumed, plain):
        one.restore(*saved)
        torch.testing.assert_close(one.state()[0], saved[0], rtol=0, atol=0)
    resumed.net.train()
    for _ in range(3):
        resumed.step()
    torch.testing.assert_close(resumed.state()[0], whole.state()[0], rtol=0, atol=0)


@pytest.mark.usefixtures("packs")
def test_in_fp32_nothing_is_cast() -> None:
    assert isinstance(Trainer(recipe("precision=fp32"), load("digits"), CPU).optimizer, Optimizer)


def test_only_on_a_gpu() -> None:
    assert not Execution(torch.device("cpu")).packs
