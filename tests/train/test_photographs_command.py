"""``reslab train`` on photographs: recipes, options, what it says of damaged ones, and the dry run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reslab.recipes import RECIPES
from reslab.runs import read_json
from reslab.weights.files import read_safetensors

from .photographs import in_folders, photograph

Reslab = Callable[..., tuple[int, str, str]]
TINY = ("--net", "cifar_resnet(depth=8, width=4)", "--size", 16, "-b", 12, "--workers", 0, "--threads", 1)
SHORT = ("--iterations", 6, "--precision", "fp32")
NAMES = [name for name, entry in RECIPES.items() if entry.photographs]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return in_folders(tmp_path / "data")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESLAB_CACHE", str(tmp_path / "cache"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_safetensors(run / "checkpoints" / "final.safetensors")[0]


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_trains(name: str, folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    code, out, err = reslab("train", name, *TINY, *SHORT, "--data", folder, "--out", tmp_path / "run", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["n_test_images"], result["damaged_images"]) == (15, 0)
    recipe: Any = read_json(tmp_path / "run" / "recipe.json")
    assert (recipe["data"]["size"], recipe["data"]["normalization"]) == ([16, 16], "imagenet")


def test_how_it_was_carried_out_is_kept_for_going_on(folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    (folder / "val.txt").write_text("".join(f"{i}.png {['ant', 'bee', 'cow'][i % 3]}\n" for i in range(100, 115)))
    for path in list((folder / "val").rglob("*.png")):
        path.rename(folder / "val" / path.name)
    for name in ("ant", "bee", "cow"):
        (folder / "val" / name).rmdir()
    labels = (folder / "val.txt").rename(tmp_path / "else.txt")
    words = ("train", "modern_imagenet", *TINY, *SHORT, "--data", folder, "--out", tmp_path / "run")
    assert reslab(*words)[0] == 2  # nothing says the classes of the validation images
    code, _, err = reslab(*words, "--labels", labels, "--damaged", 0.5)
    assert code == 0, err
    env: Any = read_json(tmp_path / "run" / "env.json")
    assert (env["workers"], env["damaged_share"]) == (0, 0.5)
    before = weights(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    code, _, err = reslab("train", "--resume", tmp_path / "run", "-j", 1)
    assert code == 0, err
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path / "run").items())


def test_damaged_photographs_are_named_and_limited(folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    for i in (3, 6):
        (folder / "train" / "ant" / f"{i:03d}.png").write_bytes(photograph(i)[:50])
    words = ("train", "modern_imagenet", *TINY, *SHORT, "--data", folder)
    code, _, err = reslab(*words, "--out", tmp_path / "few")
    assert (code, "2 images cannot be decoded; at most 1 may be damaged" in err) == (2, True)
    code, _, err = reslab(*words, "--out", tmp_path / "more", "--damaged", 0.1)
    assert code == 0, err
    assert "2 images could not be decoded and were left out" in err
    assert "003.png" in err


def test_a_dry_run_says_what_would_happen(folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "modern_imagenet", *TINY, "--data", folder, "--precision", "fp32", "--out", out, "--dry-run")
    code, text, err = reslab(*words, "--epochs", 4)
    assert code == 0, err
    for word in ("12 of 12 images (4.0 epochs)", "images/s", "36 training and 15 test images", "a step, "):
        assert word in text
    assert "36 of 36 training images checked, 0 damaged; 15 of 15 test images checked" in " ".join(text.split())
    plan = json.loads(reslab(*words, "--iterations", 40, "--json")[1])
    assert (plan["steps"], plan["batch"], plan["evaluations"]) == (40, 12, 8)
    assert plan["recipe"]["iterations"] == 40
    least = plan["steps"] * plan["seconds_per_step"]
    assert 0 < least <= plan["seconds"]
    assert plan["peak_memory"] > 0
    assert plan["disk_free"] > plan["disk"] > 0
    assert not out.exists()
    out.mkdir()
    (out / "precious").write_text("")
    code, _, err = reslab(*words)
    assert (code, "is not a run" in err) == (2, True)


def test_a_dry_run_of_small_images_that_goes_on(reslab: Reslab, tmp_path: Path) -> None:
    words: tuple[object, ...] = ("train", "he2015_cifar", "--net", "cifar_resnet(depth=8, width=4)", "--data", "digits")
    words = (*words, "--threads", 1, "--iterations", 8, "-b", 32, "--out", tmp_path / "run", "--checkpoint-every", 2)
    assert reslab(*words)[0] == 0
    (tmp_path / "run" / "result.json").unlink()
    for late in ("0000008", "0000006"):
        for path in (tmp_path / "run" / "checkpoints").glob(f"*{late}.safetensors"):
            path.unlink()
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    steps = json.loads(reslab(*words, "--dry-run", "--json")[1])["steps"]
    names = [path.stem for path in (tmp_path / "run" / "checkpoints").glob("iteration-*")]
    assert steps == 8 - max((int(name.rpartition("-")[2]) for name in names), default=0)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == kept


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("modern_imagenet", "--data", "digits"), "the recipe is for photographs on disk, 'digits' is of small images"),
        (("he2015_cifar", "--data", "digits", "--labels", "x.txt"), "--labels is for photographs on disk"),
        (("modern_imagenet", "--data", "DATA", "--workers", -1), "--workers takes 0"),
        (
            ("modern_imagenet", "--data", "DATA", "--damaged", 2),
            "--damaged takes a fraction of the images, 0 to 1, got 2",
        ),
        (("modern_imagenet", "--data", "DATA", "--size", 0), "--size takes 1 or more pixels, got 0"),
        (("modern_imagenet",), "name the data: --data the path of a folder"),
        (("fast_cifar", "--data", "digits", "--size", 16), "has images of one fixed size"),
    ],
)
def test_what_does_not_go_together(words: tuple[object, ...], says: str, folder: Path, reslab: Reslab) -> None:
    code, _, err = reslab("train", *(folder if word == "DATA" else word for word in words))
    assert (code, says in err) == (2, True), err


def test_small_images_are_brought_to_a_size(folder: Path, reslab: Reslab, tmp_path: Path) -> None:
    words: tuple[object, ...] = ("train", "he2015_cifar", "--net", "cifar_resnet(depth=8, width=4)", "--iterations", 4)
    words = (*words, "-b", 12, "--data", folder, "--threads", 1, "--out", tmp_path / "run", "--size", 12)
    code, _, err = reslab(*words)
    assert code == 0, err
    recipe: Any = read_json(tmp_path / "run" / "recipe.json")
    assert recipe["data"]["size"] == [12, 12]
    (tmp_path / "run" / "result.json").unlink()
    code, _, err = reslab("train", "--resume", tmp_path / "run")
    assert code == 0, err


def test_a_run_that_was_begun_on_val_goes_on_with_it(reslab: Reslab, tmp_path: Path) -> None:
    """Where there was a test/ beside it, earlier versions tested on val/."""
    folder = in_folders(tmp_path / "photos")
    words = ("train", "modern_imagenet", *TINY, *SHORT)
    code, _, err = reslab(*words, "--data", folder, "--out", tmp_path / "run")
    assert code == 0, err
    before = weights(tmp_path / "run")
    shutil.copytree(folder / "val", folder / "test")
    (tmp_path / "run" / "result.json").unlink()
    code, _, err = reslab("train", "--resume", tmp_path / "run", "-j", 1)
    assert code == 0, err
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path / "run").items())
    (folder / "train" / "ant" / "000.png").unlink()
    code, _, err = reslab("train", "--resume", tmp_path / "run", "-j", 1)
    assert (code, "was started on other images" in err) == (2, True)
