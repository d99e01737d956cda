"""The page of a fine-tuning holds what was found, and nothing that a file or class is called can get out of it."""

import re
from pathlib import Path

import pytest
import torch

from reslab.report import finetuned
from reslab.train.device import Execution
from reslab.transfer import page
from reslab.transfer.finetune import fit, prepare
from reslab.transfer.recipe import Choice
from reslab.transfer.worth import measure

from .pictures import COLOURS, folder, picture, weights

CPU = Execution(torch.device("cpu"), workers=0)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("page")
    photos = folder(root / "photos", 10)
    (photos / HOSTILE.replace("/", "∕")).mkdir()
    for number in range(4):
        picture("red", 900 + number).save(photos / HOSTILE.replace("/", "∕") / f'"><img src=x>{number}.png')
    start = weights(root / "w.safetensors")
    plan = prepare(
        photos, str(start), Choice(trains="all", precision="fp32", epochs=2, batch=8, augment="strong"),
        cache_dir=root / "cache",
    )  # fmt: skip
    fit(plan, root / "run", execution=CPU, quiet=True)
    path = page.write(plan, measure(plan, root / "run", CPU), root / "run", CPU)
    assert path == root / "run" / "report.html"
    return path.read_text("utf-8")


def test_it_holds_what_was_found(made: str) -> None:
    for heading in ("Class by class", "Confusion matrix", "Calibration", "The worst mistakes", "Learning curve",
                    "Training images after augmentation", "Use it", "How it was made"):  # fmt: skip
        assert heading in made
    assert re.search(r"<h1>\d+\.\d % of 7 test images are classified correctly</h1>", made)
    assert "95 % interval" in made
    assert ", from w.safetensors, on 27 images in " in made
    assert "The test images, a held-out fifth of each class, influenced no choice and were evaluated once." in made
    assert "Always predicting blue would be right for 28.6 % of them." in made
    assert "There are only 7 test images" in made
    assert all(name in made for name in COLOURS)
    assert made.count("data:image/webp;base64,") >= 3 * (page.TIMES + 1)
    assert "reslab predict" in made
    assert "--to onnx openvino --data" in made
    assert "reslab serve mine" in made


def test_names_are_text(made: str) -> None:
    assert "<script" not in made
    assert "&lt;script&gt;" in made
    assert "<img src=x>" not in made


def test_it_loads_nothing(made: str) -> None:
    assert not re.search(r"(src|href)=\"(?!data:|#)", made)


def test_the_head_alone_has_no_curve(tmp_path: Path) -> None:
    photos = folder(tmp_path / "photos", 8)
    plan = prepare(
        photos, str(weights(tmp_path / "w.safetensors")), Choice(trains="head", precision="fp32"),
        cache_dir=tmp_path / "cache",
    )  # fmt: skip
    fit(plan, tmp_path / "run", execution=CPU, quiet=True)
    text = page.write(plan, measure(plan, tmp_path / "run", CPU), tmp_path / "run", CPU).read_text("utf-8")
    assert "Learning curve" not in text
    assert "after augmentation" not in text
    assert "Only the last layer was fitted" in text


def test_names_that_are_no_text(tmp_path: Path) -> None:
    strange = finetuned.Picture("data:,", None, "photos/\udcff.jpg", "ox", "cow", 0.9, 0.1)
    kind = finetuned.Kind("ox", 1, 1, None, None, None, None)
    made = finetuned.Finetuned(
        "t", 0.0, (0.0, 79.3), 1, "", (), (kind,), [[0]], "", (), (strange,), (), (), "", (), (), {}, "1"
    )
    finetuned.write(made, tmp_path / "page.html")
    assert "photos/\\udcff.jpg" in (tmp_path / "page.html").read_text("utf-8")


def test_points_lie_where_they_belong() -> None:
    line = finetuned.Dots("a", 0, ((0.0, 0.0), (100.0, 100.0), (50.0, 50.0)))
    text = finetuned.drawing([line], x="x", y="y", diagonal=True)
    dots = [(float(across), float(down)) for across, down in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', text)]
    left, right = finetuned.LEFT, finetuned.SIDE - finetuned.RIGHT
    bottom, top = finetuned.SIDE - finetuned.BOTTOM, finetuned.TOP
    assert dots == [(left, bottom), (right, top), ((left + right) / 2, (bottom + top) / 2)]
