"""The commands that read and write weights, as a terminal would call them."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torchvision import models

from reslab.nets import build
from reslab.nets.spec import NetSpec
from reslab.runs import read_json
from reslab.weights.files import read
from reslab.weights.load import load
from reslab.weights.preprocessing import Preprocessing

from .sample import TINY, TRAIN, Reslab, ours, photos, refused, said

MEAN = ("--mean", 0.5, 0.4, 0.3, "--std", 0.2, 0.3, 0.4)


@pytest.mark.parametrize("words", ["eval", "weights", "weights inspect", "weights convert", "weights fetch"])
def test_help(words: str, reslab: Reslab) -> None:
    code, out, err = reslab(*words.split(), "--help")
    assert (code, err) == (0, "")
    assert f"Usage: reslab {words} " in out
    assert all(len(line) <= 80 for line in out.splitlines())


# --- weights inspect ---


def test_inspect(reslab: Reslab) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in models.resnet18().state_dict().items()}}, "w.pth")
    code, out, err = reslab("weights", "inspect", "w.pth")
    assert (code, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    for words in (
        "network     resnet18, 1000 classes",
        "parameters  11,689,512, and statistics, in 122 tensors",
        "names       torchvision",
        "note        taken from its 'state_dict'",
        "note        prefix 'module.' removed from its names",
        "note        assumed: the original order of activations",
        "input       not stored; eval needs --mean and --std",
        "loads in    torchvision, as resnet18",
        "loads in    timm, as resnet18",
    ):
        assert words in out, words
    found = json.loads(reslab("weights", "inspect", "w.pth", "--json")[1])
    assert (found["net"], found["params"], found["num_classes"]) == ("resnet18", 11_689_512, 1000)
    assert found["loads_in"] == {"torchvision": "resnet18", "timm": "resnet18"}
    assert NetSpec.model_validate(found["spec"]).name == "resnet18"


def test_inspect_of_a_run_and_of_look_alikes(reslab: Reslab) -> None:
    assert reslab(*TRAIN, "--net", TINY, "--out", "run")[0] == 0
    code, out, _ = reslab("weights", "inspect", "run")
    assert code == 0
    for words in (f"network     {TINY}, 10 classes", "names       Reslab", "input       8x8, mean a whole image, std 1",
                  "classes     0, 1, 2, 3, ...", "recipe      he2015_cifar"):  # fmt: skip
        assert words in out, words
    torch.save(build("resnet20").state_dict(), "w.th")
    assert "fits also   plain20" in reslab("weights", "inspect", "w.th")[1]
    plain = reslab("weights", "inspect", "w.th", "--net", "plain20")[1]
    assert "network     plain20, 10 classes" in plain
    assert "assumed" not in plain
    assert json.loads(reslab("weights", "inspect", "w.th", "--model", "plain20", "--json")[1])["notes"] == []
    torch.save({"[/]": torch.zeros(1)}, "odd.th")
    assert "[/]" in refused(reslab, "weights", "inspect", "odd.th")


# --- weights convert ---


def test_convert_keeps_all_that_is_known(reslab: Reslab) -> None:
    preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, crop=(32, 32))
    net = ours("a.safetensors", preprocessing=preprocessing)
    code, out, err = reslab("weights", "convert", "a.safetensors", "deep/er/b.safetensors")
    assert (code, err) == (0, "")
    assert out == f"deep/er/b.safetensors: {TINY}, 44 tensors under the names of reslab\n"
    assert Path("deep/er/b.safetensors").read_bytes() == Path("a.safetensors").read_bytes()
    code, _, err = reslab("weights", "convert", "a.safetensors", "c.pth")
    assert code == 0
    assert "a .pth file cannot hold the network's description" in err
    state = torch.load("c.pth", weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert Path("c.pth").stat().st_mode & 0o777 == Path("a.safetensors").stat().st_mode & 0o777


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".th", ".tar"])
def test_convert_between_formats(suffix: str, reslab: Reslab) -> None:
    state = build("resnet20").state_dict()
    torch.save({"linear" + k[2:] if k.startswith("fc") else k: v for k, v in state.items()}, "theirs.th")
    out = Path(f"out{suffix}")
    assert reslab("weights", "convert", "theirs.th", out)[0] == 0
    tensors = read(out).tensors
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)
    if suffix == ".safetensors":
        assert load(out).certain


def test_what_was_written_as_json(reslab: Reslab) -> None:
    ours("w.safetensors", "resnet20")
    found = said(reslab, "weights", "convert", "w.safetensors", "out.pth", "--json")
    tensors = len(build("resnet20").state_dict())
    assert found == {"out": "out.pth", "net": "resnet20", "tensors": tensors, "names": "reslab", "notes": []}


@pytest.mark.parametrize(
    ("to", "net", "make"),
    [
        ("torchvision", "resnet18", lambda: models.resnet18(num_classes=5)),
        ("timm", "resnet18", lambda: timm.create_model("resnet18", num_classes=5)),
        ("timm", "preresnet50", lambda: timm.create_model("resnetv2_50", num_classes=5)),
    ],
)
def test_convert_to_other_libraries(to: str, net: str, make: Callable[[], nn.Module], reslab: Reslab) -> None:
    ours("w.safetensors", net, num_classes=5)
    code, out, err = reslab("weights", "convert", "w.safetensors", "theirs.pth", "--to", to)
    assert code == 0, err
    name = {"preresnet50": "resnetv2_50"}.get(net, net)
    assert out.startswith(f"theirs.pth: {name}, ")
    assert f"under the names of {to}" in out
    make().load_state_dict(torch.load("theirs.pth", weights_only=True), strict=True)


def test_convert_with_a_new_head(reslab: Reslab) -> None:
    net = ours("w.safetensors", "resnet18")
    code, _, err = reslab("weights", "convert", "w.safetensors", "few.pth", "--to", "torchvision", "--num-classes", 3)
    assert code == 0
    assert "a new head: 3 classes instead of 1000 (fc.weight, fc.bias drawn)" in err
    few = models.resnet18(num_classes=3)
    few.load_state_dict(torch.load("few.pth", weights_only=True), strict=True)
    assert torch.equal(few.conv1.weight, net.state_dict()["conv1.weight"])
    assert few.fc.weight.std() > 0
    assert reslab("weights", "convert", "w.safetensors", "few.safetensors", "--num-classes", 3)[0] == 0
    assert load("few.safetensors").spec.num_classes == 3
    assert "--num-classes takes 1 or more" in refused(
        reslab, "weights", "convert", "w.safetensors", "no.pth", "--num-classes", 0
    )


def test_convert_into_another_network_warns(reslab: Reslab, caplog: pytest.LogCaptureFixture) -> None:
    ours("w.safetensors", "cifar_bottleneck(depth=11, width=4)")
    torch.save(build("resnet50").state_dict(), "r50.pth")
    assert reslab("weights", "convert", "r50.pth", "v1.safetensors", "--net", "resnet50-v1")[0] == 0
    assert not caplog.records, "nobody knows which it was"
    words = ("weights", "convert", "v1.safetensors")
    assert refused(reslab, *words, "tv.pth", "--to", "torchvision").startswith(
        "torchvision has no network that computes what 'resnet50-v1' does"
    )
    assert reslab(*words, "v15.safetensors", "--model", "resnet50")[0] == 0
    assert "v1.safetensors holds weights of 'resnet50-v1'; 'resnet50' has the same names and shapes" in caplog.text


def test_convert_overwrites_only_by_force(reslab: Reslab) -> None:
    ours("a.safetensors")
    Path("b.pth").write_text("mine")
    words = ("weights", "convert", "a.safetensors")
    assert refused(reslab, *words, "b.pth").startswith("b.pth exists; name another file, or overwrite it with --force")
    assert Path("b.pth").read_text() == "mine"
    assert reslab(*words, "b.pth", "--force")[0] == 0
    assert read(Path("b.pth")).tensors
    assert "expected a name that ends in .safetensors, " in refused(reslab, *words, "b.onnx")
    assert "there is no such file" in refused(reslab, "weights", "convert", "none.pth", "c.pth")
    Path("folder.pth").mkdir()
    assert "folder.pth is a folder; name a file in it" in refused(reslab, *words, "folder.pth", "--force")
    assert "cannot be written" in refused(reslab, *words, "b.pth/below/c.pth")
    # A file may be converted onto itself.
    assert reslab(*words, "a.safetensors", "--num-classes", 4, "--force")[0] == 0
    assert load("a.safetensors").spec.num_classes == 4


# --- weights fetch ---


def test_fetch(reslab: Reslab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    net = models.resnet18()
    torch.save(net.state_dict(), folder / "resnet18-f37072fd.pth")
    name = "torchvision:resnet18/IMAGENET1K_V1"
    code, out, _ = reslab("weights", "fetch", name)
    assert (code, out) == (0, f"{name}: resnet18, 122 tensors, in the cache\n")
    code, out, _ = reslab("weights", "fetch", name, "--json")
    assert json.loads(out) == {"weights": name, "net": "resnet18", "tensors": 122}
    assert reslab("weights", "fetch", name, "--out", "kept.safetensors")[0] == 0
    kept = load("kept.safetensors")
    assert kept.certain
    assert kept.preprocessing is not None
    assert kept.preprocessing.resize == 256
    assert kept.classes is not None
    assert kept.classes[0] == "tench"
    assert all(torch.equal(kept.tensors[key], value) for key, value in net.state_dict().items())
    assert "kept.safetensors exists" in refused(reslab, "weights", "fetch", name, "--out", "kept.safetensors")
    assert reslab("weights", "fetch", name, "--out", "kept.safetensors", "--force")[0] == 0
    photos("photos", "n01440764", "n02123045", size=(64, 64))
    code, out, err = reslab("eval", "kept.safetensors", "--data", "photos", "--split", "all", "--json")
    assert code == 0, err
    assert json.loads(out)["preprocessing"]["crop"] == [224, 224]
    assert "expected a name on a hub" in refused(reslab, "weights", "fetch", "kept.safetensors")


def test_fetch_without_a_network(reslab: Reslab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for variable in ("http_proxy", "https_proxy"):  # nothing listens on the discard port
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # which remembers the proxies of its first use
    for words in (("weights", "fetch", "torchvision:resnet18"), ("eval", "torchvision:resnet18", "--data", "digits")):
        said = refused(reslab, *words)
        assert "'torchvision:resnet18' could not be downloaded (URLError: " in said
        assert str(tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in said


# --- train --weights ---


def test_training_from_other_peoples_weights(reslab: Reslab) -> None:
    """Training from the weights that would have been drawn is the same training."""
    words = ("train", "he2015_cifar", "--data", "synthetic", "--iterations", 3, "-b", 16, "--threads", 1)
    state = build("resnet20", seed=2).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, "w.th")
    code, _, err = reslab(*words, "--weights", "w.th", "--seed", 2, "--out", "run")
    assert code == 0, err
    assert "weights: prefix 'module.' removed from its names" in err
    assert "weights: assumed: option A shortcuts" in err
    assert read_json(Path("run/recipe.json"))["net"]["name"] == "resnet20"
    assert reslab(*words, "--net", "resnet20", "--seed", 2, "--out", "drawn")[0] == 0
    assert Path("run/metrics.jsonl").read_bytes() == Path("drawn/metrics.jsonl").read_bytes()
    torch.save({name: tensor * 0.9 for name, tensor in state.items()}, "w.th")
    assert reslab(*words, "--weights", "w.th", "--seed", 2, "--out", "less")[0] == 0
    assert Path("run/metrics.jsonl").read_bytes() != Path("less/metrics.jsonl").read_bytes()


def test_training_with_a_new_head(reslab: Reslab) -> None:
    torch.save(build("resnet20", num_classes=7, in_channels=1).state_dict(), "w.th")
    said = refused(reslab, *TRAIN, "--weights", "w.th")
    assert said == "w.th has 7 classes, the data has 10: --num-classes 10 replaces the head"
    code, _, err = reslab(*TRAIN, "--weights", "w.th", "--num-classes", 10, "--out", "run")
    assert code == 0, err
    assert "weights: a new head: 10 classes instead of 7 (fc.weight, fc.bias drawn)" in err
    assert read_json(Path("run/env.json"))["new_head"] is True
    assert load("run").spec.num_classes == 10
    assert refused(reslab, "train", "--resume", "run", "--num-classes", 10).endswith("leave out --num-classes")
    # Killed before its first checkpoint, a run goes on from the same weights.
    first = Path("run/metrics.jsonl").read_bytes()
    for path in Path("run/checkpoints").iterdir():
        path.unlink()
    for name in ("result.json", "metrics.jsonl", "speed.jsonl"):
        Path("run", name).unlink()
    code, _, err = reslab("train", "--resume", "run")
    assert code == 0, err
    assert Path("run/metrics.jsonl").read_bytes() == first


def test_a_head_that_is_larger_than_the_data_can_be_kept(reslab: Reslab) -> None:
    torch.save(build("resnet20", num_classes=12, in_channels=1).state_dict(), "w.th")
    said = refused(reslab, *TRAIN, "--weights", "w.th")
    assert said.endswith("--num-classes 10 replaces the head, --num-classes 12 keeps it")
    code, _, err = reslab(*TRAIN, "--weights", "w.th", "--num-classes", 12, "--out", "run")
    assert code == 0, err
    assert "a new head" not in err
    assert load("run").spec.num_classes == 12
    photos("photos", "a", "b", size=(8, 8))
    torch.save(build("resnet20").state_dict(), "ten.th")
    words = ("train", "he2015_cifar", "--data", "photos", "--iterations", 2, "-b", 2, "--weights", "ten.th")
    assert reslab(*words, "--num-classes", 10, "--out", "ten")[0] == 0
    assert load("ten").spec.num_classes == 10, "asked for, although it is the default"


def test_training_into_another_network_warns_once(reslab: Reslab, caplog: pytest.LogCaptureFixture) -> None:
    assert reslab(*TRAIN, "--net", TINY, "--out", "run")[0] == 0
    words = (*TRAIN, "--net", "cifar_plain(depth=8, width=4)", "--weights", "run", "--out", "plain")
    assert reslab(*words)[0] == 0
    assert caplog.text.count("computes something else") == 1
    caplog.clear()
    assert reslab(*TRAIN, "--weights", "run", "--out", "same", "--lr", 0.01)[0] == 0
    assert not caplog.records


def test_weights_of_images_of_other_channels(reslab: Reslab) -> None:
    torch.save(build("resnet20").state_dict(), "w.th")
    said = refused(reslab, *TRAIN, "--weights", "w.th")
    assert "w.th does not fit 'resnet20': 1 of another shape (conv1.weight 16x3x3x3 instead of 16x1x3x3)" in said


def test_the_weights_that_come_along_are_listed(reslab: Reslab) -> None:
    code, out, _ = reslab("weights", "list", "--json")
    assert code == 0
    listed = json.loads(out)
    code, table, _ = reslab("weights", "list")
    assert code == 0
    for name, about in listed.items():
        assert f"reslab:{name}" in table
        assert f"{about['test_error']:.2f}" in table
