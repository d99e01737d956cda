"""Localisation: what a picture shows, and where; the errors of ImageNet's challenge."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reslab import runs
from reslab.detect.annotations import Annotations, Box, Picture, read
from reslab.detect.detections import NOTHING, Detections
from reslab.detect.feed import target
from reslab.detect.localisation import localisation, main_class
from reslab.detect.localiser import Localiser, shown
from reslab.detect.loop import train
from reslab.detect.networks import build_detector, load_backbone
from reslab.detect.recipe import DetectRecipe
from reslab.detect.saved import load_detector
from reslab.detect.spec import DetectorSpec
from reslab.detect.trainer import Trainer
from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.catalog import resolve_any
from reslab.train.device import Execution
from reslab.train.recipe import Sgd

from . import pictures

Reslab = Callable[..., tuple[int, str, str]]
CPU = Execution(torch.device("cpu"), fused=False)


def spec(net: str = "cifar_resnet(depth=8)", **changed: Any) -> DetectorSpec:
    usual: dict[str, Any] = {
        "net": resolve_any(net), "classes": ("cat", "dog"), "kind": "localise", "norm": "batch", "short": 40,
        "long": 60, "regions": 8,
    }  # fmt: skip
    return DetectorSpec(**(usual | changed))


def recipe(detector: DetectorSpec | None = None, **changed: Any) -> DetectRecipe:
    usual = {"batch": 4, "iterations": 6, "evaluate_every": 1000, "precision": "fp32"}
    return DetectRecipe(**({"detector": detector or spec()} | usual | changed))


def one_each(n: int, first: int = 0) -> dict[str, list[pictures.Corners]]:
    return {name: boxes[:1] for name, boxes in pictures.squares(n, first).items()}


@pytest.fixture
def data(tmp_path: Path) -> Annotations:
    return read(pictures.voc(tmp_path / "data", {"train": one_each(40), "test": one_each(20, 50)}))


def picture(*boxes: Box) -> Picture:
    return Picture("a", Path(), 100, 100, boxes)


def found(*rows: tuple[float, ...]) -> Detections:
    """Each a class, a score, four edges."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, 2:], table[:, 1], table[:, 0].astype(np.int64))


CAT, PLACE, HALF, LESS = Box(0, 0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 4.9)


@pytest.mark.parametrize(
    ("there", "rows", "wrong"),
    [
        ((CAT,), [(0, 0.9, *PLACE), (1, 0.1, *PLACE)], (0, 0, 0, 0)),
        ((CAT,), [(0, 0.9, *HALF)], (0, 0, 0, 0)),  # overlaps by 0.5
        ((CAT,), [(0, 0.9, *LESS)], (1, 1, 0, 1)),
        ((CAT,), [(1, 0.9, *PLACE), (0, 0.1, *PLACE)], (1, 0, 1, 0)),
        ((CAT,), [(1, 0.9, *PLACE), (0, 0.1, *LESS)], (1, 1, 1, 1)),
        ((CAT,), [(0, 0.9, *LESS), (0, 0.8, *PLACE), (1, 0.1, *PLACE)], (1, 1, 0, 1)),  # the best box of a class counts
        ((CAT,), [*((k, 0.9 - k / 10, *PLACE) for k in range(1, 6)), (0, 0.1, *PLACE)], (1, 1, 1, 0)),  # a sixth guess
        ((CAT, Box(0, 50, 50, 59, 59)), [(0, 0.9, 50, 50, 59, 59)], (0, 0, 0, 0)),  # either box of the class
        ((CAT, Box(1, 50, 50, 90, 90)), [(0, 0.9, *PLACE)], (1, 1, 1, 1)),  # it shows the larger
        ((CAT, Box(1, 0, 0, 90, 90, difficult=True)), [(0, 0.9, *PLACE)], (0, 0, 0, 0)),
        ((CAT,), [], (1, 1, 1, 1)),
    ],
)
def test_the_errors_of_a_picture(
    there: tuple[Box, ...], rows: list[tuple[float, ...]], wrong: tuple[float, ...]
) -> None:
    made = localisation([picture(*there)], [found(*rows)], resamples=0)
    assert tuple(made[name]["error"] for name in ("top1", "top5", "class", "given_class")) == wrong
    assert made["top1"]["interval"] == [None, None]


def test_the_errors_of_many() -> None:
    right, badly = found((0, 0.9, *PLACE)), found((0, 0.9, *LESS))
    made = localisation([picture(CAT)] * 100 + [picture()], [right] * 75 + [badly] * 25 + [right])
    assert made["pictures"] == 100  # one has no boxes
    assert made["top1"]["error"] == 0.25
    assert made["class"] == {"error": 0.0, "interval": [0.0, 0.0]}
    spread = 1.96 * np.sqrt(0.25 * 0.75 / 100)  # of a mean of 100 draws
    assert np.allclose(made["top1"]["interval"], [0.25 - spread, 0.25 + spread], atol=0.02)
    nothing = localisation([picture()], [NOTHING])
    assert nothing.pop("pictures") == 0
    assert list(nothing.values()) == [{"error": None, "interval": [None, None]}] * 4


def test_training_and_testing_agree_on_what_a_picture_shows() -> None:
    drawn = np.random.default_rng(0)
    for _ in range(20):
        edges = drawn.integers(1, 50, (5, 4))
        made = picture(*(Box(int(drawn.integers(3)), x, y, x + w, y + h) for x, y, w, h in edges.tolist()))
        label, boxes = shown(target(made, flipped=False))
        assert int(label) == main_class(made)
        assert len(boxes) == int((made.labels() == int(label)).sum())


