"""The commands that read and write weights, as a terminal would call them."""

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision import models

from reslab.nets import build
from reslab.nets.network import Network
from reslab.nets.spec import NetSpec
from reslab.nets.weights.files import read, to_bytes
from reslab.nets.weights.load import header_of, load
from reslab.nets.weights.preprocessing import Preprocessing
from reslab.runs import read_json

Reslab = Callable[..., tuple[int, str, str]]

TINY = "cifar_resnet(depth=8, width=4)"
TRAIN = ("train", "he2015_cifar", "--data", "digits", "--iterations", 4, "-b", 32, "--threads", 1)
MEAN = ("--mean", 0.5, 0.4, 0.3, "--std", 0.2, 0.3, 0.4)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and caches lie below the current folder; 80 columns."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("RESLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    torch.set_num_threads(1)


def ours(path: Path, net: str = TINY, *, preprocessing: Preprocessing | None = None, **overrides: Any) -> Network:
    """A file of ours with random weights."""
    made = build(net, seed=3, **overrides)
    path.write_bytes(to_bytes(made.state_dict(), header_of(made.spec, preprocessing, None)))
    return made


def photos(folder: Path, *classes: str, count: int = 2, size: tuple[int, int] = (40, 30)) -> Path:
    """A folder of images of random colours, ``size`` being width and height."""
    draw = torch.Generator().manual_seed(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = torch.randint(0, 256, (size[1] + i, size[0], 3), dtype=torch.uint8, generator=draw)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{i}.png")
    return folder


def refused(reslab: Reslab, *words: object) -> str:
    """Runs a command that is to be refused; returns the one line that says why."""
    before = sorted(Path().rglob("*"))
    code, out, err = reslab(*words)
    assert (code, out) == (2, ""), err
    assert sorted(Path().rglob("*")) == before, "something was written"
    lines = err.splitlines()
    assert "Traceback" not in err
    assert lines[-1].startswith("reslab: error: ")
    return lines[-1].removeprefix("reslab: error: ")


@pytest.mark.parametrize("words", ["eval", "weights", "weights inspect", "weights convert", "weights fetch"])
def test_help(words: str, reslab: Reslab) -> None:
    code, out, err = reslab(*words.split(), "--help")
    assert (code, err) == (0, "")
    assert f"Usage: reslab {words} " in out
    assert all(len(line) <= 80 for line in out.splitlines())


# --- eval ---


def test_eval_of_a_run_is_what_the_run_said(reslab: Reslab) -> None:
    assert reslab(*TRAIN, "--net", TINY, "--precision", "fp32", "--out", "run")[0] == 0
    said = read_json(Path("run/result.json"))
    code, out, err = reslab("eval", "run", "--data", "digits", "--json", "--threads", 1)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert {"top1_error", "top5_error", "n_images"} <= found.keys()
    assert (found["top1_error"], found["n_images"]) == (said["test_error"], 360)
    assert found["loss"] == pytest.approx(said["test_loss"], rel=1e-6)
    assert 0 <= found["top5_error"] <= found["top1_error"]
    assert (found["net"], found["split"], found["notes"]) == (TINY, "test", [])
    assert found["outputs"] == "by the names that the weights carry"
    assert "mean" not in found["preprocessing"], "a whole image is no result"
    assert found["preprocessing"]["crop"] == [8, 8]


def test_eval_for_people(reslab: Reslab) -> None:
    ours(Path("w[bold].safetensors"), preprocessing=Preprocessing(mean=(0.5,), std=(0.25,), crop=(8, 8)), in_channels=1)
    code, out, err = reslab("eval", "w[bold].safetensors", "--data", "digits")
    assert code == 0
    assert re.search(r"top-1 error +top-5 error +images +images/s", out)
    assert re.search(r"\d+\.\d\d % +\d+\.\d\d % +360 ", out)
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "weights  w[bold].safetensors (Reslab names)" in err
    assert f"network  {TINY}, 10 classes" in err
    assert "images  360 of digits, split 'test': scikit-learn" in err
    assert "outputs  in the order of the data's classes (the weights carry no names)" in err
    assert "input  8x8, mean 0.5, std 0.25" in err


@pytest.mark.parametrize(("split", "count"), [("test", 360), ("train", 1437), ("all", 1797)])
def test_eval_of_other_splits(split: str, count: int, reslab: Reslab) -> None:
    net = ours(Path("w.safetensors"), preprocessing=Preprocessing(mean=(0.3,), std=(0.4,), crop=(8, 8)), in_channels=1)
    found = json.loads(reslab("eval", "w.safetensors", "--data", "digits", "--split", split, "--json")[1])
    assert (found["n_images"], found["split"]) == (count, split)
    from reslab.data.sources import load as load_data

    data = load_data("digits", whole=split == "all")
    images = data.train if split == "train" else data.test
    with torch.no_grad():
        logits = net.eval()((images.images / 255 - 0.3) / 0.4)
    wrong = (logits.argmax(1) != images.labels).float().mean()
    assert found["top1_error"] == pytest.approx(100 * float(wrong), abs=0.2)
    missed = (logits.topk(5).indices != images.labels[:, None]).all(1).float().mean()
    assert found["top5_error"] == pytest.approx(100 * float(missed), abs=0.2)


def test_eval_sees_mirrored_and_shifted_images_too(reslab: Reslab) -> None:
    assert reslab(*TRAIN, "--net", TINY, "--out", "run")[0] == 0
    found = {}
    for seen in ("none", "flip", "flip-shift"):
        code, out, err = reslab("eval", "run", "--data", "digits", "--json", "--test-time", seen)
        assert code == 0, err
        found[seen] = json.loads(out)
    assert [each["protocol"] for each in found.values()] == ["one-crop", "flips", "flips and shifts"]
    assert len({each["loss"] for each in found.values()}) == 3
    assert reslab("eval", "run", "--data", "digits", "--test-time", "ten")[0] == 2


def test_eval_of_weights_that_carry_no_normalisation(reslab: Reslab) -> None:
    photos(Path("photos"), "a", "b", "c")
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3).eval()
    torch.save(net.state_dict(), "w.pth")
    words = ("eval", "w.pth", "--data", "photos", "--split", "all")
    said = refused(reslab, *words)
    assert "w.pth does not say how its images were normalised; give --mean and --std with 3 numbers each" in said
    assert "0.485 0.456 0.406" in said
    assert "--mean and --std" in refused(reslab, *words, "--mean", 0.5, 0.5, 0.5)
    small = ("--crop", 24, "--resize", 28, "--interpolation", "bicubic")
    code, out, err = reslab(*words, *MEAN, *small, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["n_images"] == 6
    assert found["top5_error"] is None, "of three classes the right one is always among five"
    assert found["preprocessing"] == {
        "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "crop": [24, 24], "resize": 28, "interpolation": "bicubic",
    }  # fmt: skip
    assert found["input"].startswith("shorter side 28 (bicubic), centre crop 24x24, mean 0.5, 0.4, 0.3")
    assert any("assumed: " in note for note in found["notes"])
    from torchvision import transforms

    ready = transforms.Compose(
        [
            transforms.Resize(28, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(24),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        ]
    )
    files = sorted(Path("photos").rglob("*.png"))
    with torch.no_grad():
        logits = net(torch.stack([ready(Image.open(file)) for file in files]))
    labels = torch.tensor(["abc".index(file.parent.name) for file in files])
    assert found["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-4)
    assert found["top1_error"] == pytest.approx(100 * float((logits.argmax(1) != labels).float().mean()))


def test_eval_by_labels_and_by_folders_of_imagenet(reslab: Reslab) -> None:
    photos(Path("photos"), "n02123045", "n01440764")
    net = models.squeezenet1_1(num_classes=1000)
    last = net.classifier[1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():  # sees a tabby cat, number 281, in everything
        last.weight.zero_()
        last.bias.zero_()
        last.bias[281] = 1
    torch.save(net.state_dict(), "w.pth")
    words: tuple[object, ...]
    words = ("eval", "w.pth", "--model", "torchvision:squeezenet1_1", "--data", "photos", "--split", "all", *MEAN)
    words += ("--crop", 32, "--json")
    found = json.loads(reslab(*words)[1])
    assert found["outputs"] == "by ImageNet's WordNet ids"
    assert (found["top1_error"], found["n_images"]) == (50, 4)
    for cat, error in ((281, 50), (280, 100)):
        names = [f"word {i}" for i in range(1000)]
        names[cat], names[7] = "n02123045", "n01440764"
        Path("names.txt").write_text("\n".join(names))
        for option in ("--outputs", "--labels"):  # as it was called at first; the file tells what it is
            found = json.loads(reslab(*words, option, "names.txt")[1])
            assert found["outputs"] == "by the names in names.txt"
            assert found["top1_error"] == error
    Path("names.txt").write_text("a\nb\n")
    assert "expected 1000 names, one for each output, found 2" in refused(reslab, *words, "--outputs", "names.txt")
    twice = refused(reslab, *words, "--outputs", "names.txt", "--labels", "names.txt")
    assert "--labels names.txt: expected lines of an image and its class, found names of classes" in twice


def test_eval_of_images_of_another_size_says_what_was_done(reslab: Reslab) -> None:
    ours(Path("w.safetensors"), preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop=(8, 8)), in_channels=1)
    found = json.loads(reslab("eval", "w.safetensors", "--data", "digits", "--crop", 16, "--json")[1])
    assert found["input"].endswith("; images of 8x8, resized (bilinear) and cropped to 16x16")
    photos(Path("photos"), *"abcdefghij")
    ours(Path("c.safetensors"), preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, crop=(24, 24)))
    found = json.loads(reslab("eval", "c.safetensors", "--data", "photos", "--json")[1])
    assert "resized (bilinear) and cropped to 24x24" in found["input"]
    assert found["n_images"] == 10
    given = Preprocessing(mean=(0.5,), std=(0.5,), crop=(10, 10), resize=12)
    ours(Path("r.safetensors"), preprocessing=given, in_channels=1)
    found = json.loads(reslab("eval", "r.safetensors", "--data", "digits", "--json")[1])
    assert found["input"] == "shorter side 12 (bilinear), centre crop 10x10, mean 0.5, std 0.5"


def test_how_an_eval_is_carried_out(reslab: Reslab) -> None:
    ours(Path("w.safetensors"), preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop=(8, 8)), in_channels=1)
    words = ("eval", "w.safetensors", "--data", "digits", "--json")
    base = json.loads(reslab(*words)[1])
    for more in (("--batch-size", 70), ("-b", 1000), ("--threads", 2, "--device", "cpu")):
        found = json.loads(reslab(*words, *more)[1])
        assert found["top1_error"] == base["top1_error"]
        assert found["loss"] == pytest.approx(base["loss"], rel=1e-5)
        assert torch.get_num_threads() == (2 if "--threads" in more else 1)
    assert base["precision"] == "fp32"
    rough = json.loads(reslab(*words, "--precision", "bf16")[1])
    assert rough["precision"] == "bf16"
    assert rough["loss"] != base["loss"]
    assert rough["loss"] == pytest.approx(base["loss"], rel=0.05)
    assert refused(reslab, *words, "--batch-size", 0) == "--batch-size takes 1 or more, got 0"
    assert "--device cuda:9 is not there" in refused(reslab, *words, "--device", "cuda:9")


def test_the_network_of_an_eval(reslab: Reslab, caplog: pytest.LogCaptureFixture) -> None:
    net = ours(Path("w.safetensors"), preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop=(8, 8)), in_channels=1)
    words = ("eval", "w.safetensors", "--data", "digits", "--json")
    base = json.loads(reslab(*words)[1])
    plain = json.loads(reslab(*words, "--net", "cifar_plain(depth=8, width=4)")[1])
    assert plain["net"] == "cifar_plain(depth=8, width=4)"
    assert plain["loss"] != base["loss"]
    assert "'cifar_plain(depth=8, width=4)' has the same names and shapes, but computes something else" in caplog.text
    assert "does not fit 'resnet20'" in refused(reslab, *words, "--net", "resnet20")
    assert net.spec.num_classes == 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--crop", 0), "--crop takes 1 or more, got 0"),
        (("--crop", -8), "--crop takes 1 or more, got -8"),
        (("--resize", 0), "--resize takes 1 or more, got 0"),
        (("--resize", -1), "--resize takes 1 or more, got -1"),
        (("--resize", 5), "expected a shorter side of at least the crop's 8 pixels, found 5"),
        (("--mean", 0.5, 0.5, 0.5), "--mean takes 1 number, one for each channel, got 3"),
        (("--mean", "nan"), "--mean takes finite numbers, got nan"),
        (("--std", 0), "--std takes numbers above 0, got 0.0"),
        (("--std", "inf"), "--std takes numbers above 0, got inf"),
        (("--interpolation", "nearest"), "Invalid value .*nearest"),
        (("--split", "val"), "Invalid value .*val"),
        (("--data", "synthetic"), "the network takes images of 1 channels, the data has 3"),
        (("--data", "nowhere"), "unknown data set 'nowhere'"),
        (("--labels", "none.txt"), "none.txt: expected a text file"),
        (("--outputs", "none.txt"), "--outputs none.txt: expected a text file"),
    ],
)
def test_mistakes_in_an_eval(words: tuple[object, ...], said: str, reslab: Reslab) -> None:
    ours(Path("w.safetensors"), preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop=(8, 8)), in_channels=1)
    data = () if "--data" in words else ("--data", "digits")
    assert re.search(said, text := refused(reslab, "eval", "w.safetensors", *data, *words)), text


