"""``reslab detect``: from pictures with boxes to a detector, its figures, and boxes in new pictures."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reslab.commands import detect as command
from reslab.commands import detect_eval as command_eval
from reslab.commands import detect_predict as command_predict
from reslab.commands import detect_ready
from reslab.detect import find
from reslab.detect.annotations import Annotations
from reslab.detect.detections import Detections
from reslab.detect.looks import Found, Looks, look
from reslab.detect.networks import Detector, build_detector
from reslab.detect.recipe import DetectRecipe
from reslab.detect.saved import is_detector, save_detector
from reslab.detect.spec import DetectorSpec
from reslab.detect.trainer import Trainer
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any
from reslab.nets.network import build_any
from reslab.train.state import save
from reslab.weights.load import header_of

from . import pictures

Reslab = Callable[..., tuple[int, str, str]]
SMALL = ("--net", "cifar_resnet(depth=8)", "--short", 40, "--long", 60, "--anchors", 8, 16, 32, 64, "--channels", 16,
         "--regions", 16, "--batch-size", 2, "--precision", "fp32", "--threads", 1)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures.voc(tmp_path / "cells", {"train": pictures.squares(4), "test": pictures.squares(2, 6)})


@pytest.fixture
def run(folder: Path, tmp_path: Path, reslab: Reslab) -> Path:
    out = tmp_path / "run"
    code, text, said = reslab("detect", "train", folder, *SMALL, "--iterations", 2, "--out", out)
    assert code == 0, said
    assert "train: 4 images; boxes: " in said
    assert "2 iterations of 2 images, 4 to train on, 2 (test) to test on" in said
    assert "mAP@0.5, 11 points (VOC 07): " in text
    assert f"detector: {out}/checkpoints/final.safetensors" in text
    return out


def test_eval(run: Path, folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    code, text, _ = reslab("detect", "eval", run, folder, "--json", "--resamples", 5, "--out", tmp_path / "found.json")
    assert code == 0
    again, kept = json.loads(text), json.loads((run / "result.json").read_text())
    assert again["voc10"]["map"] == kept["voc10"]["map"]
    assert again["resamples"] == 5
    results = json.loads((tmp_path / "found.json").read_text())
    assert {each["image_id"] for each in results} <= {1, 2}
    whole = reslab("detect", "eval", run, folder, "--split", "train", "--resamples", 0, "--short", 32, "--score", 0.9)
    assert whole[0] == 0
    assert "errors at scores of 0.9 or more, " in whole[1]
    assert "interval" not in whole[1]


def test_predict(run: Path, folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    (folder / "JPEGImages/broken.png").write_bytes(b"no picture")
    shown = reslab("detect", "predict", run, folder / "JPEGImages", "--score", 0, "--out", tmp_path / "drawn")
    assert shown[0] == 0
    assert len(shown[1].splitlines()) == 6
    assert "skipped: " in shown[2]
    drawn = sorted((tmp_path / "drawn").glob("*.png"))
    assert len(drawn) == 6
    with Image.open(drawn[0]) as image:
        assert image.size == (60, 40)
    content = json.loads((tmp_path / "drawn/detections.json").read_text())
    assert [each["name"] for each in content["categories"]] == ["cat", "dog"]
    assert len(content["images"]) == 6
    assert content["annotations"]
    code, text, _ = reslab("detect", "predict", run, drawn[0], "--json")
    assert code == 0
    assert json.loads(text)["images"][0]["width"] == 60
    assert "nothing" in reslab("detect", "predict", run, drawn[0], "--score", 1)[1]


def test_a_look_writes_nothing(folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    (folder / "Annotations/000.xml").write_text(pictures.xml([("cat", 50, 5, 90, 20)]))
    code, text, said = reslab("detect", "train", folder, "--look", "--json", "--out", tmp_path / "out")
    assert code == 0
    assert "1 x box partly outside the picture (clipped to the picture): train/000, box 1 ('cat')" in said
    assert json.loads(text)["problems"][0]["kind"] == "box partly outside the picture"
    assert not (tmp_path / "out").exists()


def test_interrupted_and_gone_on_with(
    folder: Path, reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def interrupted(self: Trainer) -> float:
        raise KeyboardInterrupt  # as Ctrl-C is where nothing else asks for it; a signal might end a worker of the tests

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", interrupted)
        code, _, said = reslab("detect", "train", folder, *SMALL, "--iterations", 3, "--out", out)
    assert (code, said.splitlines()[-1]) == (
        130, f"reslab: interrupted; continue with: reslab detect train --resume {out}",
    )  # fmt: skip
    code, text, said = reslab("detect", "train", "--resume", out, "--json")
    assert code == 0, said
    assert json.loads(text)["iterations"] == 3
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train",), "name the folder of your images: reslab detect train FOLDER"),
        (("train", "FOLDER", "--lr", 0), "--lr takes a number above 0, got 0"),
        (("train", "FOLDER", "--kind", "c4", "--net", "timm:resnet18"), "takes a network of Reslab's own or a VGG"),
        (("train", "FOLDER", "--net", "resnet20", "--anchors", 8), "expected 4 sides of anchors"),
        (("train", "FOLDER", "--net", "resnet21"), "unknown network 'resnet21'"),
        (("train", "--resume", "FOLDER"), "expected a run (recipe.json in it), but there is none"),
        (("train", "--resume", "FOLDER", "--lr", 1, "--no-flip"), "leave out --no-flip, --lr"),
        (("eval", "FOLDER"), "name the images"),
        (("eval", "FOLDER", "FOLDER", "--score", 2), "--score takes a score, 0 to 1, got 2"),
        (("eval", "FOLDER", "FOLDER", "--short", 0), "--short takes 1 or more pixels"),
        (("eval", "FOLDER", "FOLDER", "--resamples", -1), "--resamples takes 0"),
        (("eval", "FOLDER", "FOLDER"), ", but there is none"),
        (("predict", "FOLDER"), "name images"),
        (("predict", "FOLDER", "gone.jpg"), "expected an image or a folder of images at gone.jpg"),
    ],
)
def test_mistakes_are_one_line(folder: Path, reslab: Reslab, words: tuple[object, ...], said: str) -> None:
    code, text, error = reslab("detect", *(folder if word == "FOLDER" else word for word in words))
    assert (code, text) == (2, "")
    assert said in error.splitlines()[-1]


@pytest.mark.parametrize("words", [("predict", "W", "P"), ("eval", "W", "--data", "P"), ("bench", "infer", "W")])
@pytest.mark.parametrize("inside", ["", "checkpoints/final.safetensors"])
def test_a_detector_is_no_classifier(
    run: Path, folder: Path, reslab: Reslab, words: tuple[str, ...], inside: str
) -> None:
    places = {"W": run / inside, "P": folder / "JPEGImages"}
    code, _, said = reslab(*(places.get(word, word) for word in words))
    assert code == 2
    assert f"{run / inside} holds a detector: " in said
    assert "reslab detect predict" in said


def test_a_classifier_is_no_detector(folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    spec = resolve_any("cifar_resnet(depth=8)")
    save(tmp_path / "w.safetensors", dict(build_any(spec).state_dict()), header_of(spec, None, None))
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "metadata.json").write_text("{}")
    for name in ("w.safetensors", "exported"):
        for words in (("predict", tmp_path / name, folder / "JPEGImages"), ("eval", tmp_path / name, folder)):
            code, _, said = reslab("detect", *words)
            assert code == 2
            assert "of a classifier: 'reslab predict'" in said


def test_a_run_of_another_kind(folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/recipe.json").write_text('{"net": 1}')
    code, _, said = reslab("detect", "train", "--resume", tmp_path / "other")
    assert (code, "expected a recipe of a detector" in said) == (2, True)


def test_without_the_library_coco_is_said_to_need_it(
    run: Path, folder: Path, reslab: Reslab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    code, text, said = reslab("detect", "eval", run, folder, "--resamples", 0)
    assert code == 0
    assert "COCO" not in text
    assert "pip install 'reslab[detect]'" in said


@pytest.mark.parametrize(
    ("words", "place", "value"),
    [
        (("--net", "resnet18"), "recipe.detector.net.name", "resnet18"),
        (("--model", "resnet34"), "recipe.detector.net.name", "resnet34"),
        (("--from", "torchvision:resnet50"), "weights", "torchvision:resnet50"),
        (("--weights", "torchvision:resnet50"), "recipe.detector.norm", "frozen"),
        (("--norm", "frozen"), "recipe.detector.norm", "frozen"),
        (("--norm", "group"), "recipe.detector.norm", "group"),
        (("--context",), "recipe.detector.context", True),
        (("--kind", "c4"), "recipe.detector.kind", "c4"),
        (("--kind", "localise"), "recipe.detector.regions", 8),
        (("--kind", "c4"), "recipe.detector.regions", 512),
        (("--pooling", "max", "--kind", "c4"), "recipe.detector.pooling", "max"),
        (("--short", 240), "recipe.detector.short", 240),
        (("--long", 700), "recipe.detector.long", 700),
        (("--scales", 480, 600), "recipe.scales", (480, 600)),
        (("--anchors", 1, 2, 3, 4, 5), "recipe.detector.anchors", (1, 2, 3, 4, 5)),
        (("--channels", 64), "recipe.detector.channels", 64),
        (("--regions", 64), "recipe.detector.regions", 64),
        (("--frozen-stages", 2), "recipe.detector.frozen_stages", 2),
        (("--no-flip",), "recipe.flip", False),
        (("--trainval",), "recipe.learns", "trainval"),
        (("--iterations", 7), "recipe.iterations", 7),
        (("--batch-size", 3), "recipe.batch", 3),
        (("-b", 3), "recipe.iterations", 16),
        (("--lr", 0.5), "recipe.optimizer.lr", 0.5),
        (("--wd", 0.5), "recipe.optimizer.weight_decay", 0.5),
        (("--weight-decay", 0.5), "recipe.optimizer.weight_decay", 0.5),
        (("--seed", 5), "recipe.seed", 5),
        (("--precision", "fp32"), "recipe.precision", "fp32"),
        (("--evaluate-every", 9), "recipe.evaluate_every", 9),
        (("--checkpoint-every", 9), "checkpoint_every", 9),
        (("--device", "cpu"), "execution.device.type", "cpu"),
        (("--threads", 1), "threads", 1),
        (("--out", "here"), "out", Path("here")),
        ((), "out", Path("runs/detect-resnet50-cells-seed0")),
    ],
    ids=str,
)
def test_an_option_reaches_the_training(
    folder: Path, reslab: Reslab, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], place: str, value: object
) -> None:
    given: dict[str, Any] = {}

    def trained(recipe: DetectRecipe, data: Annotations, out: Path, **more: Any) -> dict[str, Any]:
        given.update(recipe=recipe, data=data, out=out, threads=torch.get_num_threads(), **more)
        return {}

    monkeypatch.setattr(command, "trained", trained)
    assert reslab("detect", "train", folder, "--json", *words)[0] == 0
    found: Any = given[place.partition(".")[0]]
    for name in place.split(".")[1:]:
        found = getattr(found, name)
    assert found == value


def test_several_detectors_vote_together(run: Path, folder: Path, reslab: Reslab, weights: Path) -> None:
    words = ("--resamples", 0, "--json")
    alone = json.loads(reslab("detect", "eval", run, folder, *words)[1])
    code, text, said = reslab("detect", "eval", run, folder, "--also", weights, *words)
    assert code == 0, said
    assert json.loads(text)["also"] == [str(weights)]
    assert alone["also"] == []
    picture = folder / "JPEGImages/000.png"

    def found(*detectors: object) -> list[dict[str, Any]]:
        made = reslab("detect", "predict", detectors[0], picture, "--json", *detectors[1:])
        assert made[0] == 0, made[2]
        listed: list[dict[str, Any]] = json.loads(made[1])["annotations"]
        return listed

    one, other, both = found(run), found(weights), found(run, "--also", weights)
    scores = [each["score"] for each in both]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == max(each["score"] for each in (*one, *other))
    assert 0 < len(both) <= 100


def test_boxes_at_one_place_are_moved_to_their_mean_by_score() -> None:
    def of(*rows: tuple[float, ...]) -> Detections:
        table = np.array(rows).reshape(-1, 6)
        return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))

    made = find.together([of((0, 0, 10, 10, 0.9, 0)), of((1, 0, 11, 10, 0.3, 0), (50, 50, 60, 60, 0.2, 1)), of()])
    assert made.labels.tolist() == [0, 1]
    assert made.scores.tolist() == [0.9, 0.2]
    assert made.boxes[0].tolist() == pytest.approx([0.25, 0, 10.25, 10])
    assert find.together([of(), of()]).scores.tolist() == []


def test_detectors_of_other_classes_do_not_vote(run: Path, folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    net = resolve_any("cifar_resnet(depth=8)")
    other = build_detector(DetectorSpec(net=net, classes=("bird",), short=40, long=60, anchors=(8, 16, 32, 64)))
    save_detector(tmp_path / "birds.safetensors", other)
    code, _, said = reslab("detect", "eval", run, folder, "--also", tmp_path / "birds.safetensors")
    assert (code, "expected a detector of the same classes as the first one's (cat, dog), found bird" in said) == (
        2,
        True,
    )


def test_group_norm_takes_no_weights(reslab: Reslab, folder: Path) -> None:
    code, _, said = reslab("detect", "train", folder, "--norm", "group", "--from", "torchvision:resnet50")
    assert (code, "--norm group goes without --from" in said) == (2, True)


def test_a_checkpoint_of_a_run(run: Path, folder: Path, reslab: Reslab) -> None:
    [*_, checkpoint] = sorted((run / "checkpoints").glob("iteration-*.safetensors"))
    final = json.loads(reslab("detect", "eval", run, folder, "--json", "--resamples", 0)[1])
    code, text, said = reslab("detect", "eval", checkpoint, folder, "--json", "--resamples", 0)
    assert code == 0, said
    assert json.loads(text)["voc10"] == final["voc10"]
    assert is_detector(checkpoint)
    (run / "checkpoints/final.safetensors").unlink()
    code, _, said = reslab("detect", "eval", run, folder)
    assert (code, f"the run has not finished; continue with reslab detect train --resume {run}, or name" in said) == (
        2,
        True,
    )
    moved = checkpoint.rename(folder / "alone.safetensors")
    code, _, said = reslab("detect", "eval", moved, folder)
    assert (code, "found something else" in said) == (2, True)
    assert not is_detector(moved)


def test_a_run_of_an_earlier_version_goes_on(run: Path, folder: Path, reslab: Reslab) -> None:
    recipe = json.loads((run / "recipe.json").read_text())
    del recipe["detector"]["context"]
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "result.json").unlink()
    code, _, said = reslab("detect", "train", "--resume", run)
    assert code == 0, said


def test_how_a_detector_is_carried_out(reslab: Reslab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options of `eval` and `predict` that say where and how, not what."""
    seen: list[tuple[object, ...]] = []

    def ready(*given: object) -> None:
        seen.append(given)
        raise InputError("enough")

    for module in (command_eval, command_predict):
        monkeypatch.setattr(module, "made_ready", ready)
    words = ("--device", "cpu", "--threads", 1, "--short", 32, "--score", 0.25, "--precision", "bf16", "--also", "two")
    assert reslab("detect", "eval", "net", folder, *words)[0] == 2
    assert reslab("detect", "predict", "net", folder / "JPEGImages", *words)[0] == 2
    assert seen == [("net", "cpu", 1, 32, 0.25, "bf16", Looks(), ("two",))] * 2


