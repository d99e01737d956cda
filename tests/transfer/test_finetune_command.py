"""``reslab finetune``: each option does something, and what cannot be is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from reslab.evaluate.predictions import load as load_predictions
from reslab.runs import RunDir, read_json
from reslab.transfer.worth import read
from reslab.weights.load import load

from .pictures import COLOURS, folder, picture, weights

Reslab = Any

QUICK = ("--epochs", 1, "--batch-size", 8, "--precision", "fp32", "--threads", 1, "--workers", 0, "--device", "cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("data") / "photos", 10)


def test_from_a_folder_to_a_classifier(reslab: Reslab, photos: Path, start: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, text, said = reslab("finetune", photos, "--from", start, "--out", out, "--train", "head", *QUICK)
    assert code == 0, said
    assert "30 images of 3 classes" in said
    assert "train 24, validation 0, test 6 (a fifth of each class, held out)" in said
    assert "of 6 test images are classified correctly (95 % interval" in text
    assert f"next: reslab predict {out} IMAGE" in text
    assert load(out).classes == tuple(COLOURS)

    # Of the same folder an evaluation takes those that were held out, of the training images it says that they are.
    tested = {str(Path(name).relative_to(photos)) for name in read(out).test.names}
    saved = tmp_path / "saved.npz"
    code, text, said = reslab("eval", out, "--data", photos, "--threads", 1, "--save", saved)
    assert code == 0, said
    assert "these are the images that were held out" in said
    assert set(load_predictions(saved).names) == tested
    seen = "the network was fine-tuned on most of these images"
    code, _, said = reslab("eval", out, "--data", photos, "--threads", 1, "--split", "all")
    assert (code, seen in said, str(out / "report.html") in said) == (0, True, True)
    other = folder(tmp_path / "other", 3)
    code, _, said = reslab("eval", out, "--data", other, "--threads", 1)
    assert (code, "fine-tuned" in said) == (0, False)


def test_a_place_that_cannot_be_written(reslab: Reslab, photos: Path, start: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file/run"
    code, _, said = reslab("finetune", photos, "--from", start, "--out", out, "--train", "head", *QUICK)
    assert (code, f"--out {out} cannot be written: Not a directory" in said) == (2, True)


@pytest.mark.parametrize("more", [(), ("--folds", 2)])
def test_bad_weights_are_refused_before_the_images_are_decoded(
    reslab: Reslab, photos: Path, tmp_path: Path, more: tuple[object, ...]
) -> None:
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"no weights")
    code, _, said = reslab("finetune", photos, "--from", bad, *more, *QUICK)
    assert code == 2
    assert len(said.splitlines()) == 1  # nothing was said of the images
    assert "bad.pth" in said


def test_as_json(reslab: Reslab, photos: Path, start: Path, tmp_path: Path) -> None:
    words = ("finetune", photos, "--from", start, "--out", tmp_path / "run", "--train", "head", "--json", *QUICK)
    code, text, _ = reslab(*words)
    found = json.loads(text)
    assert code == 0
    assert found["accuracy"] == 100 - found["test_error"]
    low, high = found["accuracy_interval"]
    assert low <= found["accuracy"] <= high


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (("--train", "gradual"), "transfer.trains", "gradual"),
        (("--train", "last", "--stages", 2), "transfer.stages", 2),
        (("--head", "drawn"), "transfer.head", "drawn"),
        (("--freeze-bn",), "transfer.freeze_bn", True),
        (("--stage-decay", 0.3), "transfer.decay", 0.3),
        (("--balanced",), "balanced", True),
        (("--augment", "none"), "data.augment.pad", 0),
        (("--mixup", 0.2), "mixup", 0.2),
        (("--epochs", 3), "iterations", 9),
        (("--lr", 0.02), "optimizer.lr", 0.02),
        (("-b", 9), "global_batch", 9),
        (("--early-stop", 4, "--validation", 0.3), "early_stop", 4),
        (("--validation", 0.5), "data.holdout", 12),
        (("--seed", 5), "seed", 5),
        (("--precision", "fp32"), "precision", "fp32"),
        (("--size", 24), "data.size", [24, 24]),
        (("--model", "cifar_resnet(depth=8, width=4)"), "net.name", "cifar_resnet(depth=8, width=4)"),
    ],
)
def test_an_option_reaches_the_recipe(
    words: tuple[object, ...], field: str, value: object, reslab: Reslab, photos: Path, start: Path
) -> None:
    usual = () if words[0] in ("--train", "--epochs") else ("--epochs", 1)
    train = () if words[0] == "--train" else ("--train", "all")
    batch = () if words[0] == "-b" else ("--batch-size", 8)
    code, text, said = reslab(
        "finetune", photos, "--weights", start, "--look", "--json", *usual, *train, *batch, *words
    )
    assert code == 0, said
    found = json.loads(text)["recipe"]
    for name in field.split("."):
        found = found[name]
    assert found == value


def test_a_look_alone_writes_nothing(reslab: Reslab, photos: Path, start: Path, tmp_path: Path) -> None:
    code, text, said = reslab("finetune", photos, "--from", start, "--out", tmp_path / "run", "--look")
    assert (code, text) == (0, "")
    assert "all layers" in said or "the last layer only" in said
    assert not (tmp_path / "run").exists()


def test_what_is_wrong_with_images_is_said_by_name(reslab: Reslab, start: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path / "two words\nand üñí", 8)
    (photos / "red" / "text.jpg").write_text("no picture")
    (photos / "red" / "notes.txt").write_text("hello")
    picture("blue", 1).save(photos / "red" / "blue one.png")
    picture("green", 3).save(photos / "green" / "twin.png")
    code, _, said = reslab("finetune", photos, "--from", start, "--look")
    assert code == 0, said
    assert "1 image cannot be decoded and will be left out: red/text.jpg" in said
    assert "1 file is not used" in said
    assert "1 picture in more than one class: " in said
    assert "1 picture in more than one file, kept in one part: green/003.png = green/twin.png" in said


def test_one_picture_on_both_sides_of_a_split(reslab: Reslab, start: Path, tmp_path: Path) -> None:
    photos = folder(folder(tmp_path / "photos", 6, split="train"), 3, split="test")
    picture("red", 5002).save(photos / "test" / "red" / "seen.png")
    code, _, said = reslab("finetune", photos, "--from", start, "--look")
    assert code == 0, said
    assert "18 images to train on and 10 to test on" in said
    assert "1 picture in more than one split, kept only in the last of them: train/red/002.png = test/red/" in said
    assert "train 17, validation 0, test 10\n" in said


def test_a_validation_split_is_what_is_chosen_by(reslab: Reslab, start: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for split, each in (("train", 6), ("val", 4), ("test", 3)):
        folder(photos, each, split=split)
    words = ("finetune", photos, "--from", start)
    code, _, said = reslab(*words, "--look")
    assert code == 0, said
    assert "18 images to train on, 12 to validate on and 9 to test on" in said
    out = tmp_path / "run"
    code, _, said = reslab(*words, "--out", out, *QUICK)
    assert code == 0, said
    assert "train 18, validation 12, test 9\n" in said
    last = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["validation_error"] in [100 * wrong / 12 for wrong in range(13)]
    assert read_json(RunDir(out).result)["n_test_images"] == 9
    code, _, said = reslab(*words, "--validation", 0.1, "--look")
    assert code == 2
    assert "has a validation split; leave out --validation" in said


def test_it_goes_on_by_its_folder_alone(
    reslab: Reslab, photos: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    words = ("finetune", photos, "--from", start, "--train", "all", "--lr", 0.02, *QUICK)
    assert reslab(*words, "--out", whole)[0] == 0
    from reslab.train.trainer import Trainer

    step = Trainer.step
    done: list[int] = []

    def stopped(self: Trainer) -> None:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        step(self)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", stopped)
        code, _, said = reslab(*words, "--out", parts)
    assert code == 130
    assert f"continue with: reslab finetune --resume {parts}" in said
    code, _, said = reslab("finetune", "--resume", parts, "--threads", 1, "-j", 0)
    assert code == 0, said
    one, other = load(whole).tensors, load(parts).tensors
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_upright_unless_asked_not_to(reslab: Reslab, photos: Path, start: Path, tmp_path: Path) -> None:
    for word, value in (("--orient", True), ("--no-orient", False)):
        out = tmp_path / word
        words = ("finetune", photos, "--from", start, "--out", out, "--train", "head", word, *QUICK)
        assert reslab(*words)[0] == 0
        found = load(out).preprocessing
        assert found is not None
        assert found.oriented is value


def test_cross_validation(reslab: Reslab, photos: Path, start: Path, tmp_path: Path) -> None:
    words = ("finetune", photos, "--from", start, "--out", tmp_path / "folds", "--train", "head", "--folds", 3, *QUICK)
    code, text, said = reslab(*words, "--json")
    assert code == 0, said
    found = json.loads(text)
    assert len(found["folds"]) == 3
    assert found["n_test_images"] == 30
    assert min(found["folds"]) <= found["accuracy"] <= max(found["folds"])
    code, text, said = reslab(*words)
    assert code == 0, said
    assert "correct on average over 3 folds, standard deviation" in text
    code, _, said = reslab(*words[: -len(QUICK) - 1], 11)
    assert (code, "--folds takes 2 to 10, as many as the rarest class, 'blue', has pictures; got 11" in said) == (
        2,
        True,
    )


def test_the_page_is_opened(
    reslab: Reslab, photos: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", seen.append)
    words = ("finetune", photos, "--from", start, "--out", tmp_path / "run", "--train", "head", "--open", *QUICK)
    assert reslab(*words)[0] == 0
    assert seen == [(tmp_path / "run" / "report.html").resolve().as_uri()]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name the folder of your images: reslab finetune FOLDER"),
        (("nowhere",), "nothing"),
        (("PHOTOS", "--lr", -1), "--lr takes a number above 0, got -1"),
        (("PHOTOS", "--epochs", 0), "--epochs takes a number above 0, got 0"),
        (("PHOTOS", "--validation", 2), "--validation takes a fraction, 0 to 0.9, got 2"),
        (("PHOTOS", "--validation", 0, "--early-stop", 2), "early stopping needs validation images"),
        (("PHOTOS", "--from", "nowhere.pth"), "expected weights at nowhere.pth"),
        (("PHOTOS", "--train", "last", "--stages", 9), "the network has 3 stages, got 9 to train"),
        (("PHOTOS", "--resume", "x"), "leave out FOLDER"),
        (("--resume", "x", "--lr", 0.1), "leave out --lr"),
        (("--resume", "x"), "expected a fine-tuning (finetune.json in it), but there is none"),
        (("PHOTOS", "--labels", "nowhere.txt"), "--labels is for images that are not in class folders"),
    ],
)
def test_what_cannot_be(
    words: tuple[object, ...], says: str, reslab: Reslab, photos: Path, start: Path, tmp_path: Path
) -> None:
    given = [photos if word == "PHOTOS" else word for word in words]
    more = () if "--from" in words or "--resume" in words else ("--from", start)
    out = () if "--resume" in words else ("--out", tmp_path / "run")
    code, text, said = reslab("finetune", *given, *more, *out)
    assert (code, text) == (2, "")
    assert said.count("\n") <= 8
    assert says in said
    assert not (tmp_path / "run").exists()


def test_weights_that_hold_an_average(reslab: Reslab, photos: Path, tmp_path: Path) -> None:
    raw, ema = load(weights(tmp_path / "raw.safetensors")).tensors, load(weights(tmp_path / "e.safetensors")).tensors
    ema = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in ema.items()}
    torch.save({"model": raw, "model_ema": ema}, tmp_path / "both.pth")
    for which, wanted in (("raw", raw), ("ema", ema)):
        out = tmp_path / which
        code, _, said = reslab(
            "finetune", photos, "--from", tmp_path / "both.pth", "--which", which, "--net",
            "cifar_resnet(depth=8, width=4)", "--out", out, "--train", "head", "--size", 16, *QUICK,
        )  # fmt: skip
        assert code == 0, said
        assert torch.equal(load(out).tensors["conv1.weight"], wanted["conv1.weight"])


def test_images_that_lie_flat_beside_a_list(reslab: Reslab, start: Path, tmp_path: Path) -> None:
    photos = folder(tmp_path / "photos", 6, split="train")
    (photos / "val").mkdir()
    lines = []
    for number, name in enumerate(list(COLOURS) * 2):
        picture(name, 500 + number).save(photos / "val" / f"{number}.png")
        lines.append(f"{number}.png {name}")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    words = ("finetune", photos, "--from", start, "--labels", tmp_path / "list.txt", "--look", "--json")
    code, text, said = reslab(*words)
    assert code == 0, said
    assert json.loads(text)["look"]["classes"]["red"] == {"train": 6, "validation": 0, "test": 2}