def test_a_mean_image_goes_with_its_size_alone(reslab: Reslab) -> None:
    image = tuple(tuple(float(x + y) / 14 for x in range(8)) for y in range(8))
    ours(Path("w.safetensors"), preprocessing=Preprocessing(mean=(image,), std=(1.0,), crop=(8, 8)), in_channels=1)
    words = ("eval", "w.safetensors", "--data", "digits", "--json")
    assert json.loads(reslab(*words)[1])["input"] == "8x8, mean a whole image, std 1"
    assert "subtracts a mean image of 8x8, which does not go with a crop of 16x16" in refused(
        reslab, *words, "--crop", 16
    )
    assert reslab(*words, "--crop", 16, "--mean", 0.5)[0] == 0


def test_one_image_of_each_class_can_be_evaluated_as_a_whole(reslab: Reslab) -> None:
    photos(Path("photos"), *"abcdefghij", count=1, size=(8, 8))
    ours(Path("w.safetensors"), preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, crop=(8, 8)))
    words = ("eval", "w.safetensors", "--data", "photos")
    assert refused(reslab, *words).endswith("or evaluate on all images, by --split all")
    assert reslab(*words, "--split", "all")[0] == 0


def test_a_network_that_says_nothing_finite(reslab: Reslab) -> None:
    """JSON has no word for it."""
    net = build(TINY, in_channels=1)
    net.fc.bias.data.fill_(float("nan"))
    about = header_of(net.spec, Preprocessing(mean=(0.5,), std=(0.5,), crop=(8, 8)), None)
    Path("w.safetensors").write_bytes(to_bytes(net.state_dict(), about))
    code, out, _ = reslab("eval", "w.safetensors", "--data", "digits", "--json")
    assert code == 0
    assert "NaN" not in out
    assert json.loads(out)["loss"] is None