def test_the_size_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = build_detector(
        DetectorSpec(net=resolve_any("resnet20"), classes=("cat",), short=40, long=60, anchors=(8, 16, 32, 64))
    )
    monkeypatch.setattr(detect_ready, "load_detector", lambda source, device: made)
    ready = detect_ready.made_ready("net", "cpu", 1, 20, 0.5, "fp32")
    assert (made.model.transform.min_size, made.model.transform.max_size) == ((20,), 30)
    assert (ready.device, ready.precision) == ("cpu", "fp32")


def test_nothing_is_overwritten_unasked(folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    mine = tmp_path / "detections.json"
    mine.write_text("mine")
    for words, out in ((("eval", "gone", folder), mine), (("predict", "gone", folder / "JPEGImages"), tmp_path)):
        code, _, said = reslab("detect", *words, "--out", out)
        assert (code, "--force" in said, mine.read_text()) == (2, True, "mine")
        code, _, said = reslab("detect", *words, "--out", out, "--force")
        assert (code, "at gone, but nothing is there" in said) == (2, True)


def test_the_page_of_a_detector(
    run: Path, folder: Path, reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = tmp_path / "page.html"
    words = ("detect", "eval", run, folder, "--resamples", 5, "--open")
    assert reslab(*words)[0] == 2
    assert reslab(*words, "--page", path)[0] == 0
    assert opened == [path.resolve().as_uri()]
    text = path.read_text()
    for part in ("Mean average precision ", "VOC 07, 11 points", "badly placed", "missed", "data:image/webp", "<svg"):
        assert part in text
    assert not re.search(r'(src|href)="https?:', text)
    assert text.count("<figure>") == 2


def test_looking_more_than_once(
    run: Path, folder: Path, reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Looks] = []

    def seen(detector: Detector, picture: torch.Tensor, looks: Looks) -> Found:
        looked.append(looks)
        return look(detector, picture, Looks())

    monkeypatch.setattr(find, "look", seen)
    picture = folder / "JPEGImages/000.png"
    assert reslab("detect", "eval", run, folder, "--resamples", 0, "--refine", "--scales", 32, 40)[0] == 0
    assert reslab("detect", "predict", run, picture, "--scales", 32, 40, "--refine")[0] == 0
    assert looked == [Looks(True, (32, 40))] * 3
    code, _, said = reslab("detect", "predict", run, picture, "--scales", 0)
    assert (code, "--scales takes sizes of the shorter side" in said) == (2, True)
