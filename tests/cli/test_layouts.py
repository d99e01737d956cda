"""Checkpoints with an average, and backbones without a head, at the commands that take weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reslab.nets import build
from reslab.runs import read_json
from reslab.weights.load import load

from .sample import TINY, TRAIN, Reslab, refused, said

NET = "cifar_resnet(depth=14, width=4, in_channels=1, size=(8, 8))"
MEAN = ("--mean", 0.5, "--std", 0.3)
LOOK = ("--data", "digits", "--net", NET, *MEAN)


def states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the last step and their average, which are further apart than rounding."""
    return dict(build(NET, seed=1).state_dict()), dict(build(NET, seed=2).state_dict())


@pytest.fixture
def both() -> str:
    raw, ema = states()
    torch.save({"state_dict": raw, "state_dict_ema": ema, "epoch": 3}, "both.pth")
    return "both.pth"


@pytest.fixture
def backbone() -> str:
    torch.save({name: t for name, t in states()[0].items() if not name.startswith("fc.")}, "backbone.pth")
    return "backbone.pth"


def test_which_reaches_every_command(both: str, reslab: Reslab) -> None:
    raw, ema = load(both, which="raw", net=NET).fingerprint(), load(both, which="ema", net=NET).fingerprint()
    assert raw != ema
    found = {}
    for which in ("ema", "raw"):
        option = ("--which", which)
        assert said(reslab, "weights", "inspect", both, *option, "--json")["which"] == which
        reslab("weights", "convert", both, f"{which}.safetensors", "--net", NET, *option)
        assert load(f"{which}.safetensors").fingerprint() == (ema if which == "ema" else raw)
        record = said(reslab, "eval", both, *LOOK, *option, "--json")
        found[which] = record["top1_error"]
        code, _, err = reslab("features", both, *LOOK, "--images", 60, "--out", f"{which}.npz", *option)
        assert code == 0, err
        code, _, err = reslab("deepen", both, "--net", NET, "--to", NET.replace("14", "20"), "--out",
                              f"{which}-deep.safetensors", *option)  # fmt: skip
        assert code == 0, err
        code, _, err = reslab("probe", both, *LOOK, "--responses", "--images", 60, *option, "--json")
        assert code == 0, err
        code, _, err = reslab("prune", both, *LOOK, "--images", 60, "--drop", 1, "--rounds", 1, "--out",
                              f"{which}-small.safetensors", *option)  # fmt: skip
        assert code == 0, err
    assert found["ema"] != found["raw"]
    assert not np.array_equal(np.load("ema.npz")["pool"], np.load("raw.npz")["pool"])
    for made in ("deep", "small"):
        assert load(f"ema-{made}.safetensors").fingerprint() != load(f"raw-{made}.safetensors").fingerprint()


def test_by_default_the_average_and_it_is_said(both: str, reslab: Reslab) -> None:
    code, out, _ = reslab("weights", "inspect", both)
    assert code == 0
    text = " ".join(out.split())
    assert "('state_dict') and their average over the training ('state_dict_ema'): using the average" in text
    assert "--which raw uses the other" in text


def test_training_starts_from_which_was_asked_for_and_goes_on_so(both: str, reslab: Reslab) -> None:
    runs = {}
    for which in ("ema", "raw"):
        code, _, err = reslab(*TRAIN, "--weights", both, "--net", NET, "--which", which, "--out", which)
        assert code == 0, err
        runs[which] = read_json(Path(which) / "env.json")
        assert runs[which]["which"] == which
    assert runs["ema"]["weights_fingerprint"] != runs["raw"]["weights_fingerprint"]
    assert "leave out --which" in refused(reslab, "train", "--resume", "ema", "--which", "raw")
    code, _, err = reslab("train", "--resume", "raw")
    assert code == 0, err


def test_no_average_is_there(reslab: Reslab) -> None:
    torch.save(states()[0], "plain.pth")
    for words in (("weights", "inspect", "plain.pth"), ("eval", "plain.pth", *LOOK)):
        assert "plain.pth holds one set of weights, without an average" in refused(reslab, *words, "--which", "ema")


# --- without a head ---


def test_a_backbone_has_embeddings(backbone: str, reslab: Reslab) -> None:
    code, _, err = reslab("features", backbone, *LOOK, "--images", 60, "--out", "f.npz")
    assert code == 0, err
    arrays = np.load("f.npz")
    assert arrays["pool"].shape == (60, 16)
    assert set(arrays["label"]) == set(range(10))
    assert "has no stage 'logits'; it has stem, layer1, layer2, layer3, pool" in refused(
        reslab, "features", backbone, *LOOK, "--images", 60, "--stages", "logits", "--out", "g.npz"
    )


def test_a_backbone_has_the_figures_that_need_no_head(backbone: str, reslab: Reslab) -> None:
    code, out, err = reslab("probe", backbone, *LOOK, "--images", 60, "--responses", "--lesions", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert set(record["figures"]) == {"responses", "signal"}
    assert all("has no head here" in left["why"] for left in record["left_out"])
    assert {left["figure"] for left in record["left_out"]} == {"lesions", "deletions", "permutations", "depth"}


def test_a_backbone_is_not_evaluated(backbone: str, reslab: Reslab) -> None:
    text = refused(reslab, "eval", backbone, *LOOK)
    assert "holds a backbone without a head (no fc.weight, fc.bias): an evaluation needs one" in text
    assert "reslab train --weights backbone.pth" in text
    assert "deepening needs one" in refused(
        reslab, "deepen", backbone, "--net", NET, "--to", "resnet20", "--out", "x.safetensors"
    )
    assert "pruning, which goes by the error, needs one" in refused(
        reslab, "prune", backbone, *LOOK, "--images", 60, "--drop", 1, "--out", "x.safetensors"
    )


def test_a_backbone_is_trained_with_a_new_head(backbone: str, reslab: Reslab) -> None:
    code, _, err = reslab(*TRAIN, "--weights", backbone, "--net", NET, "--out", "tuned")
    assert code == 0, err
    assert "the last layer is replaced by a randomly initialised one for the 10 classes of the data" in " ".join(
        err.split()
    )
    tuned = load("tuned")
    assert (tuned.head, tuned.spec.num_classes) == ("own", 10)
    code, _, err = reslab("eval", "tuned", "--data", "digits")
    assert code == 0, err


def test_a_backbone_is_inspected_and_converted(backbone: str, reslab: Reslab) -> None:
    code, out, _ = reslab("weights", "inspect", backbone, "--net", NET)
    assert code == 0
    assert "a backbone without a head" in " ".join(out.split())
    assert said(reslab, "weights", "inspect", backbone, "--net", NET, "--json")["num_classes"] is None
    reslab("weights", "convert", backbone, "ours.safetensors", "--net", NET)
    assert load("ours.safetensors").head == "none"
    reslab("weights", "convert", backbone, "seven.safetensors", "--net", NET, "--num-classes", 7)
    assert load("seven.safetensors").tensors["fc.weight"].shape == (7, 16)


# --- other libraries' spellings ---


def test_other_libraries_spellings_at_the_command_line(reslab: Reslab) -> None:
    mine = said(reslab, "nets", "wide-resnet50-2", "--json")
    assert said(reslab, "nets", "wide_resnet50_2", "--json") == mine
    assert TINY.startswith("cifar_resnet"), "an underscore of ours stays"
    code, out, err = reslab("nets", "resnext50_32x4d")
    assert code == 0, err
    assert "resnext50-32x4d" in out