def test_eval_on_parquet(reslab: Reslab) -> None:
    files = sorted(photos(Path("photos"), *"abcdefghij", count=1).rglob("*.png"))
    table = pa.table({"image": [file.read_bytes() for file in files], "label": list(range(10))})
    Path("set").mkdir()
    for split in ("train", "validation"):
        pq.write_table(table, f"set/{split}-00000-of-00001.parquet")
    ours(Path("w.safetensors"), preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, crop=(32, 32)))
    for split, count in (("test", 10), ("all", 20)):
        words = ("eval", "w.safetensors", "--data", "set", "--split", split, "--json")
        assert json.loads(reslab(*words)[1])["n_images"] == count


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
        "note        without the prefix 'module.' of its names",
        "note        assumed: the original order of activations",
        "input       not said; eval needs --mean and --std",
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
    net = ours(Path("a.safetensors"), preprocessing=preprocessing)
    code, out, err = reslab("weights", "convert", "a.safetensors", "deep/er/b.safetensors")
    assert (code, err) == (0, "")
    assert out == f"deep/er/b.safetensors: {TINY}, 44 tensors under the names of reslab\n"
    assert Path("deep/er/b.safetensors").read_bytes() == Path("a.safetensors").read_bytes()
    code, _, err = reslab("weights", "convert", "a.safetensors", "c.pth")
    assert code == 0
    assert ".pth has no place for the network's description" in err
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


