"""``reslab nets NAME``, ``--compare``, ``--diagram``, ``--svg``: what a reader of 80 columns sees."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from reslab.commands.nets_compare import DIFFERENT, MARK, comparison, print_comparison
from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.describe import describe

Reslab = Callable[..., tuple[int, str, str]]


def tidy(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


# --- one network -----------------------------------------------------------------------------------------------------


def test_the_papers_column_and_the_cost_beside_it(reslab: Reslab) -> None:
    code, out, err = reslab("nets", "resnet50-v1")
    assert (code, err) == (0, "")
    lines = tidy(out)
    assert lines[0] == "resnet50-v1: 50 layers, input 3x224x224"
    for line in (
        "conv1    112x112  7x7, 64, stride 2            1       9,536    118,013,952",
        "conv2_x    56x56  3x3 max pool, stride 2       9     215,808    667,942,912",
        "layer1            ┌ 1x1, 64  ┐",
        "                  │ 3x3, 64  │ x 3",
        "                  └ 1x1, 256 ┘",
        "conv5_x      7x7  ┌ 1x1, 512  ┐                9  14,964,736    732,168,192",
        "head         1x1  average pool                 1   2,049,000      2,048,000",
        "                  1000-d fc",
        "                  softmax",
        "all                                           50  25,557,032  3,857,973,248",
        "stride in   first 1x1 conv of 3 blocks (layer2.0, layer3.0, layer4.0)",
        "order       original (He 2016, Fig. 4a): 1x1 BN ReLU 3x3 BN ReLU 1x1 BN + ReLU",
        "FLOPs       3.86 x 10^9 as the papers count, multiply-adds: 3,857,973,248",
        "            3.8 x 10^9 in He et al. 2015, Table 1",
        "            7,715,946,496 where a multiply-add counts two",
        "source      He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Table 1",
    ):
        assert line in lines
    at = lines.index("shortcut    identity: F(x) + x, in 12 blocks")
    assert lines[at + 1].startswith("            projection: F(x) + BN(W x), in 4 blocks (layer1.0, ")


PUBLISHED = {
    "plain18": 1.8,
    "resnet18": 1.8,
    "resnet18-A": 1.8,
    "plain34": 3.6,
    "resnet34": 3.6,
    "resnet34-A": 3.6,
    "resnet50": 3.8,
    "resnet50-v1": 3.8,
    "resnet101": 7.6,
    "resnet101-v1": 7.6,
    "resnet152": 11.3,
    "resnet152-v1": 11.3,
}
"""He 2015, Table 1."""


@pytest.mark.parametrize("name", CATALOG)
def test_the_published_figure_stands_beside_the_papers_networks_alone(name: str, reslab: Reslab) -> None:
    code, out, _ = reslab("nets", name)
    assert code == 0
    assert max(map(len, tidy(out))) <= 80
    found = re.findall(r"(\S+) x 10\^9 in He et al. 2015, Table 1", " ".join(out.split()))
    assert found == ([str(PUBLISHED[name])] if name in PUBLISHED else [])
    # torchvision's networks stride elsewhere, and the text says so.
    assert (f"resnet{resolve(name).depth}-v1" in out.partition("FLOPs")[2]) == (
        name in ("resnet50", "resnet101", "resnet152")
    )


@pytest.mark.parametrize("words", [("resnet50-v1", "--size", 256), ("resnet50-v1(num_classes=10)",)])
def test_the_published_figure_holds_for_the_papers_images_alone(words: tuple[object, ...], reslab: Reslab) -> None:
    assert "He et al. 2015" not in reslab("nets", *words)[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "resnet20",
            ["┌ 3x3, 16 ┐ x 3", "identity: F(x) + x, in 7 blocks", "zero padding: F(x) + pad(x), in 2 blocks"],
        ),
        ("plain20", ["shortcut   none", "order      plain: 3x3 BN ReLU 3x3 BN ReLU"]),
        ("preresnet20", ["BN, ReLU", "full-preactivation (He 2016, Fig. 4e): BN ReLU 3x3 BN ReLU 3x3 +"]),
        (
            "highway19",
            ["[ 3x3, 80 ] x 5", "│ dropout, p = 0.2       │ x 1", "g = sigmoid(3x3 conv of x), initial bias -2"],
        ),
        ("resnext50-32x4d", ["│ 3x3, 1024, C=32 │ x 3"]),
        ("resnet1202", ["┌ 3x3, 64 ┐ x 200", "1,202"]),
        ("mlp(depth=8)", ["input 64", "┌ fc, 64 ┐ x 3", "identity: F(x) + x, in all blocks"]),
        ("resnet50d", ["3x3, 32, stride 2", "pooled projection: F(x) + BN(W pool(x)), in 3 blocks"]),
        ("cifar_resnet(depth=8, drop_path=0.6)", ["stochastic depth: training drops a branch with p = 0.2 to 0.6"]),
    ],
)
def test_other_networks(name: str, said: list[str], reslab: Reslab) -> None:
    code, out, _ = reslab("nets", name)
    assert code == 0
    for words in said:
        assert words in out


def test_the_size_of_the_images(reslab: Reslab) -> None:
    out = reslab("nets", "resnet50", "--size", 64)[1]
    assert "input 3x64x64" in out
    assert re.search(r"conv5_x +2x2 ", out)
    small = json.loads(reslab("nets", "--size", 16, "--json")[1])
    nominal = json.loads(reslab("nets", "--json")[1])
    assert all(a["macs"] < b["macs"] and a["params"] == b["params"] for a, b in zip(small, nominal, strict=True))


# --- several ---------------------------------------------------------------------------------------------------------


def test_networks_side_by_side(reslab: Reslab) -> None:
    code, out, err = reslab("nets", "--compare", "resnet50-v1", "resnet50", "resnet50d")
    assert (code, err) == (0, "")
    lines = tidy(out)
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["resnet50-v1", "resnet50", "resnet50d"]
    differing = {line.split()[1] for line in lines if line.startswith(MARK)}
    assert differing >= {"layers", "MACs", "FLOPs", "activations", "conv1", "shortcut", "downsample", "stride"}
    assert not differing & {"input", "conv2_x", "conv3_x", "conv4_x", "conv5_x", "head", "order"}
    assert f"{MARK}  MACs         3,857,973,248        4,089,184,256         4,328,824,832" in lines
    assert "   input        3x224x224            3x224x224             3x224x224" in lines
    assert f"{MARK}  stride in    first 1x1 conv       3x3 conv              3x3 conv" in lines
    assert "   layer1       3 x 1x1, 64          3 x 1x1, 64           3 x 1x1, 64" in lines
    assert "\x1b" not in out


def test_a_difference_stands_out_by_colour_too() -> None:
    console = Console(width=80, force_terminal=True, color_system="standard", file=io.StringIO())
    print_comparison([describe(resolve(name)) for name in ("resnet20", "plain20")], console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    [shortcut] = [line for line in lines if "7 x identity" in line]
    assert shortcut.count("\x1b[1;35m") >= 3  # the mark, and what each has
    assert MARK in shortcut
    [params] = [line for line in lines if "parameters" in line]
    assert "\x1b" not in params  # the twins have as many
    assert DIFFERENT == "bold magenta"


def test_what_is_compared() -> None:
    names = ("resnet20", "plain34", "highway19", "preresnet56", "mlp(depth=8)")
    rows = dict(comparison([describe(resolve(name)) for name in names]))
    assert list(rows)[:6] == ["layers", "parameters", "MACs", "FLOPs", "activations", "input"]
    assert rows["layers"] == ("20", "34", "19", "56", "8")
    assert rows["FLOPs"][0] == "81,102,080"
    assert rows["conv5_x\nlayer4"] == ("-", "512x7x7\n3 x 3x3, 512\n    3x3, 512", "-", "-", "-")
    assert rows["conv1\nstem"][1] == "64x56x56\n7x7, 64, /2\n3x3 max pool, /2"
    assert rows["shortcut"][:3] == ("7 x identity\n2 x zero padding", "none", "14 x exclusive gate\n3 x none")
    assert rows["stride in"] == ("first 3x3 conv", "first 3x3 conv", "2x2 max pool", "first 3x3 conv", "-")
    assert rows["head"][3] == "BN, ReLU\naverage pool\n10-d fc\nsoftmax"
    assert "besides" in rows
    assert "besides" not in dict(comparison([describe(resolve(name)) for name in ("resnet20", "resnet32")]))


def test_options_of_a_comparison(reslab: Reslab) -> None:
    names = ("resnet20", "resnet32")
    records = json.loads(reslab("nets", "--compare", *names, "--json")[1])
    assert records == [json.loads(reslab("nets", name, "--json")[1]) for name in names]
    out = reslab("nets", "--compare", *names, "--size", 64)[1]
    assert "3x64x64" in out
    assert "16x64x64" in out
    code, out, _ = reslab("nets", "--compare", "resnet20", "resnet50", "plain34", "highway19", "wrn28-10")
    assert code == 0
    assert max(map(len, tidy(out))) <= 80
    assert "4.09 x 10^9" in out


# --- pictures --------------------------------------------------------------------------------------------------------


def test_a_picture_in_the_terminal(reslab: Reslab) -> None:
    code, out, _ = reslab("nets", "resnet20", "--diagram")
    assert code == 0
    for words in (
        "A  basic block, identity: F(x) + x",
        "conv3_x  layer2  32x16x16",
        "⊕◄",
        "│ 3x3 conv, 32, stride 2 │",
    ):
        assert words in out
    assert "32x32x32" in reslab("nets", "resnet20", "--diagram", "--size", 64)[1]


def test_a_picture_in_a_file(reslab: Reslab, tmp_path: Path) -> None:
    path = tmp_path / "net[bold].svg"
    path.write_text("old")
    code, _, err = reslab("nets", "resnet50-v1", "--svg", path)
    assert code == 2
    assert "exists; name another file, or overwrite it with --force" in err
    assert path.read_text() == "old"
    code, _, err = reslab("nets", "resnet50-v1", "--svg", tmp_path / "net.png")
    assert code == 2
    assert "net.png: expected a name that ends in .svg" in err
    code, out, _ = reslab("nets", "resnet50-v1", "--svg", path, "--force")
    assert (code, out) == (0, f"Picture: {path}\n")
    root = ElementTree.parse(path).getroot()
    assert root.get("width") == "900"
    assert "1×1, 128, /2" in path.read_text()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]  # nothing half written beside it
    before = path.read_bytes()
    assert reslab("nets", "resnet50-v1", "--svg", path, "--size", 64, "--force")[0] == 0
    assert path.read_bytes() != before
    _, out, _ = reslab("nets", "resnet50-v1", "--svg", path, "--diagram", "--force")
    assert out.endswith(f"Picture: {path}\n")
    assert "conv5_x  layer4  2048x7x7" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--compare", "resnet20"), "--compare takes 2 to 5 networks, got 1"),
        (("--compare",), "--compare takes 2 to 5 networks, got 0"),
        (("--compare", *["resnet20"] * 6), "--compare takes 2 to 5 networks, got 6"),
        (("--compare", "resnet20", "resnet21"), "unknown network 'resnet21'; did you mean"),
        (("resnet20", "--compare", "resnet20", "resnet32"), "--compare names its networks itself"),
        (("--compare", "resnet20", "resnet32", "--diagram"), "--compare names its networks itself, and draws none"),
        (("--diagram",), "--diagram draws one network: name it"),
        (("--svg", "x.svg"), "--svg draws one network: name it"),
        (("resnet20", "--diagram", "--json"), "--diagram draws, --json prints figures; choose one"),
        (("resnet20", "--svg", "x.svg", "--json"), "--svg draws, --json prints figures; choose one"),
        (("resnet20", "--svg", "."), "--svg . is a folder; name a file in it"),
        (("resnet20", "--svg", "no/x.svg"), "--svg no/x.svg: expected the folder no, found none there"),
        (("resnet20", "--svg", f"{'x' * 300}.svg"), "cannot be written: File name too long"),
        (("resnet20", "--size", 0), "--size takes pixels, 1 or more, got 0"),
        (("mlp(depth=8)", "--size", 8), "--size is for images, but 'mlp(depth=8)' takes vectors of 64 numbers"),
        (("vgg16-cifar", "--size", 8), "'vgg16-cifar' pools images of --size 8 until nothing is left"),
    ],
)
def test_mistakes(
    words: tuple[object, ...], said: str, reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = reslab("nets", *words)
    assert code == 2
    assert said in (json.loads(out)["error"] if "--json" in words else err)
    assert (len(out.splitlines()), len(err.splitlines())) == ((1, 0) if "--json" in words else (0, 1))
    assert list(tmp_path.iterdir()) == []
