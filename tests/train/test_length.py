"""Lengths and batches that do not fit the number of images are said, with what to write instead."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reslab.runs import read_json
from reslab.train.length import FEWEST, LONGEST, batch_within, doubts, iterations_of, proposed

Reslab = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("iterations", "batch", "images", "said"),
    [
        (600_000, 144, 144, "600,000 epochs"),
        (64_000, 128, 144, "56,889 epochs"),
        (2, 120, 120, "only 2 steps"),
        (FEWEST - 1, 500, 50_000, "only 49 steps"),
        (FEWEST, 500, 50_000, ""),
        (LONGEST, 120, 120, ""),
        (LONGEST + 1, 120, 120, "501 epochs"),
    ],
)
def test_what_to_write_instead_is_not_doubted(iterations: int, batch: int, images: int, said: str) -> None:
    text = doubts(iterations, batch, images)
    assert said in text
    assert bool(said) == bool(text)
    for epochs in re.findall(r"--epochs (\d+)", text):
        assert doubts(iterations_of(int(epochs), images, batch), batch, images) == ""


def test_a_batch_is_no_larger_than_the_images() -> None:
    assert [batch_within(*case) for case in ((128, 50_000), (500, 120), (500, 121, 2), (128, 128, 4))] == [
        128, 120, 120, 128,
    ]  # fmt: skip
    assert proposed(120, 120) == 200
    assert proposed(50_000, 500) == 2


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures of 16 pixels in three classes, told apart by their stripes; 8 a class to test on."""
    root, draw = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 8)):
        rows, columns = np.indices((16, 16)) // 2 % 2
        for name, stripes in (("across", rows), ("along", columns), ("both", rows ^ columns)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 120, (16, 16, 3)) + 100 * stripes[:, :, None]
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


NET = ("--net", "cifar_resnet(depth=8, width=4)", "--threads", 1)
FAST = ("--net", "cifar_fast(widths=(8, 16, 16), blocks=(1, 1, 1))", "--threads", 1)


def result_of(run: Path) -> dict[str, Any]:
    """Of a run that is done."""
    found: dict[str, Any] = read_json(run / "result.json")
    return found


def test_a_fast_recipe_on_few_pictures_learns_them(reslab: Reslab, squares: Path, tmp_path: Path) -> None:
    code, _, err = reslab("train", "fast_cifar", *FAST, "--data", squares, "--out", tmp_path / "run")
    assert code == 0, err
    said = " ".join(err.split())
    assert "training with a batch of 120, not the recipe's 500: there are 120 training images" in said
    assert "training for 200 epochs, not the recipe's 8: " in said
    assert "warning" not in said
    result = result_of(tmp_path / "run")
    assert result["iterations"] == 200
    assert (result["at_chance"], result["test_at_chance"]) == (False, False)
    assert result["test_error"] < 20
    code, _, err = reslab("eval", tmp_path / "run", "--data", squares)
    assert code == 0, err


def test_a_training_at_chance_says_so(reslab: Reslab, squares: Path, tmp_path: Path) -> None:
    words = ("train", "he2015_cifar", *NET, "--data", squares, "--iterations", 3, "--lr", 1e-9)
    code, _, err = reslab(*words, "--out", tmp_path / "run")
    assert code == 0, err
    said = " ".join(err.split())
    assert "warning: the training has only 3 steps" in said
    assert "warning: the network learned nothing" in said
    assert result_of(tmp_path / "run")["at_chance"] is True


def test_a_test_error_at_chance_is_said_where_the_training_error_is_low(
    reslab: Reslab, squares: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned"
    turned.mkdir()
    (turned / "train").symlink_to(squares / "train")
    for name, other in (("across", "along"), ("along", "both"), ("both", "across")):
        (turned / "val").mkdir(exist_ok=True)
        (turned / "val" / name).symlink_to(squares / "val" / other)
    code, _, err = reslab("train", "fast_cifar", *FAST, "--data", turned, "--out", tmp_path / "run")
    assert code == 0, err
    said = " ".join(err.split())
    assert "warning: the test error is no lower than that of always predicting the most frequent class" in said
    result = result_of(tmp_path / "run")
    assert (result["at_chance"], result["test_at_chance"]) == (False, True)


def test_the_papers_length_on_few_pictures_is_doubted(reslab: Reslab, squares: Path, tmp_path: Path) -> None:
    words = ("train", "he2015_cifar", *NET, "--data", squares, "--dry-run", "--out", tmp_path / "run")
    code, _, err = reslab(*words)
    assert code == 0, err
    assert "warning: 64,000 epochs show each of the 120 images 64,000 times" in " ".join(err.split())


def test_what_is_held_out_is_said(reslab: Reslab, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (32, 32), (50 * i, 9, 9)).save(tmp_path / "photos" / name / f"{i}.png")
    words = ("train", "he2015_cifar", *NET, "--data", tmp_path / "photos", "--iterations", 1, "--out", tmp_path / "run")
    code, _, err = reslab(*words)
    assert code == 0, err
    assert "images: 8 for training, 2 for testing, from " in err
    assert "a fixed fifth of each class held out as test set" in err
