"""``reslab bench``: what it times, what it says, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reslab.bench import peers, works
from reslab.bench.best import best_of
from reslab.nets.catalog import resolve_any
from reslab.train.device import Execution, has_bf16

Reslab = Callable[..., tuple[int, str, str]]

NET = "cifar_resnet(depth=8, width=4, size=(8, 8))"
SHORT = ("--rounds", 2, "--turn", 0.01, "-b", 4)


@pytest.fixture(autouse=True)
def _shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way of a peer is tried, but not for half a second twice."""
    monkeypatch.setattr("reslab.bench.best.TRY", 0.01)


def figures(reslab: Reslab, *words: object) -> dict[str, Any]:
    code, out, err = reslab("bench", *words, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("what", ["train", "infer", "data"])
def test_ours_alone(reslab: Reslab, what: str) -> None:
    found = figures(reslab, what, "--net", NET, "--rounds", 2, "--turn", 0.01, "--batch-size", 4, "--precision", "fp32")
    assert found["images_per_second"].keys() == {"reslab"}
    assert found["images_per_second"]["reslab"] > 0
    assert found["ratios"] == {}
    assert found["peer_at_its_best"] is None
    assert len(found["seconds"]["reslab"]) == 2
    assert (found["share_of_peak"] is None) == (what == "data")
    assert found["precision"] == "fp32"
    assert found["peak"]["gflops"] > 0


def test_against_the_same_network_as_scripts_have_it(reslab: Reslab) -> None:
    words = ("train", "--net", NET, *SHORT, "--against", "eager", "--threads", 1, "--compile-limit", 0)
    found = figures(reslab, *words)
    assert found["images_per_second"].keys() == {"reslab", "eager at its best", "eager as it comes"}
    assert found["ratios"].keys() == {"eager at its best", "eager as it comes"}
    for ratio in found["ratios"].values():
        assert ratio["low"] <= ratio["median"] <= ratio["high"]
    assert found["machine"]["threads"] == "1"
    best = found["peer_at_its_best"]
    rates = best["images_per_second_of_each"]
    assert {"fp32, channels-first", "fp32, channels-last"} <= rates.keys()
    assert any(name.startswith("bf16") for name in rates) == has_bf16(torch.device("cpu"))
    assert rates[best["way"]] == max(rates.values())
    assert found["command"].endswith("--threads 1 --peer both --compile-limit 0")


@pytest.mark.parametrize(("peer", "names"), [("best", {"eager at its best"}), ("default", {"eager as it comes"})])
def test_one_peer_of_the_two(reslab: Reslab, peer: str, names: set[str], tmp_path: Path) -> None:
    words = ("infer", "--net", NET, "--rounds", 1, "--turn", 0.01, "-b", 1, "--against", "eager", "--peer", peer)
    found = figures(reslab, *words, "--compile-limit", 0, "--out", tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text()) == found
    assert found["ratios"].keys() == names
    assert (found["peer_at_its_best"] is None) == (peer == "default")


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_compiled_peers_have_so_long_and_no_longer() -> None:
    case = works.Case(resolve_any(NET), 2, Execution(torch.device("cpu")), "fp32")
    found = best_of(case, "infer", "eager", compile_limit=0.01)
    limited = {name: rate for name, rate in found.tried.items() if "torch.compile" in name}
    assert set(limited.values()) == {"not ready within 0.01 s"}
    assert "torch.compile" not in found.way
    way = peers.compiled_way(peers.Way("fp32", channels_last=True))
    made = {}
    for name, each in (("compiled", way), ("eager", replace(way, compiled=False))):
        torch.manual_seed(0)  # of the images
        made[name] = peers.peer_inference(case, "eager", each)()
    torch.testing.assert_close(made["compiled"], made["eager"])


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_compiled(reslab: Reslab) -> None:
    found = figures(reslab, "infer", "--net", NET, *SHORT, "--compile")
    assert found["images_per_second"]["reslab"] > 0
    assert found["command"].endswith(" --compile")
    assert "compiled" in found["mode"]


def test_against_another_library(reslab: Reslab, tmp_path: Path) -> None:
    words = ("infer", "--model", "resnet18", "--size", 32, "--device", "cpu", *SHORT, "--against", "torchvision",
             "--compile-limit", 0)  # fmt: skip
    code, out, err = reslab("bench", *words, "--out", tmp_path / "bench.json")
    assert code == 0, err
    assert json.loads((tmp_path / "bench.json").read_text())["size"] == [32, 32]
    assert "torchvision at its best: " in out
    assert "against torchvision at its best, median of 2 rounds" in out
    assert "against torchvision as it comes, median of 2 rounds" in out
    assert "a large matrix product reaches" in out
    assert max(map(len, out.splitlines())) <= 120


def test_batches_against_the_usual_loader(reslab: Reslab) -> None:
    found = figures(reslab, "data", "--net", NET, *SHORT, "--against", "torchvision", "--workers", 0)
    assert found["images_per_second"].keys() == {"reslab", "torchvision at its best", "torchvision as it comes"}
    rates = found["peer_at_its_best"]["images_per_second_of_each"]
    assert {"transforms of Pillow images, no workers", "v2 transforms of tensors, 1 workers"} <= rates.keys()
    assert found["share_of_peak"] is None
    assert reslab("bench", "data", "--net", NET, *SHORT, "--against", "eager")[0] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "--net", "resnet21"), "unknown network 'resnet21'"),
        (("train", "--net", "resnet20", "--against", "torchvision"), "torchvision has no network that computes what"),
        (("train", "--net", NET, "-b", 1), "--batch-size takes 2 or more, got 1"),
        (("infer", "--net", NET, "-b", 0), "--batch-size takes 1 or more, got 0"),
        (("train", "--net", NET, "--compile-limit", -1), "--compile-limit takes 0 or more, got -1"),
        (("train", "--net", NET, "--rounds", 0), "--rounds takes 1 or more, got 0"),
        (("train", "--net", NET, "--turn", 0), "--turn takes 0.01 or more"),
        (("train", "--net", "mlp(depth=4)"), "takes vectors"),
        (("train", "--net", NET, "--device", "cuda:9"), "--device cuda:9 is not there"),
        (
            ("data", "--net", NET, "-j", 0, "--compile"),
            "bench data only makes batches, so that --compile has no effect",
        ),
        (("fly",), "fly"),
    ],
)
def test_what_is_refused(reslab: Reslab, words: tuple[object, ...], said: str) -> None:
    code, out, err = reslab("bench", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_too_large_a_batch_is_said(reslab: Reslab) -> None:
    code, _, err = reslab("bench", "train", "--net", NET, "-b", 10**13)
    assert code == 2
    assert f"out of memory with {10**13} images of 8x8 at a time; try --batch-size {10**13 // 2}" in err


def test_ours_trains_and_the_peer_too() -> None:
    case = works.Case(resolve_any(NET), 8, Execution(torch.device("cpu")), "fp32")
    ours = works.training(case)
    before = {name: value.clone() for name, value in ours.net.state_dict().items()}
    ours.step()
    assert any(not torch.equal(value, before[name]) for name, value in ours.net.state_dict().items())
    peers.peer_training(case, "eager")()
    for made in (works.batches(case)(), peers.PeerBatches(case, peers.Loading(0))()):
        images, labels = made
        assert images.shape == (8, 3, 8, 8)
        assert labels.shape == (8,)
