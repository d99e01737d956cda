"""``reslab eval`` of a network on any data, as a terminal would call it."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision import models

from reslab.nets import build
from reslab.runs import read_json
from reslab.weights.files import to_bytes
from reslab.weights.load import header_of
from reslab.weights.preprocessing import Preprocessing

from .sample import TINY, TRAIN, Reslab, ours, photos, refused

MEAN = ("--mean", 0.5, 0.4, 0.3, "--std", 0.2, 0.3, 0.4)


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
    assert found["outputs"] == "by the class names in the weights"
    assert "mean" not in found["preprocessing"], "a whole image is no result"
    assert found["preprocessing"]["crop"] == [8, 8]


def test_eval_for_people(reslab: Reslab) -> None:
    ours("w[bold].safetensors", preprocessing=Preprocessing(mean=(0.5,), std=(0.25,), crop=(8, 8)), in_channels=1)
    code, out, err = reslab("eval", "w[bold].safetensors", "--data", "digits")
    assert code == 0
    assert re.search(r"top-1 error +top-5 error +images +images/s", out)
    assert re.search(r"\d+\.\d\d % +\d+\.\d\d % +360 ", out)
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "weights  w[bold].safetensors (Reslab names)" in err
    assert f"network  {TINY}, 10 classes" in err
    assert "images  360 of digits, split 'test': scikit-learn" in err
    assert "outputs  in the order of the data's classes (the weights contain no names)" in err
    assert "input  8x8, mean 0.5, std 0.25" in err


@pytest.mark.parametrize(("split", "count"), [("test", 360), ("train", 1437), ("all", 1797)])
def test_eval_of_other_splits(split: str, count: int, reslab: Reslab) -> None:
    net = ours("w.safetensors", preprocessing=Preprocessing(mean=(0.3,), std=(0.4,), crop=(8, 8)), in_channels=1)
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
    photos("photos", "a", "b", "c")
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
        "oriented": None,
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
    photos("photos", "n02123045", "n01440764")
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
    ours("w.safetensors", preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop=(8, 8)), in_channels=1)
    found = json.loads(reslab("eval", "w.safetensors", "--data", "digits", "--crop", 16, "--json")[1])
    assert found["input"].endswith("; images of 8x8, resized (bilinear) and cropped to 16x16")
    photos("photos", *"abcdefghij")
    ours("c.safetensors", preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, crop=(24, 24)))
    found = json.loads(reslab("eval", "c.safetensors", "--data", "photos", "--json")[1])
    assert "resized (bilinear) and cropped to 24x24" in found["input"]
    assert found["n_images"] == 10
    given = Preprocessing(mean=(0.5,), std=(0.5,), crop=(10, 10), resize=12)
    ours("r.safetensors", preprocessing=given, in_channels=1)
    found = json.loads(reslab("eval", "r.safetensors", "--data", "digits", "--json")[1])
    assert found["input"] == "shorter side 12 (bilinear), centre crop 10x10, mean 0.5, std 0.5"


@pytest.mark.parametrize(("sizes", "said"), [((40, 40), "40x40"), ((32, 32), "32x32"), ((40, 50), "many sizes")])
def test_eval_names_the_sizes_that_the_images_of_a_folder_have(
    reslab: Reslab, sizes: tuple[int, ...], said: str
) -> None:
    for name in "abcdefghij":
        Path("small", name).mkdir(parents=True)
        for number, size in enumerate(sizes):
            Image.new("RGB", (size, size), (20 * number, 90, 7)).save(Path("small", name, f"{number}.png"))
    ours("c.safetensors", preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, crop=(24, 24)))
    found = json.loads(reslab("eval", "c.safetensors", "--data", "small", "--split", "all", "--json")[1])
    assert found["input"].endswith(f"; images of {said}, resized (bilinear) and cropped to 24x24")


def test_how_an_eval_is_carried_out(reslab: Reslab) -> None:
    ours("w.safetensors", preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop=(8, 8)), in_channels=1)
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
    net = ours("w.safetensors", preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop=(8, 8)), in_channels=1)
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
    ours("w.safetensors", preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), crop=(8, 8)), in_channels=1)
    data = () if "--data" in words else ("--data", "digits")
    assert re.search(said, text := refused(reslab, "eval", "w.safetensors", *data, *words)), text


def test_a_mean_image_goes_with_its_size_alone(reslab: Reslab) -> None:
    image = tuple(tuple(float(x + y) / 14 for x in range(8)) for y in range(8))
    ours("w.safetensors", preprocessing=Preprocessing(mean=(image,), std=(1.0,), crop=(8, 8)), in_channels=1)
    words = ("eval", "w.safetensors", "--data", "digits", "--json")
    assert json.loads(reslab(*words)[1])["input"] == "8x8, mean a whole image, std 1"
    assert "subtracts a mean image of 8x8, which does not go with a crop of 16x16" in refused(
        reslab, *words, "--crop", 16
    )
    assert reslab(*words, "--crop", 16, "--mean", 0.5)[0] == 0


def test_one_image_of_each_class_can_be_evaluated_as_a_whole(reslab: Reslab) -> None:
    photos("photos", *"abcdefghij", count=1, size=(8, 8))
    ours("w.safetensors", preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, crop=(8, 8)))
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
    files = sorted(photos("photos", *"abcdefghij", count=1).rglob("*.png"))
    table = pa.table({"image": [file.read_bytes() for file in files], "label": list(range(10))})
    Path("set").mkdir()
    for split in ("train", "validation"):
        pq.write_table(table, f"set/{split}-00000-of-00001.parquet")
    ours("w.safetensors", preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, crop=(32, 32)))
    for split, count in (("test", 10), ("all", 20)):
        words = ("eval", "w.safetensors", "--data", "set", "--split", split, "--json")
        assert json.loads(reslab(*words)[1])["n_images"] == count


def test_photographs_are_turned_upright_unless_asked_not_to(reslab: Reslab) -> None:
    """By the camera's note, in a training as in an evaluation; what the training did goes with the run."""
    photos("photos", "a", "b", count=10, size=(40, 40))
    for path in Path("photos").glob("*/*.png"):
        image = Image.open(path)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees
        image.save(path, exif=exif)
    words = (*TRAIN, "--net", TINY, "--size", 32, "--device", "cpu", "--out", "run")
    assert reslab(*("photos" if word == "digits" else word for word in words), "--no-orient")[0] == 0
    assert read_json(Path("run/env.json"))["data"]["oriented"] is False
    losses = {}
    for how in ("", "--orient", "--no-orient"):
        code, out, err = reslab("eval", "run", "--data", "photos", "--json", "--fresh", *([how] if how else []))
        assert code == 0, err
        losses[how] = json.loads(out)["loss"]
    assert losses["--orient"] != losses["--no-orient"]
    assert losses[""] == losses["--no-orient"]
