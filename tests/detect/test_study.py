"""Backbones of detectors compared: the rule on made-up figures, and the command at a tiny size."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reslab.detect.trainer import Trainer
from reslab.studies.he2015_detection import PAIR, compared, published_map
from reslab.train.trainer import NonFiniteLoss

from . import pictures

Reslab = Callable[..., tuple[int, str, str]]
TINY = ("--nets", "cifar_plain(depth=8)", "cifar_resnet(depth=8)", "--short", 40, "--long", 60, "--anchors", 8, 16,
        "--regions", 16, "--batch-size", 2, "--precision", "fp32", "--threads", 1, "--iterations", 1)  # fmt: skip


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_the_papers_figures() -> None:
    assert [published_map(net) for net in PAIR] == [73.2, 76.4]
    assert published_map("resnet18") is None


@pytest.mark.parametrize(
    ("better", "verdict"),
    [
        ((75.0, 76.1, 75.6), "held"),
        ((70.1, 69.8, 70.4), "not held"),
        ((70.4, 69.1, 71.0), "not decided"),
        ((76.0, 66.0, 75.0), "not decided"),
        ((76.0, 76.0), "not decided"),
    ],
)
def test_the_rule(better: tuple[float, ...], verdict: str) -> None:
    """The first has 70.2, 70.0 and 70.3; half of what is published is 1.6 points."""
    [one] = compared({"vgg16": seeds(70.2, 70.0, 70.3), "resnet101": seeds(*better)}, PAIR)
    assert one.verdict == verdict
    assert one.in_paper == pytest.approx(3.2)
    assert one.gain.n == len(better)
    assert ("no interval before 3 seeds" in one.words()) == (len(better) < 3)


def test_without_published_figures_a_worse_network_has_to_be_worse() -> None:
    equal, worse = seeds(70.1, 70.2, 69.9), seeds(65.0, 65.3, 65.1)
    found = {"vgg16-bn": seeds(70.0, 70.2, 70.1), "resnet18": equal, "resnet34": worse}
    one, other = compared(found, ("vgg16-bn", "resnet18", "resnet34"))
    assert (one.verdict, one.in_paper) == ("not decided", None)
    assert (other.verdict, other.first) == ("not held", "vgg16-bn")


def test_pairs_alone_count() -> None:
    [one] = compared({"a": {0: 50.0, 1: 60.0}, "b": {1: 63.0, 2: 99.0}}, ("a", "b"))
    assert (one.gain.n, one.gain.mean) == (1, 3.0)
    assert compared({"a": {0: 50.0}, "b": {}}, ("a", "b")) == ()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pictures.voc(tmp_path / "cells", {"train": pictures.squares(4), "test": pictures.squares(2, 6)})


def test_at_a_tiny_size(folder: Path, tmp_path: Path, reslab: Reslab, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, int]] = []
    step = Trainer.step

    def counted(self: Trainer) -> float:
        steps.append((self.recipe.detector.net.name, self.recipe.seed))
        return step(self)

    monkeypatch.setattr(Trainer, "step", counted)
    out = tmp_path / "study"
    code, text, said = reslab("detect", "study", folder, *TINY, "--seeds", 2, "--out", out, "--json")
    assert code == 0, said
    assert [seed for _, seed in steps] == [0, 0, 1, 1]
    assert len({net for net, _ in steps}) == 2
    first = json.loads(text)
    assert first == json.loads((out / "study.json").read_text())
    assert [sorted(row["seeds"]) for row in first["rows"]] == [["0", "1"]] * 2
    assert (first["verdicts"][0]["n"], first["verdicts"][0]["verdict"]) == (2, "not decided")
    assert (first["split"], first["pictures"]) == ("test", 2)
    for run in (out / "runs").iterdir():
        kept = json.loads((run / "result.json").read_text())["voc07"]["map"]
        row = first["rows"]["resnet" in run.name]
        assert row["seeds"][run.name[-1]] == pytest.approx(100 * kept)
    steps.clear()
    code, text, _ = reslab("detect", "study", folder, *TINY, "--seeds", 3, "--out", out)
    assert code == 0
    assert [seed for _, seed in steps] == [2, 2]  # the others are finished
    assert "n = 3 paired seeds" in text
    assert "paper, VOC 07" in text
    assert f"study: {out}/study.json" in text


def test_a_training_that_fails_is_a_result(
    folder: Path, tmp_path: Path, reslab: Reslab, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step
    tried: list[str] = []

    def failing(self: Trainer) -> float:
        tried.append(self.recipe.detector.net.name)
        if "plain" in self.recipe.detector.net.name:
            raise NonFiniteLoss("expected a finite loss at iteration 1, got none")
        return step(self)

    monkeypatch.setattr(Trainer, "step", failing)
    words = ("detect", "study", folder, *TINY, "--seeds", 1, "--out", tmp_path / "study", "--json")
    code, text, said = reslab(*words)
    assert code == 0, said
    found = json.loads(text)
    assert found["rows"][0]["seeds"] == {"0": 0.0}
    assert len(found["failed"]) == 1
    assert "expected a finite loss at iteration 1" in found["failed"][0]
    tried.clear()
    assert json.loads(reslab(*words)[1])["failed"] == found["failed"]
    assert tried == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nets", "resnet18"), "--nets takes two networks or more, each once, got resnet18"),
        (("--nets", "resnet18", "resnet18"), "--nets takes two networks or more"),
        (("--from", "torchvision:vgg16"), "--from takes weights for each of the 2 networks, got 1"),
        (("--seeds", 0), "--seeds takes 1 or more, got 0"),
        (("--iterations", 0), "--iterations takes a number above 0"),
        (("--nets", "resnet18", "no-such-net"), "no-such-net"),
        (("--kind", "fpn", "--pooling", "align"), "kind 'fpn' takes a network of Reslab's own"),
    ],
)
def test_what_is_refused(folder: Path, reslab: Reslab, words: tuple[Any, ...], said: str) -> None:
    code, _, text = reslab("detect", "study", folder, *words)
    assert (code, said in text) == (2, True), text


def test_test_pictures_without_boxes(tmp_path: Path, reslab: Reslab) -> None:
    bare = pictures.voc(tmp_path / "bare", {"train": pictures.squares(2), "test": {"900": []}})
    code, _, text = reslab("detect", "study", bare, *TINY, "--out", tmp_path / "out")
    assert (code, "expected boxes in the test images" in text) == (2, True), text
    assert not (tmp_path / "out").exists()


def test_each_option_reaches_the_recipe(
    folder: Path, tmp_path: Path, reslab: Reslab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without --out the study lies in the folder where the command was given
    seen: list[Any] = []

    def trained(recipe: Any, *_: Any, **more: Any) -> dict[str, Any]:
        seen.append((recipe, more))
        return {"voc07": {"map": 0.5}}

    monkeypatch.setattr("reslab.commands.detect_study.trained", trained)
    words = ("--nets", "resnet18", "resnet34", "--kind", "fpn", "--pooling", "align", "--short", 48, "--long", 99,
             "--regions", 7, "--iterations", 5, "-b", 3, "--lr", 0.5, "--precision", "bf16", "--seeds", 1,
             "--anchors", 8, 16, 24, 32, 64, "--weights", "torchvision:a", "torchvision:b", "--trainval",
             "--device", "cpu")  # fmt: skip
    code, _, said = reslab("detect", "study", folder, *words)
    assert code == 0, said
    recipe, more = seen[0]
    assert [each[1]["weights"] for each in seen] == ["torchvision:a", "torchvision:b"]
    assert recipe.learns == "trainval"
    made = recipe.detector
    assert (made.kind, made.pooling, made.short, made.long, made.regions) == ("fpn", "align", 48, 99, 7)
    assert (made.norm, made.anchors) == ("frozen", (8, 16, 24, 32, 64))
    assert (recipe.iterations, recipe.batch, recipe.optimizer.lr, recipe.precision) == (5, 3, 0.5, "bf16")
    assert more["execution"].device.type == "cpu"
