"""Training of detectors: what comes when, going on after a stop, losses that are not finite, pictures of all kinds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reslab import runs
from reslab.detect import loop
from reslab.detect.annotations import Annotations, Box, Picture, read
from reslab.detect.detections import NOTHING, Detections
from reslab.detect.feed import Feed, target
from reslab.detect.find import find_in
from reslab.detect.loop import train
from reslab.detect.recipe import DetectRecipe
from reslab.detect.saved import load_detector
from reslab.detect.spec import DetectorSpec
from reslab.detect.trainer import Trainer, learnt_from
from reslab.detect.worth import worth
from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.catalog import resolve_any
from reslab.train.device import Execution
from reslab.train.loop import Stopped
from reslab.train.trainer import NonFiniteLoss
from reslab.weights.files import read_safetensors, to_bytes

from . import pictures

CPU = Execution(torch.device("cpu"), fused=False)


@pytest.fixture
def data(tmp_path: Path) -> Annotations:
    splits = {"train": pictures.squares(6), "val": pictures.squares(2, 6), "test": pictures.squares(3, 8)}
    return read(pictures.voc(tmp_path / "data", splits))


def recipe(**changed: Any) -> DetectRecipe:
    detector = DetectorSpec(
        net=resolve_any("cifar_resnet(depth=8)"), classes=("cat", "dog"), norm="batch", short=40, long=60,
        anchors=(8, 16, 32, 64), channels=16, regions=16, proposals=20,
    )  # fmt: skip
    usual = {"batch": 2, "iterations": 6, "evaluate_every": 3, "precision": "fp32"}
    return DetectRecipe(**({"detector": detector} | usual | changed))


def weights_of(run: Path) -> dict[str, Tensor]:
    return read_safetensors(sorted((run / "checkpoints").glob("iteration-*"))[-1])[0]


def same(one: Path, other: Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    a, b = weights_of(one), weights_of(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert runs.read_json(one / "result.json") == runs.read_json(other / "result.json")


def test_a_stopped_run_goes_on_bit_for_bit(data: Annotations, tmp_path: Path) -> None:
    made = recipe(scales=(32, 40))
    train(made, data, tmp_path / "straight", execution=CPU, quiet=True)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 4

    with pytest.raises(Stopped, match="stopped at iteration 4 of 6"):
        train(made, data, tmp_path / "stopped", execution=CPU, stop=stop, quiet=True)
    torch.rand(7)  # whatever else draws in between
    train(made, data, tmp_path / "stopped", execution=CPU, quiet=True)
    same(tmp_path / "straight", tmp_path / "stopped")


def test_a_killed_run_goes_on_bit_for_bit(data: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(recipe(), data, tmp_path / "straight", execution=CPU, quiet=True)
    step = Trainer.step

    def killed(self: Trainer) -> float:
        if self.iteration == 5:
            raise MemoryError
        return step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", killed)
        with pytest.raises(MemoryError):
            train(recipe(), data, tmp_path / "killed", execution=CPU, checkpoint_every=2, quiet=True)
    newest = sorted((tmp_path / "killed/checkpoints").glob("iteration-*"))[-1]
    assert newest.name == "iteration-00000004.safetensors"
    train(recipe(), data, tmp_path / "killed", execution=CPU, checkpoint_every=2, quiet=True)
    same(tmp_path / "straight", tmp_path / "killed")


def test_a_finished_run_is_not_trained_again(
    data: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(recipe(iterations=1), data, tmp_path / "run", execution=CPU, quiet=True)
    assert first["split"] == "test"
    assert first["train_pictures"] == 6
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("trained again"))
    assert train(recipe(iterations=1), data, tmp_path / "run", execution=CPU, quiet=True) == first


def test_the_split_val_is_watched_or_learnt_from(data: Annotations, tmp_path: Path) -> None:
    train(recipe(iterations=1), data, tmp_path / "a", execution=CPU, quiet=True)
    assert "val_map50" in (tmp_path / "a/metrics.jsonl").read_text()
    both = recipe(iterations=1, learns="trainval")
    assert len(learnt_from(data, both)) == 8
    train(both, data, tmp_path / "b", execution=CPU, quiet=True)
    assert "val_map50" not in (tmp_path / "b/metrics.jsonl").read_text()


def test_a_run_goes_on_with_what_it_began_with(data: Annotations, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(recipe(), data, tmp_path / "run", execution=CPU, stop=lambda: True, quiet=True)
    with pytest.raises(InputError, match="already holds a run of another recipe"):
        train(recipe(seed=1), data, tmp_path / "run", execution=CPU, quiet=True)
    other = read(pictures.voc(tmp_path / "other", {"train": pictures.squares(5), "test": pictures.squares(2, 9)}))
    with pytest.raises(InputError, match="started with other pictures or boxes"):
        train(recipe(), other, tmp_path / "run", execution=CPU, quiet=True)
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(to_bytes(build("resnet20").state_dict(), {}))
    with pytest.raises(InputError, match="started with other weights to start from"):
        train(recipe(), data, tmp_path / "run", execution=CPU, weights=str(weights), quiet=True)


def test_weights_to_start_from(data: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = build("cifar_resnet(depth=8)", seed=5)
    path = tmp_path / "net.safetensors"
    path.write_bytes(to_bytes(net.state_dict(), {"spec": net.spec.model_dump(mode="json")}))
    began: list[Tensor] = []
    monkeypatch.setattr(
        loop, "_fit", lambda trainer, *_: began.append(trainer.detector.model.backbone.body.conv1.weight)
    )
    monkeypatch.setattr(loop, "_finish", lambda *_: {})
    train(recipe(), data, tmp_path / "run", execution=CPU, weights=str(path), quiet=True)
    assert torch.equal(began[0], net.state_dict()["conv1.weight"])


def test_nothing_to_test_on(tmp_path: Path) -> None:
    found = read(pictures.voc(tmp_path / "d", {"train": pictures.squares(2), "val": pictures.squares(1, 5)}))
    assert loop.tested_on(found, recipe())[0] == "val"
    with pytest.raises(InputError, match="expected images to test on"):
        loop.tested_on(found, recipe(learns="trainval"))
    with pytest.raises(InputError, match="the detector is of the classes"):
        train(recipe(), read(pictures.voc(tmp_path / "e", {"train": {"1": [("owl", 1, 1, 9, 9)]}, "val": {"2": []}})),
              tmp_path / "run", execution=CPU)  # fmt: skip


def test_a_loss_that_is_not_finite_names_step_and_picture(data: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(
        recipe(detector=recipe().detector.model_copy(update={"norm": "frozen"})), learnt_from(data, recipe()), CPU
    )
    trainer.step()
    take = Feed.take

    def damaged(self: Feed, iteration: int, device: torch.device) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        images, targets = take(self, iteration, device)
        return [images[0], images[1] * torch.inf], targets

    monkeypatch.setattr(Feed, "take", damaged)
    name = trainer.feed.pictures[trainer.feed.chosen(1)[1][0]].name
    with pytest.raises(NonFiniteLoss, match=rf"at iteration 2, got none \(.*\) from the picture {name};"):
        trainer.step()


def alone(tmp_path: Path, size: tuple[int, int], *boxes: Box) -> Picture:
    path = pictures.picture(tmp_path / f"{size}.png", size=size)
    return Picture("a", path, *size, boxes)


@pytest.mark.parametrize("kind", ["no boxes", "5,000 boxes", "one pixel", "one pixel high", "difficult boxes alone"])
def test_pictures_of_all_kinds(tmp_path: Path, kind: str) -> None:
    many = [Box(i % 2, i % 50, i // 50 % 10, 52 + i % 8, 30 + i % 9) for i in range(5000)]
    picture = {
        "no boxes": lambda: alone(tmp_path, (40, 60)),
        "5,000 boxes": lambda: alone(tmp_path, (40, 60), *many),
        "one pixel": lambda: alone(tmp_path, (1, 1), Box(0, 0, 0, 1, 1)),
        "one pixel high": lambda: alone(tmp_path, (1, 60), Box(0, 0, 0, 5, 1)),
        "difficult boxes alone": lambda: alone(tmp_path, (40, 60), Box(0, 0, 0, 9, 9, difficult=True)),
    }[kind]()
    made = recipe()
    if kind == "5,000 boxes":  # of few anchors: their number times that of the boxes is what it takes
        detector = made.detector.model_copy(update={"net": resolve_any("resnet18"), "anchors": (8, 16, 32, 64, 128)})
        made = recipe(detector=detector)
    trainer = Trainer(made, [picture], CPU)
    for _ in range(2):
        assert np.isfinite(trainer.step())
    [found] = find_in(trainer.detector, [picture])
    assert trainer.detector.training
    assert (found.boxes[:, 2] <= picture.width).all()


def test_what_comes_when_is_a_function_of_the_seed() -> None:
    those = [Picture(str(i), Path(), 9, 9, ()) for i in range(5)]
    feed = Feed(those, 2, flip=True, seed=3)
    taken = [feed.chosen(i) for i in range(5)]
    flat = [index for step in taken for index, _ in step]
    assert sorted(flat[:5]) == sorted(flat[5:]) == list(range(5))
    assert flat[:5] != flat[5:]
    assert {mirrored for step in taken for _, mirrored in step} == {False, True}
    assert Feed(those, 2, flip=True, seed=3).chosen(4) == taken[4]
    assert [Feed(those, 2, flip=True, seed=4).chosen(i) for i in range(5)] != taken
    assert not any(mirrored for _, mirrored in Feed(those, 9, flip=False, seed=3).chosen(0))


def test_a_mirrored_picture_has_mirrored_boxes(data: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(data.splits["train"], 1, flip=True, seed=0)
    for mirrored in (False, True):
        monkeypatch.setattr(Feed, "chosen", lambda self, iteration, m=mirrored: [(0, m)])
        [image], [boxes] = feed.take(0, torch.device("cpu"))
        for (x1, y1, x2, y2), label in zip(boxes["boxes"].int().tolist(), boxes["labels"].tolist(), strict=True):
            inside, colour = image[:, y1:y2, x1:x2], 0 if label == 1 else 1
            assert (inside.argmax(0) == colour).all()
            assert image[colour, y1:y2, x1 - 1].max() < 0.5


def test_difficult_boxes_and_crowds_are_not_learnt() -> None:
    boxes = Box(0, 0, 0, 9, 9), Box(1, 1, 1, 5, 5, difficult=True), Box(1, 2, 2, 5, 5, crowd=True)
    made = target(Picture("a", Path(), 20, 30, boxes), flipped=True)
    assert made["boxes"].tolist() == [[21, 0, 30, 9]]
    assert made["labels"].tolist() == [1]


def test_a_detector_is_read_back(data: Annotations, tmp_path: Path) -> None:
    train(recipe(iterations=2), data, tmp_path / "run", execution=CPU, quiet=True)
    detector = load_detector(tmp_path / "run")
    assert detector.spec == recipe().detector
    a, b = (
        find_in(detector, data.splits["test"]),
        find_in(load_detector(tmp_path / "run/checkpoints/final.safetensors"), data.splits["test"]),
    )
    assert all(np.array_equal(one.boxes, other.boxes) for one, other in zip(a, b, strict=True))
    (tmp_path / "net.safetensors").write_bytes(to_bytes(build("resnet20").state_dict(), {}))
    (tmp_path / "odd.safetensors").write_bytes(to_bytes({}, {"detector": {"kind": "fpn"}}))
    for source, said in (
        ("gone", "but nothing is there"), ("data", "expected a run of .*, but there is none"),
        ("net.safetensors", "found something else"), ("odd.safetensors", "net: Field required"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            load_detector(tmp_path / source)


def test_what_it_is_worth_is_plain_data() -> None:
    picture = Picture("a", Path(), 50, 50, (Box(0, 0, 0, 9, 9),))
    hit = Detections(np.array([[0, 0, 9, 9.0]]), np.array([0.9]), np.array([0]))
    found = worth([picture], [hit], ("cat", "dog"), resamples=5)
    assert found["voc07"] == {"map": 1.0, "interval": [1.0, 1.0], "classes": {"cat": 1.0, "dog": None}}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert worth([picture], [NOTHING], ("cat", "dog"), resamples=0)["errors"]["missed"] == 1


def test_boxes_are_learnt_to_be_found(tmp_path: Path) -> None:
    """Coloured rectangles on noise: found after 100 steps, and not after one."""
    data = read(pictures.voc(tmp_path / "data", {"train": pictures.squares(32), "test": pictures.squares(12, 50)}))
    found = [
        train(recipe(iterations=n, batch=4, evaluate_every=1000), data, tmp_path / str(n), execution=CPU, quiet=True)
        for n in (1, 100)
    ]
    assert found[0]["voc10"]["map"] < 0.1
    assert found[1]["voc10"]["map"] > 0.5
