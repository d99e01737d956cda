"""A training as a GPU runs it, all of its kernels by Triton's interpreter: the training that it is without them."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed here")
from reslab.data.sources import load
from reslab.kernels import gpu
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.train.device import Execution
from reslab.train.packed import Packed
from reslab.train.recipe import Recipe, override
from reslab.train.trainer import Trainer


def recipe(precision: str) -> Recipe:
    made = he2015_cifar("cifar_resnet(depth=8, width=4)", load("digits").info, iterations=8, batch=8)
    return override(made, [f"precision={precision}", "bn_group=4", "optimizer.lr=0.02"])


def run(made: Recipe, steps: int, *, fused: bool) -> Trainer:
    one = Trainer(made, load("digits"), Execution(torch.device("cpu"), fused=fused))
    one.net.train()
    for _ in range(steps):
        one.step()
        one.look()
    return one


@pytest.fixture
def as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "usable", lambda device: True)
    monkeypatch.setenv("RESLAB_KERNELS", "library")  # convolutions by PyTorch, as on a GPU
    monkeypatch.setattr(Execution, "packs", property(lambda self: True))


def test_in_fp32(request: pytest.FixtureRequest) -> None:
    """Weights, velocities and running statistics, to the rounding of sums in another order."""
    plain = run(recipe("fp32"), 2, fused=False).state()[0]
    request.getfixturevalue("as_a_gpu")
    own = run(recipe("fp32"), 2, fused=True)
    assert own.feed.batches.by_kernel is not None  # type: ignore[union-attr]
    found = own.state()[0]
    assert found.keys() == plain.keys()
    for name, wanted in plain.items():
        torch.testing.assert_close(found[name], wanted, rtol=2e-3, atol=2e-4, msg=name)
    assert found["model.bn1.num_batches_tracked"] == 2


def test_in_bf16_with_parameters_in_one_piece(request: pytest.FixtureRequest) -> None:
    """bf16 is cut off by the interpreter where a card rounds, so that only the loss can be held to it."""
    plain = run(recipe("bf16"), 2, fused=False)
    request.getfixturevalue("as_a_gpu")
    own = run(recipe("bf16"), 2, fused=True)
    assert isinstance(own.optimizer, Packed)
    assert own.window.mean_loss() == pytest.approx(plain.window.mean_loss(), rel=0.03)