def test_it_learns_what_is_where(data: Annotations, tmp_path: Path) -> None:
    """Coloured rectangles on noise: named and placed after 150 steps, and not after one."""
    detector = spec(anchors=(12, 20))
    first, last = (
        train(recipe(detector, iterations=n), data, tmp_path / str(n), execution=CPU, quiet=True) for n in (1, 150)
    )
    assert first["localisation"]["top1"]["error"] > 0.7
    assert last["localisation"]["class"]["error"] <= 0.1
    assert last["localisation"]["top1"]["error"] <= 0.2
    read_back = load_detector(tmp_path / "150")
    image = torch.rand(3, 40, 60)
    with torch.no_grad():
        [made] = read_back([image])
    assert isinstance(made, dict)
    assert sorted(made["labels"].tolist()) == [1, 2]  # a box of each class, likeliest first
    assert made["scores"][0] > made["scores"][1]
    assert torch.allclose(made["scores"].sum(), torch.tensor(1.0))
    again = runs.read_json(tmp_path / "150/result.json")
    assert again["localisation"] == last["localisation"]


def test_the_losses_are_those_of_the_class_shown() -> None:
    """Of one image, written out: the anchor on the object and the rest, of one class of two."""
    model = build_detector(spec(anchors=(20,), regions=10_000)).model
    assert isinstance(model, Localiser)
    boxes, image = torch.tensor([[10.0, 10, 30, 30]]), torch.rand(3, 40, 60)
    losses = model.train()([image], [{"boxes": boxes, "labels": torch.tensor([2])}])
    resized, _ = model.transform([image])
    y = model.backbone(resized.tensors)
    scores, (logits, _) = model.classifier(y.mean((2, 3))), model.rpn(y)
    [anchors] = model.anchors(resized, [y])
    overlaps = iou(anchors, boxes[0])
    hit, miss = (overlaps >= 0.7) | (overlaps == overlaps.max()), overlaps < 0.3
    assert 0 < int(hit.sum()) < int(miss.sum())
    torch.testing.assert_close(losses["loss_class"], F.cross_entropy(scores, torch.tensor([1])))
    drawn = torch.cat([logits[0, hit, 1], logits[0, miss, 1]])
    wanted = torch.cat([torch.ones(int(hit.sum())), torch.zeros(int(miss.sum()))])
    torch.testing.assert_close(losses["loss_objectness"], F.binary_cross_entropy_with_logits(drawn, wanted))
    bias = model.rpn.bbox_pred.bias
    assert bias is not None
    [gradient] = torch.autograd.grad(losses["loss_rpn_box_reg"], bias)
    of_class = gradient.reshape(-1, 2, 4)
    assert of_class[:, 0].abs().max() == 0  # the other class is left alone
    assert of_class[:, 1].abs().max() > 0


def iou(boxes: Tensor, one: Tensor) -> Tensor:
    common = (torch.minimum(boxes[:, 2:], one[2:]) - torch.maximum(boxes[:, :2], one[:2])).clamp_min(0).prod(1)
    return common / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (one[2:] - one[:2]).prod() - common)


def test_pictures_without_boxes_teach_nothing(tmp_path: Path) -> None:
    path = pictures.picture(tmp_path / "a.png")
    no_decay = Sgd(lr=0.01, weight_decay=0.0)
    trainer = Trainer(recipe(batch=2, optimizer=no_decay), [Picture("a", path, 40, 60, ())], CPU)
    before = trainer.detector.model.classifier.weight.clone()
    assert trainer.step() == 0
    assert torch.equal(before, trainer.detector.model.classifier.weight)


@pytest.mark.parametrize("net", ["preresnet164", "wrn16-8", "resnet50"])
def test_on_networks_of_other_families(net: str) -> None:
    made = build_detector(spec(net, short=64, long=96)).eval()
    with torch.no_grad():
        [each] = made([torch.rand(3, 40, 60)])
    assert isinstance(each, dict)
    assert each["boxes"].shape == (2, 4)
    assert made.spec.sides == (16, 32, 64)


def test_weights_of_a_classifier() -> None:
    weights = build("resnet18", seed=7).state_dict()
    made = build_detector(spec("resnet18", short=64, long=96, norm="frozen"))
    load_backbone(made, weights)
    assert torch.equal(made.model.state_dict()["backbone.body.layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])
    with pytest.raises(InputError, match=r"expected 'conv1.weight'"):
        load_backbone(made, {})


def test_the_command(data: Annotations, tmp_path: Path, reslab: Reslab) -> None:
    out = tmp_path / "run"
    words = ("--net", "cifar_resnet(depth=8)", "--short", 40, "--long", 60, "--iterations", 2, "--threads", 1)
    code, text, said = reslab("detect", "train", data.root, "--kind", "localise", *words, "--out", out)
    assert code == 0, said
    assert "localisation error, top-1: " in text
    assert "localisation error, given the class: " in text
    assert runs.read_json(out / "recipe.json")["detector"]["regions"] == 8
    code, text, said = reslab("detect", "eval", out, data.root, "--resamples", 0, "--page", tmp_path / "page.html")
    assert code == 0, said
    assert text.startswith("localisation error, top-1: ")
    assert "Localisation error " in (tmp_path / "page.html").read_text()
    code, text, _ = reslab("detect", "predict", out, data.root / "JPEGImages/000.png", "--score", 0)
    assert code == 0
    assert "cat " in text
    assert "dog " in text
    code, _, said = reslab("detect", "eval", out, data.root, "--refine")
    assert (code, said.splitlines()[-1]) == (
        2, "reslab: error: --refine and --scales are for detectors: a localiser has one box a class"
    )  # fmt: skip
