"""Errors against a hand-made table, and a network that is left as it was found."""

import math

import pytest
import torch
from torch import Tensor, nn

from reslab.data.images import ImageSet
from reslab.data.loader import Eval
from reslab.data.transforms import Normalizer
from reslab.evaluate.metrics import Result, evaluate, logits_of
from reslab.evaluate.protocols import PASSES, TestTime
from reslab.nets.network import build

CPU = torch.device("cpu")


class Table(nn.Module):
    """Answers the image of value i (pixel i/255) with row i of a table of logits."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.register_buffer("rows", torch.tensor(rows))
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        rows = self.get_buffer("rows")
        return rows[(x[:, 0, 0, 0] * 255).round().long()]


def numbered(labels: list[int], *, batch: int) -> Eval:
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    none = Normalizer(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    return Eval(ImageSet(images, torch.tensor(labels)), none, batch=batch, device=CPU)


ROWS = [
    [9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],  # best 0; of the best five: 0 6 5 4 3
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],  # best 6; 6 5 4 3 2
    [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0],  # best 0; 0 1 2 3 4
    [0.0, 9.0, 0.5, 0.6, 0.7, 0.8, 0.9],  # best 1; 1 6 5 4 3
    [0.0, 9.0, 0.5, 0.6, 0.7, 0.8, 0.9],
]
LABELS = [0, 2, 5, 3, 2]  # right; among five; not among five; among five; not among five


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 100])
def test_against_a_hand_made_table(batch: int) -> None:
    net = Table(ROWS)
    result = evaluate(net, numbered(LABELS, batch=batch))
    loss = sum(math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(ROWS, LABELS, strict=True)) / 5
    assert result == Result(80.0, 40.0, pytest.approx(loss, rel=1e-6), 5, "one-crop")  # type: ignore[arg-type]
    assert net.sizes == [batch] * (5 // batch) + [5 % batch] * (5 % batch > 0)
    assert result.as_dict()["top1_error"] == 80.0


def test_fewer_than_five_classes() -> None:
    rows = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.5], [0.0, 0.0, 1.0]]
    result = evaluate(Table(rows), numbered([0, 1, 2], batch=2))
    assert result.top1_error == pytest.approx(100 / 3)
    assert result.top5_error == 0


def test_a_loss_that_overflows_is_not_hidden() -> None:
    assert math.isnan(evaluate(Table([[float("nan")] * 3] * 2), numbered([0, 1], batch=2)).loss)
    assert math.isinf(evaluate(Table([[float("-inf"), 0.0, 0.0]] * 2), numbered([0, 1], batch=2)).loss)


def modes(net: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in net.named_modules()}


def random_images(n: int = 6) -> Eval:
    pixels = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, torch.arange(n) % 3)
    return Eval(images, Normalizer.of("per-pixel-mean", pixels), batch=4, device=CPU)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_every_module_is_restored(training: bool) -> None:
    net = build("cifar_resnet(depth=8, width=2)", num_classes=3, size=(8, 8)).train(training)
    net.stages[1].train(not training)  # a part that is frozen, or thawed
    before = modes(net)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    evaluate(net, random_images())
    assert modes(net) == before
    torch.testing.assert_close(net.state_dict(), state, rtol=0, atol=0)


def test_the_mode_is_restored_after_an_error() -> None:
    net = build("cifar_resnet(depth=8, width=2)", num_classes=2, size=(8, 8)).train()
    with pytest.raises((IndexError, RuntimeError)):
        evaluate(net, random_images())  # labels 0 to 2, two classes
    assert all(modes(net).values())


def test_it_evaluates_in_evaluation_mode_without_gradients() -> None:
    seen = []
    net = build("cifar_resnet(depth=8, width=2)", num_classes=3, size=(8, 8)).train()
    net.register_forward_hook(lambda module, _, out: seen.append((module.training, out.requires_grad)))
    one = evaluate(net, random_images())
    assert seen == [(False, False)] * 2
    assert evaluate(net, random_images()) == one


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_precision_is_the_one_asked_for(precision: str, dtype: torch.dtype) -> None:
    seen = []
    net = build("cifar_resnet(depth=8, width=2)", num_classes=3, size=(8, 8))
    net.fc.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    result = evaluate(net, random_images(), precision=precision)
    assert set(seen) == {dtype}
    assert result.loss == pytest.approx(evaluate(net, random_images()).loss, rel=0.02)


class Corner(nn.Module):
    """Logits that are the pixels of the four corners: they tell what was seen."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack((x[:, 0, 0, 0], x[:, 0, 0, -1], x[:, 0, -1, 0], x[:, 0, -1, -1]), 1)


def test_what_is_seen_of_an_image() -> None:
    x = torch.randn(3, 1, 4, 5, generator=torch.Generator().manual_seed(2))
    net = Corner()
    mirrored = (net(x) + net(x.flip(3))) / 2
    torch.testing.assert_close(logits_of(net, x, "none"), net(x))
    torch.testing.assert_close(logits_of(net, x, "flip"), mirrored)
    both = []
    for dy, dx in ((-1, -1), (1, 1)):
        moved = torch.empty_like(x)
        for row in range(4):
            for column in range(5):
                a, b = abs(row + dy), abs(column + dx)
                moved[:, :, row, column] = x[:, :, 3 - abs(3 - a), 4 - abs(4 - b)]
        both.append((net(moved) + net(moved.flip(3))) / 2)
    torch.testing.assert_close(logits_of(net, x, "flip-shift"), mirrored / 2 + (both[0] + both[1]) / 4)


@pytest.mark.parametrize(("test_time", "passes"), [("none", 1), ("flip", 2), ("flip-shift", 6)])
def test_how_often_the_network_is_run(test_time: TestTime, passes: int) -> None:
    calls: list[int] = []
    net = Corner()
    net.register_forward_hook(lambda *_: calls.append(1))
    logits_of(net, torch.zeros(2, 1, 4, 4), test_time)
    assert len(calls) == passes == PASSES[test_time]
