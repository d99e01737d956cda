"""``reslab deepen``: from weights to a deeper network that computes the same, and on with the training."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reslab.nets import build
from reslab.weights.files import pickled, to_bytes
from reslab.weights.load import load

Reslab = Callable[..., tuple[int, str, str]]

SHALLOW, DEEP = "cifar_resnet(depth=8, width=4)", "cifar_resnet(depth=14, width=4)"
RUN = ("train", "he2015_cifar", "--net", SHALLOW, "--data", "digits", "--iterations", 4, "-b", 32)


@pytest.fixture
def run(reslab: Reslab, tmp_path: Path) -> Path:
    assert reslab(*RUN, "--out", tmp_path / "run")[0] == 0
    return tmp_path / "run"


def test_the_same_function_and_on_from_there(reslab: Reslab, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep.safetensors"
    code, said, err = reslab("deepen", run, "--to", DEEP, "--out", out)
    assert code == 0, err
    assert (
        "14 layers, computes the same function as cifar_resnet(depth=8, width=4) (3 blocks added; in evaluation mode, "
        "outputs differ by 0.0e+00 of the largest)" in said
    )
    deep, shallow = load(out), load(run)
    assert deep.spec.name == DEEP
    assert (deep.preprocessing, deep.classes) == (shallow.preprocessing, shallow.classes)
    assert deep.header["deepened_from"] == SHALLOW
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(deep.network().eval()(x), shallow.network().eval()(x))
    errors = []
    for weights in (run, out):
        code, text, err = reslab("eval", weights, "--data", "digits", "--json")
        assert code == 0, err
        errors.append(json.loads(text)["top1_error"])
    assert errors[0] == errors[1]
    on = (*RUN[:2], "--weights", out, "--data", "digits", "--iterations", 2, "-b", 32, "--out", tmp_path / "on")
    code, _, err = reslab(*on)
    assert code == 0, err
    assert DEEP in err


def test_what_was_made_as_json(reslab: Reslab, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep.safetensors"
    code, said, err = reslab("deepen", run, "--to", DEEP, "--out", out, "--json")
    assert code == 0, err
    assert json.loads(said) == {
        "out": str(out), "net": DEEP, "depth": 14, "from": SHALLOW, "blocks_added": 3, "difference": 0,
    }  # fmt: skip


def test_weights_that_name_no_network(reslab: Reslab, tmp_path: Path) -> None:
    net = build("cifar_plain(depth=8, width=4)", size=(8, 8))
    (tmp_path / "plain.pth").write_bytes(pickled(net.state_dict()))
    words = ("deepen", tmp_path / "plain.pth", "--to", "cifar_plain(depth=14, width=4)")
    code, _, err = reslab(*words, "--out", tmp_path / "a.safetensors")
    assert code == 2
    assert "shortcut" in err, "without its name it was taken for a residual one"
    for option, name in (("--net", "a.pth"), ("--model", "b.pth")):
        code, _, err = reslab(*words, "--out", tmp_path / name, option, "cifar_plain(depth=8, width=4)")
        assert code == 0, err
    assert isinstance(torch.load(tmp_path / "a.pth", weights_only=True), dict)


def test_nothing_is_overwritten_unless_asked(reslab: Reslab, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep.safetensors"
    out.write_text("mine")
    words = ("deepen", run, "--to", DEEP, "--out", out)
    code, _, err = reslab(*words)
    assert code == 2
    assert "exists; name another file, or overwrite it with --force" in err
    assert out.read_text() == "mine"
    assert reslab(*words, "--force")[0] == 0
    assert load(out).spec.name == DEEP


@pytest.mark.parametrize(
    ("to", "out", "said"),
    [
        ("cifar_resnet(depth=8, width=4)", "a.safetensors", "is not deeper than"),
        ("cifar_plain(depth=14, width=4)", "a.safetensors", "shortcut"),
        ("resnet21", "a.safetensors", "unknown network 'resnet21'"),
        ("vgg16", "a.safetensors", "another library's network"),
        (DEEP, "a.txt", "expected a name that ends in .safetensors, "),
        (DEEP, "run/recipe.json/a.safetensors", "cannot be written"),
    ],
)
def test_what_is_refused(reslab: Reslab, run: Path, tmp_path: Path, to: str, out: str, said: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, text, err = reslab("deepen", run, "--to", to, "--out", tmp_path / out)
    assert (code, text) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_another_librarys_network_cannot_be_deepened(reslab: Reslab, tmp_path: Path) -> None:
    from reslab.nets.catalog import resolve_any
    from reslab.nets.network import build_any
    from reslab.weights.load import header_of

    spec = resolve_any("torchvision:squeezenet1_1", num_classes=2)
    state = build_any(spec).state_dict()
    (tmp_path / "a.safetensors").write_bytes(to_bytes(state, header_of(spec, None, None)))
    code, _, err = reslab("deepen", tmp_path / "a.safetensors", "--to", "resnet56", "--out", tmp_path / "b.safetensors")
    assert code == 2
    assert "another library's network; this takes one of Reslab's own" in err