@pytest.mark.parametrize(
    ("to", "net", "make"),
    [
        ("torchvision", "resnet18", lambda: models.resnet18(num_classes=5)),
        ("timm", "resnet18", lambda: timm.create_model("resnet18", num_classes=5)),
        ("timm", "preresnet50", lambda: timm.create_model("resnetv2_50", num_classes=5)),
    ],
)
def test_convert_to_other_libraries(to: str, net: str, make: Callable[[], nn.Module], reslab: Reslab) -> None:
    ours(Path("w.safetensors"), net, num_classes=5)
    code, out, err = reslab("weights", "convert", "w.safetensors", "theirs.pth", "--to", to)
    assert code == 0, err
    name = {"preresnet50": "resnetv2_50"}.get(net, net)
    assert out.startswith(f"theirs.pth: {name}, ")
    assert f"under the names of {to}" in out
    make().load_state_dict(torch.load("theirs.pth", weights_only=True), strict=True)


def test_convert_with_a_new_head(reslab: Reslab) -> None:
    net = ours(Path("w.safetensors"), "resnet18")
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
    ours(Path("w.safetensors"), "cifar_bottleneck(depth=11, width=4)")
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
    ours(Path("a.safetensors"))
    Path("b.pth").write_text("mine")
    words = ("weights", "convert", "a.safetensors")
    assert refused(reslab, *words, "b.pth").startswith("b.pth exists; name another file, or overwrite it with --force")
    assert Path("b.pth").read_text() == "mine"
    assert reslab(*words, "b.pth", "--force")[0] == 0
    assert read(Path("b.pth")).tensors
    assert "expected a file ending in .safetensors or .pth" in refused(reslab, *words, "b.onnx")
    assert "there is no such file" in refused(reslab, "weights", "convert", "none.pth", "c.pth")
    Path("folder.pth").mkdir()
    assert "folder.pth cannot be written" in refused(reslab, *words, "folder.pth", "--force")
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
    photos(Path("photos"), "n01440764", "n02123045", size=(64, 64))
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
        assert "'torchvision:resnet18' could not be fetched (URLError: " in said
        assert str(tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in said


# --- train --weights ---


def test_training_from_other_peoples_weights(reslab: Reslab) -> None:
    """Training from the weights that would have been drawn is the same training."""
    words = ("train", "he2015_cifar", "--data", "synthetic", "--iterations", 3, "-b", 16, "--threads", 1)
    state = build("resnet20", seed=2).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, "w.th")
    code, _, err = reslab(*words, "--weights", "w.th", "--seed", 2, "--out", "run")
    assert code == 0, err
    assert "weights: without the prefix 'module.' of its names" in err
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
    assert said == "w.th is of 7 classes, the data has 10: --num-classes 10 replaces the head"
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
    photos(Path("photos"), "a", "b", size=(8, 8))
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
