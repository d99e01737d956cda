"""``reslab probe``, ``prune`` and ``features``, as a terminal calls them."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from reslab.nets import build
from reslab.probes.figures import FIGURES
from reslab.probes.identity import fit_identity
from reslab.probes.shattering import decay_laws, shattering
from reslab.weights.files import pickled, to_bytes
from reslab.weights.load import header_of, load
from reslab.weights.preprocessing import Preprocessing

from .sample import ours, photos

Reslab = Callable[..., tuple[int, str, str]]
RESIDUAL, PLAIN = "cifar_resnet(depth=14, width=4)", "cifar_plain(depth=14, width=4)"
DIGITS = ("--data", "digits", "--images", 60)
SMALL: dict[Callable[..., Any], dict[str, Any]] = {
    fit_identity: {"blocks": (1, 2), "width": 6, "steps": 5, "seeds": 2},
    shattering: {"depths": (1, 3), "width": 8, "points": 20, "lags": 4, "seeds": 2},
    decay_laws: {"depths": (1, 2), "width": 16, "networks": 4},
}
"""Measurements of networks of their own, and how they are done quickly."""


def made(folder: Path, name: str = RESIDUAL, *, file: str = "net.safetensors", seed: int = 0) -> Path:
    net = build(name, in_channels=1, size=(8, 8), seed=seed)
    preprocessing = Preprocessing(mean=(0.3,), std=(0.4,), crop=(8, 8))
    path = folder / file
    path.write_bytes(to_bytes(dict(net.state_dict()), header_of(net.spec, preprocessing, None)))
    return path


def _small(measure: Callable[..., Any], how: dict[str, Any], **_: object) -> Any:
    return measure(**how)


def looked(reslab: Reslab, *words: object) -> dict[str, Any]:
    code, out, err = reslab("probe", *words, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_all_figures_on_a_page(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    page = tmp_path / "xray.html"
    words = ("probe", made(tmp_path), *DIGITS, "--all", "--out", page, "--open")
    code, out, err = reslab(*words)
    assert code == 0, err
    assert "60 images of digits" in err
    assert "figures; about" in err
    assert f"\n  lesions, {RESIDUAL}\n" in err
    assert shown == [page.resolve().as_uri()]
    text = page.read_text()
    for name, figure in FIGURES.items():
        if name == "gates":
            assert f"{figure.title} ({RESIDUAL})" in text
            continue
        assert f'<section id="{name}"' in text
        assert figure.read[0].split("'")[0] in text
        assert name in out
    assert "reslab probe" in text
    folder = tmp_path / "xray"
    kept = {path.stem: path.stat().st_mtime_ns for path in folder.glob("*/*.json")}
    summary = json.loads((folder / "xray.json").read_text())
    assert summary["command"].endswith(f"--all --images 60 --out {page}")
    assert set(summary["found"]) == set(kept)
    assert [left["figure"] for left in summary["left_out"]] == ["gates"]
    assert set(kept) == set(FIGURES) - {"gates"}

    page.unlink()
    code, _, err = reslab(*words)
    assert code == 0, err
    assert f"{len(kept)} there already; nothing to measure" in err
    assert {path.stem: path.stat().st_mtime_ns for path in folder.glob("*/*.json")} == kept
    assert page.exists()


@pytest.mark.parametrize(
    ("option", "figures"),
    [
        ("--responses", {"responses", "signal"}),
        ("--shares", {"shares"}),
        ("--lesions", {"lesions", "deletions", "permutations", "depth"}),
        ("--paths", {"paths"}),
        ("--gradients", {"gradients", "initial"}),
        ("--downsampling", {"downsampling"}),
        ("--perturbations", {"amplification", "translation"}),
        ("--attribution", {"attribution"}),
        ("--shattering", {"shattering", "decay", "along-images"}),
        ("--identity", {"identity"}),
    ],
)
def test_figures_by_name(
    option: str, figures: set[str], reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for measure, how in SMALL.items():  # at the size that they have, they are on the page of all
        monkeypatch.setattr(f"reslab.probes.figures.{measure.__name__}", partial(_small, measure, how))
    found = looked(reslab, made(tmp_path), *DIGITS, option)
    assert set(found["figures"]) == figures
    assert list(tmp_path.iterdir()) == [tmp_path / "net.safetensors"], "without --out nothing is written"


def test_gates(reslab: Reslab, tmp_path: Path) -> None:
    gated = made(tmp_path, "cifar_highway(widths=(4, 4, 4), gated=(1, 1, 1))")
    found = looked(reslab, gated, *DIGITS, "--gates")
    [result] = found["figures"]["gates"].values()
    assert len(result["result"]["mean"]) == 3


def test_several_networks(reslab: Reslab, tmp_path: Path) -> None:
    """The second is plain: what needs shortcuts says so of it, and the rest shows both."""
    one, two = made(tmp_path), made(tmp_path, PLAIN, file="plain.safetensors")
    found = looked(reslab, one, two, *DIGITS, "--shares", "--responses")
    assert set(found["figures"]["responses"]) == {RESIDUAL, PLAIN}
    assert set(found["figures"]["shares"]) == {RESIDUAL}
    assert found["left_out"] == [
        {"figure": "shares", "network": PLAIN, "why": f"'{PLAIN}': its blocks have no shortcut"}
    ]
    other = made(tmp_path, file="other.safetensors", seed=1)
    twins = looked(reslab, one, other, *DIGITS, "--downsampling")
    assert set(twins["figures"]["downsampling"]) == {f"{RESIDUAL} (net)", f"{RESIDUAL} (other)"}


def test_the_folder_of_the_figures(reslab: Reslab, tmp_path: Path) -> None:
    code, out, err = reslab("probe", made(tmp_path), *DIGITS, "--downsampling", "--out", tmp_path / "figures")
    assert code == 0, err
    assert "never read: layer2.0: shortcut 75 %, branch 0 %" in " ".join(out.split())
    assert (tmp_path / "figures" / "xray.html").exists()
    [file] = (tmp_path / "figures").rglob("downsampling.json")
    assert json.loads(file.read_text())["result"]["shortcut"] == [0.75, 0.75]


@pytest.mark.parametrize(("format", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_figures_as_pictures(format: str, begins: bytes, reslab: Reslab, tmp_path: Path) -> None:
    """A file for each, under the name that it has in the JSON; the same results give the same bytes."""
    words = ("probe", made(tmp_path), *DIGITS, "--downsampling", "--responses", "--out", tmp_path / "a", "--figures")
    for folder in ("one", "two"):
        code, _, err = reslab(*words, tmp_path / folder, "--format", format)
        assert code == 0, err
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")
    )  # fmt: skip
    assert set(one) == {f"{name}.{format}" for name in ("downsampling", "responses", "signal")}
    assert all(picture.startswith(begins) for picture in one.values())
    assert one == two
    (tmp_path / "file").write_text("mine")
    code, _, err = reslab(*words, tmp_path / "file")
    assert code == 2
    assert "--figures" in err
    assert "expected a folder" in err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["probe", "prune", "features"])
def test_weights_that_carry_nothing(command: str, reslab: Reslab, tmp_path: Path) -> None:
    """Their network and how their images were normalised come from the options."""
    net = build(RESIDUAL, in_channels=1, size=(8, 8))
    path = tmp_path / "bare.pth"
    path.write_bytes(pickled(net.state_dict()))
    more = {"probe": ("--downsampling",), "prune": ("--drop", 1, "--rounds", 1), "features": ()}[command]
    name = {"probe": "a.html", "prune": "a.safetensors", "features": "a.npz"}[command]
    for option in ("--net", "--model"):
        words = (command, path, *DIGITS, option, f"{RESIDUAL[:-1]}, size=(8, 8))", *more, "--out", tmp_path / name)
        code, _, err = reslab(*words)
        assert code == 2
        assert "give --mean and --std" in err
        code, _, err = reslab(*words, "--mean", 0.3, "--std", 0.4)
        assert code == 0, err
        for file in tmp_path.glob("a*"):
            if file.is_file():
                file.unlink()
    code, _, err = reslab(*words, "--mean", 0.3, 0.3, "--std", 0.4)
    assert code == 2
    assert "--mean takes 1 number, one for each channel, got 2" in err
    code, _, err = reslab(*words, "--mean", 0.3, "--std", 0)
    assert code == 2
    assert "--std takes numbers above 0" in err


@pytest.mark.parametrize("command", ["probe", "prune", "features"])
def test_outputs_by_a_list_of_names(command: str, reslab: Reslab, tmp_path: Path) -> None:
    """The data has fewer classes than the network outputs, and no names are known: a file says them."""
    net = build(RESIDUAL, in_channels=1, size=(8, 8), num_classes=12)
    path = tmp_path / "net.safetensors"
    header = header_of(net.spec, Preprocessing(mean=(0.3,), std=(0.4,), crop=(8, 8)), None)
    path.write_bytes(to_bytes(dict(net.state_dict()), header))
    more = {"probe": ("--lesions",), "prune": ("--drop", 1, "--rounds", 1), "features": ()}[command]
    name = {"probe": "a.html", "prune": "a.safetensors", "features": "a.npz"}[command]
    words = (command, path, *DIGITS, *more, "--out", tmp_path / name)
    if command != "features":  # which are of any images
        code, _, err = reslab(*words)
        assert code == 2
        assert "give --outputs FILE" in err
    (tmp_path / "names.txt").write_text("\n".join(["none", *map(str, range(10)), "other"]))
    code, _, err = reslab(*words, "--outputs", tmp_path / "names.txt")
    assert code == 0, err


def test_figures_that_none_of_the_networks_has(reslab: Reslab, tmp_path: Path) -> None:
    code, _, err = reslab("probe", made(tmp_path), *DIGITS, "--gates")
    assert code == 2
    assert "none of the requested figures can be measured" in err
    assert "its blocks have no gates" in err


@pytest.mark.parametrize("command", ["probe", "prune", "features"])
def test_how_it_is_carried_out(command: str, reslab: Reslab, tmp_path: Path) -> None:
    more = {"probe": ("--lesions",), "prune": ("--drop", 1, "--rounds", 1), "features": ()}[command]
    name = {"probe": "a", "prune": "a.safetensors", "features": "a.npz"}[command]
    words = (command, made(tmp_path), "--data", "digits", *more, "--out", tmp_path / name)
    code, _, err = reslab(
        *words, "--images", 70, "--batch-size", 32, "--precision", "bf16", "--device", "cpu", "--threads", 1
    )
    assert code == 0, err
    assert torch.get_num_threads() == 1
    words = (*words[:-1], tmp_path / f"other-{name}")
    for wrong, said in (
        (("--images", 0), f"--images takes {1 if command == 'features' else 50} or more, got 0"),
        (("-b", 0), "--batch-size takes 1 or more, got 0"),
        (("--device", "tpu"), "--device tpu is not there"),
        (("--threads", 0), "--threads takes 1 or more, got 0"),
        (("--precision", "fp8"), "Invalid value"),
        (("--data", "nowhere"), "unknown data set 'nowhere'"),
    ):
        given = [word for word in words if word not in ("--data", "digits")] if wrong[0] == "--data" else list(words)
        code, _, err = reslab(*given, *wrong)
        assert code == 2, wrong
        assert said in err, err


def test_batches_and_precision_of_a_probe(reslab: Reslab, tmp_path: Path) -> None:
    weights = made(tmp_path)
    exact = looked(reslab, weights, *DIGITS, "--shares")
    batches = looked(reslab, weights, *DIGITS, "--shares", "-b", 7)
    rough = looked(reslab, weights, *DIGITS, "--shares", "--precision", "bf16")
    ratio, same, near = (run["figures"]["shares"][RESIDUAL]["result"]["ratio"] for run in (exact, batches, rough))
    assert ratio == pytest.approx(same, rel=1e-4)
    assert ratio != near
    assert ratio == pytest.approx(near, rel=0.05)
    train = looked(reslab, weights, *DIGITS, "--shares", "--split", "train")
    assert train["figures"]["shares"][RESIDUAL]["result"]["ratio"] != ratio
    every = looked(reslab, weights, "--data", "digits", "--images", 2000, "--shares", "--split", "all")
    assert every["figures"]["shares"][RESIDUAL]["result"]["n_images"] == 1797


def test_what_probe_refuses(reslab: Reslab, tmp_path: Path) -> None:
    weights = made(tmp_path)
    for words, said in (
        ((weights, *DIGITS), "say what to look at: --all, or some of --responses, --shares, --lesions"),
        (DIGITS, "probe takes the weights of 1 to 4 networks, got 0"),
        ((weights,) * 5 + DIGITS, "probe takes the weights of 1 to 4 networks, got 5"),
        ((tmp_path / "none.pth", *DIGITS, "--all"), "there is no such file"),
        ((weights, "--data", "cifar-like", "--all"), "unknown data set 'cifar-like'"),
    ):
        code, _, err = reslab("probe", *words)
        assert code == 2, words
        assert said in err, err
        assert len(err.splitlines()) == 1
    (tmp_path / "xray").write_text("")
    code, _, err = reslab("probe", weights, *DIGITS, "--shares", "--out", tmp_path / "xray.html")
    assert code == 2
    assert "the figures go into the folder" in err
    strange = tmp_path / "strange.pth"
    strange.write_bytes(pickled({"layer.weight": torch.zeros(3, 4), "layer.bias": torch.zeros(3)}))
    code, _, err = reslab("probe", strange, *DIGITS, "--all")
    assert code == 2
    assert "holds weights of a network that Reslab does not know" in err


def test_pruning(reslab: Reslab, tmp_path: Path) -> None:
    weights, out, page = made(tmp_path), tmp_path / "small.safetensors", tmp_path / "curve.html"
    words = ("prune", weights, *DIGITS, "--out", out, "--rounds", 2)
    pictures = (tmp_path / "curve.png", tmp_path / "curve.pdf")
    code, said, err = reslab(*words, "--drop", 2, "--report", page, "--figure", *pictures)
    assert code == 0, err
    assert [path.read_bytes()[:4] for path in pictures] == [b"\x89PNG", b"%PDF"]
    assert "60 training images choose, 180 test images decide, 180 others report" in err
    assert f"{out}: {RESIDUAL} without 2 blocks (layer" in said
    small = load(out)
    assert small.spec.name == f"{RESIDUAL} without 2 blocks"
    assert small.header["pruned_from"] == RESIDUAL
    assert len(small.header["removed"]) == 2
    assert small.preprocessing == load(weights).preprocessing
    record = json.loads(page.with_suffix(".json").read_text())
    assert record["removed"] == small.header["removed"]
    assert record["after"]["macs"] < record["before"]["macs"]
    assert len(record["curve"]["error"]) == 3
    assert "Error and speed" in page.read_text()
    code, text, err = reslab("eval", out, "--data", "digits", "--json")
    assert code == 0, err
    assert json.loads(text)["n_images"] == 360

    code, _, err = reslab(*words, "--drop", 1)
    assert code == 2
    assert "overwrite it with --force" in err
    code, text, err = reslab(*words, "--max-error", 100, "--force", "--json", "--batch-size", 40)
    assert code == 0, err
    found = json.loads(text)
    assert len(found["removed"]) == 3
    assert found["batch"] == 40
    assert found["bound"] == {"drop": None, "max_error": 100}


def test_what_pruning_can_do_besides(reslab: Reslab, tmp_path: Path) -> None:
    weights = made(tmp_path)

    def pruned(*words: object) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        out = tmp_path / "small.safetensors"
        code, text, err = reslab(
            "prune", weights, *DIGITS, "--drop", 1, "--rounds", 1, "--out", out, "--force", "--json", *words
        )  # fmt: skip
        assert code == 0, err
        return json.loads(text), load(out).tensors

    _, calibrated = pruned("--calibrate")
    _, as_it_was = pruned("--no-calibrate")
    mean = "bn1.running_mean"
    assert torch.equal(as_it_was[mean], load(weights).tensors[mean])
    assert not torch.equal(calibrated[mean], as_it_was[mean])
    record, tuned = pruned("--finetune", 4, "--lr", 0.05, "--seed", 1)
    assert record["finetuned"]["iterations"] == 4
    assert not torch.equal(tuned["fc.weight"], calibrated["fc.weight"])
    _, other = pruned("--finetune", 4, "--lr", 0.05, "--seed", 2)
    assert not torch.equal(tuned["fc.weight"], other["fc.weight"])
    _, slow = pruned("--finetune", 4, "--lr", 0.0001, "--seed", 1)
    assert (slow["fc.weight"] - calibrated["fc.weight"]).abs().max() < 0.01


def test_a_pruned_network_is_fine_tuned_without_another_search(reslab: Reslab, tmp_path: Path) -> None:
    at_once, cut, later = (tmp_path / f"{name}.safetensors" for name in ("once", "cut", "later"))
    words, tuning = (*DIGITS, "--rounds", 1), ("--finetune", 4, "--lr", 0.05)
    for source, out, more in (
        (made(tmp_path), at_once, ("--drop", 2, *tuning)),
        (made(tmp_path), cut, ("--drop", 2)),
        (cut, later, ("--drop", 0, *tuning, "--report", tmp_path / "tuned.html")),
    ):
        code, said, err = reslab("prune", source, *words, "--out", out, *more, "--force")
        assert code == 0, err
    assert f"{RESIDUAL} without 2 blocks (nothing removed)" in said
    assert load(later).spec == load(at_once).spec
    torch.testing.assert_close(dict(load(later).tensors), dict(load(at_once).tensors), rtol=1e-5, atol=1e-6)
    code, _, err = reslab("prune", cut, *words, "--out", later, "--drop", 0, "--force")
    assert code == 2
    assert "--drop 0 removes nothing; give it with --finetune" in err


def test_what_pruning_refuses(reslab: Reslab, tmp_path: Path) -> None:
    weights = made(tmp_path)
    words = ("prune", weights, *DIGITS)
    for more, said in (
        (("--out", tmp_path / "a.safetensors"), "give either --drop (a number of blocks) or --max-error"),
        (("--out", tmp_path / "a.pth", "--drop", 1), "end the name in .safetensors"),
        (("--out", tmp_path / "a.safetensors", "--drop", 9), "give a number from 0 to 3"),
        (("--out", tmp_path / "a.safetensors", "--drop", 1, "--rounds", 0), "--rounds takes 1 or more"),
        (("--out", tmp_path / "a.safetensors", "--drop", 1, "--finetune", -1), "--finetune takes 0 iterations or more"),
        (
            ("--out", tmp_path / "a.safetensors", "--drop", 1, "--report", "a.txt"),
            "expected a name that ends in .html",
        ),
        (
            ("--out", tmp_path / "a.safetensors", "--drop", 1, "--figure", "a.gif"),
            "end the name in .png, .svg or .pdf",
        ),
    ):
        code, _, err = reslab(*words, *more)
        assert code == 2, more
        assert said in err, err
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_features(suffix: str, reslab: Reslab, tmp_path: Path) -> None:
    out = tmp_path / f"features{suffix}"
    words = ("features", made(tmp_path), *DIGITS, "--stages", "layer2", "pool", "--split", "train", "--out", out)
    code, said, err = reslab(*words)
    assert code == 0, err
    assert "60 images, each layer2 8x4x4, pool 16, label number" in said
    if suffix == ".npz":
        found = dict(np.load(out))
        assert found["layer2"].shape == (60, 8, 4, 4)
        assert found["pool"].shape == (60, 16)
        assert set(found["label"]) == set(range(10))
    else:
        table = pq.read_table(out)
        assert table.column_names == ["layer2", "pool", "label"]
        assert len(table["layer2"][0]) == 8 * 4 * 4
        assert table.schema.metadata[b"shape.layer2"] == b"8x4x4"
    code, _, err = reslab(*words)
    assert code == 2
    assert "overwrite it with --force" in err
    before = os.stat(out).st_mtime_ns
    code, said, err = reslab(*words, "--force", "--json")
    assert code == 0, err
    shapes = {"layer2": [60, 8, 4, 4], "pool": [60, 16], "label": [60]}
    assert json.loads(said) == {"out": str(out), "images": 60, "shapes": shapes}
    assert os.stat(out).st_mtime_ns != before
    code, _, err = reslab(*words[:-1], tmp_path / "features.csv")
    assert code == 2
    assert "expected a name that ends in .npz or .parquet" in err
    code, _, err = reslab("features", words[1], *DIGITS, "--stages", "layer9", "--out", tmp_path / f"a{suffix}")
    assert code == 2
    assert "has no stage 'layer9'" in err


@pytest.mark.parametrize("count", [1, 36])
def test_embeddings_of_few_images(count: int, reslab: Reslab, tmp_path: Path) -> None:
    """A statistic takes fifty images, an embedding one; nor need they be of the classes that the network knows."""
    weights, out = tmp_path / "w.safetensors", tmp_path / "few.npz"
    ours(str(weights), preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.2,) * 3, crop=(32, 32)))
    photos(str(tmp_path / "few"), "a", "b", count=18, size=(40, 32))
    words = ("features", weights, "--data", tmp_path / "few", "--split", "all")
    code, _, err = reslab(*words, "--images", count, "--out", out)
    assert code == 0, err
    assert "the data's own numbers of its 2 classes" in err
    found = np.load(out)
    assert found["pool"].shape[0] == count
    assert set(found["label"]) == ({0, 1} if count > 1 else {0})
