"""``reslab export``: written is what was compared on real images and passed; the rest only by force."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reslab.commands import export_data
from reslab.deploy.artefact import read
from reslab.deploy.gate import Limits
from reslab.deploy.maps import head
from reslab.deploy.runtimes import example, open_runtime
from reslab.weights.preprocessing import Preprocessing

from .sample import TINY, Reslab, ours, photos, refused, said

HOW = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop=(32, 32), resize=36)
NAMES = ("ant", "bee", "cat")


@pytest.fixture(autouse=True)
def _libraries() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(name, reason="the extra [deploy] is not installed")


def weights(**given: Any) -> None:
    ours("w.safetensors", preprocessing=HOW, classes=NAMES, num_classes=3, **given)
    photos("p", *NAMES, count=4, size=(40, 30))


def test_photographs_with_labels(reslab: Reslab) -> None:
    weights()
    words = ("export", "w.safetensors", "--data", "p", "--split", "all", "--no-speed")
    code, out, err = reslab(*words, "--to", "onnx", "openvino", "torch", "--out", "made")
    assert code == 0, err
    assert max(map(len, out.splitlines()[:20])) <= 80
    assert "onnxruntime fp32: passed; predicts the same class for 100.0 % of 12 images; accuracy " in out
    about = read("made").about
    assert about.classes == NAMES
    assert about.preprocessing == HOW
    assert set(about.models) == {"onnx", "openvino", "torch"}
    assert set(about.files) == {"model.onnx", "model.xml", "model.bin", "model.pt2"}
    assert about.provenance["weights"] == "w.safetensors"
    fp32 = [row for row in about.gate if row.precision == "fp32"]
    assert len(fp32) == 3
    for row in fp32:
        assert row.passed
        assert row.images == 12
        assert set(row.largest_difference) == {1, 7, 32}
        assert row.accuracy == row.accuracy_before
        assert not row.speed


def test_photographs_without_labels_and_as_json(reslab: Reslab) -> None:
    weights()
    folder = Path("flat")
    folder.mkdir()
    for number, path in enumerate(sorted(Path("p").rglob("*.png"))):
        path.rename(folder / f"{number}.png")
    words = ("export", "w.safetensors", "--data", "flat", "--out", "made", "--images", 5, "--no-speed", "--json")
    found = said(reslab, *words)
    assert found["written"] == ["onnx"]
    [row] = found["gate"]
    assert row["images"] == 5
    assert row["accuracy"] is None


def test_speed_is_compared(reslab: Reslab) -> None:
    weights()
    words = ("export", "w.safetensors", "--data", "p", "--split", "all", "--out", "made", "--force")
    code, out, err = reslab(*words, "--input", "crops", "--speed")
    assert code == 0, err
    assert "images/s" in out
    [row] = read("made").about.gate
    assert [each.batch for each in row.speed] == [1, 7, 32]
    assert all(each.low <= each.ratio <= each.high for each in row.speed)
    assert read("made").about.input == "crops"


def test_what_does_not_pass_is_not_written(reslab: Reslab, monkeypatch: pytest.MonkeyPatch) -> None:
    weights()
    monkeypatch.setattr("reslab.deploy.gate.LIMITS", dict.fromkeys(("fp32", "bf16", "int8"), Limits(-1, 99)))
    words = ("export", "w.safetensors", "--data", "p", "--split", "all", "--no-speed", "--out", "made")
    code, out, err = reslab(*words)
    assert code == 1
    assert "onnxruntime fp32: refused: a probability differs by " in out
    assert "no format passed its checks, so nothing was written" in err
    assert not Path("made").exists()
    code, _, _ = reslab(*words, "--force")
    assert code == 0
    assert not read("made").about.gate[0].passed


def test_int8(reslab: Reslab) -> None:
    pytest.importorskip("nncf", reason="the extra [deploy] is not installed")
    weights()
    photos("more", "x", count=6, size=(50, 37))
    flat = Path("flat")
    flat.mkdir()
    for path in Path("more").rglob("*.png"):
        path.rename(flat / path.name)
    words = ("export", "w.safetensors", "--int8", "--data", "p", "--no-speed", "--force")
    both = (*words, "--to", "onnx", "openvino")
    code, _, err = reslab(*both, "--input", "crops", "--calibration", "flat", "--split", "all", "--out", "made")
    assert code == 0, err
    assert re.search(r"openvino: \d of 8 layers in int8, \d left in fp32", err)
    assert "onnx: calibrating on 6 images" in err
    about = read("made").about
    assert about.precision == "int8"
    assert [row.precision for row in about.gate] == ["int8", "int8"]
    assert min(row.agreement for row in about.gate) > 30  # of random colours, with random weights
    assert Path("made/model.onnx").read_bytes().count(b"QuantizeLinear") > 2
    # Of one format, and training images of the data itself.
    code, _, err = reslab(*words, "--to", "openvino", "--calibration-images", 4, "--out", "other")
    assert code == 0, err
    assert "openvino: calibrating on 4 images" in err


@pytest.mark.parametrize("more", [(), ("--int8", "--calibration", "p")])
def test_what_heat_maps_need(reslab: Reslab, more: tuple[str, ...]) -> None:
    if more:
        pytest.importorskip("nncf", reason="the extra [deploy] is not installed")
    weights()
    words = ("export", "w.safetensors", "--data", "p", "--split", "all", "--no-speed", "--force", "--explain", *more)
    code, _, err = reslab(*words, "--to", "onnx", "openvino", "--out", "made")
    assert code == 0, err
    artefact = read("made")
    assert artefact.about.head == "head.npy"
    weighs = head(artefact)
    assert weighs is not None
    for name in ("onnxruntime", "openvino"):
        runtime = open_runtime(artefact, name)
        images = example(artefact.about, 2)
        logits, maps = runtime.with_maps(images)
        assert np.array_equal(logits, runtime.logits(images))
        # Each logit is the mean of its class's map, and a number of its own.
        apart = logits - np.einsum("kc,nchw->nk", weighs, maps) / (maps.shape[2] * maps.shape[3])
        assert np.ptp(apart, axis=0).max() < (0.2 if more else 1e-4) * np.abs(logits).max()
    Path("made/head.npy").unlink()
    code, _, err = reslab("serve", "made")
    assert (code, "head.npy of an artefact, but it does not exist" in err) == (2, True)


def test_heat_maps_of_what_has_none(reslab: Reslab) -> None:
    weights(net="cifar_fast(widths=(8, 8, 8))")
    why = refused(reslab, "export", "w.safetensors", "--data", "p", "--out", "made", "--explain")
    assert "--explain needs a network of Reslab's own that ends in average pooling and one linear layer" in why


def test_int8_takes_images_of_its_own(reslab: Reslab) -> None:
    weights()
    words = ("export", "w.safetensors", "--out", "made")
    data = ("--data", "p", "--split", "all")
    assert "no images of its own" in refused(reslab, *words, *data, "--int8")
    assert "name them by --calibration" in refused(reslab, *words, "--int8", "--force")
    assert "add --int8" in refused(reslab, *words, *data, "--calibration", "p")
    assert "NNCF writes no torch.export" in refused(reslab, *words, *data, "--int8", "--to", "torch")
    assert "--calibration-images takes 1" in refused(reslab, *words, *data, "--int8", "--calibration-images", 0)


def test_nothing_is_written_unseen_but_by_force(reslab: Reslab) -> None:
    weights()
    assert "name real images by --data, to check the exported model on" in refused(
        reslab, "export", "w.safetensors", "--out", "made"
    )
    assert said(reslab, "export", "w.safetensors", "--out", "made", "--force", "--json")["gate"] == []
    assert read("made").about.gate == ()


def test_a_folder_that_is_in_the_way(reslab: Reslab) -> None:
    weights()
    photos("mine", "x")
    words = ("export", "w.safetensors", "--data", "p", "--split", "all", "--no-speed", "--out")
    assert "exists and is not an artefact" in refused(reslab, *words, "mine", "--force")
    assert reslab(*words, "made")[0] == 0
    assert "holds an artefact already" in refused(reslab, *words, "made")
    assert reslab(*words, "made", "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--data", "p", "--images", 0), "--images takes 1 or more"),
        (("--data", "p", "--mean", 1, 2), "--mean takes 3 numbers"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_mistakes(reslab: Reslab, words: tuple[object, ...], why: str) -> None:
    weights()
    assert why in refused(reslab, "export", "w.safetensors", "--out", "made", *words)


def test_options_of_what_the_weights_do_not_say(reslab: Reslab) -> None:
    """Of weights that hold an average, of no known network, that say nothing of their images."""
    net = ours("w.safetensors", TINY, num_classes=3)
    raw = dict(net.state_dict())
    ema = {name: tensor * (2 if name == "fc.weight" else 1) for name, tensor in raw.items()}
    torch.save({"state_dict": raw, "state_dict_ema": ema}, "both.pth")
    folder = Path("flat")
    folder.mkdir()
    lines = []
    for number, path in enumerate(sorted(photos("p", *NAMES).rglob("*.png"))):
        lines.append(f"{number}.png {path.parent.name}\n")
        path.rename(folder / f"{number}.png")
    Path("list.txt").write_text("".join(lines))
    Path("names.txt").write_text("cat\nant\nbee\n")
    words: tuple[object, ...] = ("export", "both.pth", "--data", "flat", "--labels", "list.txt", "--split", "all")
    words = (*words, "--no-speed", "--threads", 1)
    constants = ("--mean", 0, 0, 0, "--std", 1, 1, 1, "--crop", 24, "--resize", 28, "--interpolation", "bicubic")
    assert "does not say how its images were normalised" in refused(reslab, *words, "--net", TINY, "--out", "made")
    words = (*words, *constants, "--outputs", "names.txt")
    prints = set()
    for option, which in (("--net", "raw"), ("--model", "ema")):
        code, _, err = reslab(*words, option, TINY, "--which", which, "--out", which)
        assert code == 0, err
        about = read(which).about
        assert about.classes == ("cat", "ant", "bee")
        assert (about.preprocessing.crop, about.preprocessing.interpolation) == ((24, 24), "bicubic")
        assert about.gate[0].accuracy is not None
        prints.add(about.provenance["weights_fingerprint"])
    assert len(prints) == 2
    assert "--threads takes 1 or more" in refused(
        reslab, "export", "both.pth", "--data", "flat", "--threads", 0, "--out", "made"
    )


def test_grey_images(reslab: Reslab) -> None:
    ours("w.safetensors", preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop=(32, 32)), in_channels=1)
    code, _, err = reslab("export", "w.safetensors", "--data", "digits", "--images", 9, "--out", "made", "--no-speed")
    assert code == 0, err
    assert read("made").about.gate[0].accuracy is not None


def test_evenly_spaced() -> None:
    assert export_data._spaced(5, 3) == [0, 2, 4]
    assert export_data._spaced(2, 9) == [0, 1]


def test_answers_that_are_wrong_as_stored_are_not_made_right_by_bf16(
    reslab: Reslab, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights()
    limits = {"fp32": Limits(-1, 99), "bf16": Limits(1, 0)}
    monkeypatch.setattr("reslab.deploy.gate.LIMITS", limits)
    words = ("export", "w.safetensors", "--data", "p", "--split", "all", "--no-speed", "--out", "made")
    code, out, _ = reslab(*words, "--to", "torch")
    assert code == 1
    assert "torch bf16: passed" in out
    assert not Path("made").exists()


def test_a_library_that_is_missing_is_missed_at_once(reslab: Reslab, monkeypatch: pytest.MonkeyPatch) -> None:
    weights()
    monkeypatch.setitem(sys.modules, "openvino", None)
    why = refused(reslab, "export", "w.safetensors", "--data", "p", "--to", "openvino", "--out", "made")
    assert "this needs the library openvino" in why
    assert "pip install 'reslab[deploy]'" in why
