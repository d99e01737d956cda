"""A detector behind `reslab serve`: the boxes of `reslab detect predict`, and refusals before anything listens."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from reslab.cli import app
from reslab.detect.networks import build_detector
from reslab.detect.saved import is_detector, save_detector
from reslab.detect.spec import DetectorSpec
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any

from . import pictures

pytest.importorskip("fastapi", reason="no FastAPI: pip install 'reslab[serve]'")
from starlette.testclient import TestClient

from reslab.commands.serve import Prepared, prepare

Reslab = Callable[..., tuple[int, str, str]]


def prepared(*words: object) -> Prepared:
    command, bound, _ = app.parse_args(
        ["serve", *map(str, words), "--port", "0", "--threads", "1"], exit_on_error=False, print_error=False
    )
    found = prepare(command(*bound.args, **bound.kwargs), Console(stderr=True))
    found.listening.close()
    return found


@pytest.mark.parametrize("size", [(40, 60), (90, 50), (1, 500)])
def test_the_boxes_of_predict(weights: Path, tmp_path: Path, reslab: Reslab, size: tuple[int, int]) -> None:
    path = pictures.picture(tmp_path / "a.png", size=size)
    code, text, said = reslab("detect", "predict", weights, path, "--json", "--score", 0, "--threads", 1)
    assert code == 0, said
    expected = json.loads(text)["annotations"]
    assert len(expected) > 3
    with TestClient(prepared(weights, "--batch-size", 8).app) as client:
        about = client.get("/v1/model").json()
        answer = client.post("/v1/detect?score=0", files={"image": ("a.png", path.read_bytes())})
    assert (about["classes"], about["detects"]) == (["cat", "dog"], True)
    assert answer.status_code == 200
    [one] = answer.json()["detections"]
    assert (one["height"], one["width"]) == size
    for each, other in zip(one["boxes"], expected, strict=True):
        assert each["output"] + 1 == other["category_id"]
        assert each["score"] == pytest.approx(other["score"], abs=1e-6)
        x, y, width, height = other["bbox"]
        assert each["box"] == pytest.approx([x, y, x + width, y + height], abs=1e-3)


def test_a_localiser_gives_one_box_a_class_and_what_the_image_shows(tmp_path: Path, reslab: Reslab) -> None:
    spec = DetectorSpec(
        net=resolve_any("cifar_resnet(depth=8)"), classes=("cat", "dog", "bird"), kind="localise", norm="batch",
        short=40, long=60, anchors=(8.0, 16.0), regions=8,
    )  # fmt: skip
    weights, path = tmp_path / "d.safetensors", pictures.picture(tmp_path / "a.png", size=(40, 60))
    save_detector(weights, build_detector(spec, seed=3))
    code, text, said = reslab("detect", "predict", weights, path, "--json", "--score", 0, "--threads", 1)
    assert code == 0, said
    with TestClient(prepared(weights).app) as client:
        about = client.get("/v1/model").json()
        [one] = client.post("/v1/detect?score=0", files={"image": path.read_bytes()}).json()["detections"]
        [sure] = client.post("/v1/detect?score=0.99", files={"image": path.read_bytes()}).json()["detections"]
    assert (about["classes"], about["detects"]) == (["cat", "dog", "bird"], True)
    assert sorted(each["output"] for each in one["boxes"]) == [0, 1, 2]
    assert sum(each["score"] for each in one["boxes"]) == pytest.approx(1, abs=1e-5)  # probabilities of the classes
    for each, other in zip(one["boxes"], json.loads(text)["annotations"], strict=True):
        x, y, width, height = other["bbox"]
        assert each["box"] == pytest.approx([x, y, x + width, y + height], abs=1e-3)
        assert (each["output"] + 1, each["score"]) == (other["category_id"], pytest.approx(other["score"], abs=1e-6))
    assert sure["boxes"] == []


def test_boxes_are_of_the_upright_picture(weights: Path, tmp_path: Path) -> None:
    with Image.open(pictures.picture(tmp_path / "a.png", size=(40, 60))) as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter
        image.save(tmp_path / "turned.png", exif=exif)
    with TestClient(prepared(weights).app) as client:
        answer = client.post("/v1/detect", files={"image": ("t.png", (tmp_path / "turned.png").read_bytes())})
    [one] = answer.json()["detections"]
    assert (one["height"], one["width"]) == (60, 40)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--net", "resnet18"), "leave out --net"),
        (("--crop", "32"), "leave out --mean, --std, --resize, --crop and --interpolation"),
        (("--no-orient",), "leave out --no-orient"),
        (("--runtime", "onnxruntime"), "leave out --runtime"),
    ],
)
def test_options_that_a_detector_does_not_take(weights: Path, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        prepared(weights, *words)


def test_a_run_that_is_not_finished(tmp_path: Path, reslab: Reslab) -> None:
    folder = pictures.voc(tmp_path / "cells", {"train": pictures.squares(2), "test": pictures.squares(2, 6)})
    small = ("--net", "cifar_resnet(depth=8)", "--short", 40, "--long", 60, "--anchors", 8, 16, 32, 64, "--channels",
             16, "--regions", 16, "--batch-size", 2, "--precision", "fp32", "--threads", 1)  # fmt: skip
    out = tmp_path / "run"
    assert reslab("detect", "train", folder, *small, "--iterations", 1, "--out", out)[0] == 0
    assert prepared(out).service.detects
    (out / "checkpoints/final.safetensors").unlink()
    with pytest.raises(InputError, match="expected a run of 'reslab detect train'"):
        prepared(out)


def test_what_is_a_detector(weights: Path, tmp_path: Path) -> None:
    assert is_detector(weights)
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.json").write_text("{")
    for other in ("nothing", tmp_path, tmp_path / "empty.safetensors", tmp_path / "run", "torchvision:resnet18"):
        assert not is_detector(other)
