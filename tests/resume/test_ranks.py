"""Several ranks train what one trains; one that is killed ends the others, and all go on to the same bits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from reslab.runs import RunDir, read_json
from reslab.train.distributed import overlapping
from reslab.weights.files import read_safetensors

RECIPE = ("he2015_cifar", "--net", "cifar_resnet(depth=8, width=4)", "--data", "digits", "--batch-size", 128)
LENGTH = ("--iterations", 24, "--set", "log_every=5", "evaluate_every=12", "schedule.drops=[9,18]", "optimizer.lr=0.02")
ROUNDING = 1e-4
"""What 24 steps make of it: a kernel's sums in another order, a ReLU that opens a little earlier."""
ALL = (*RECIPE, *LENGTH, "--checkpoint-every", 4, "--threads", 1, "--precision", "fp32")


def weights(run: Path) -> dict[str, Tensor]:
    return read_safetensors(run / "checkpoints" / "final.safetensors")[0]


def apart(one: Path, other: Path) -> float:
    """How far two runs' weights and statistics are apart, as a share of their length."""
    a, b = weights(one), weights(other)
    assert all(torch.equal(a[name], b[name]) for name in a if name.endswith("num_batches_tracked"))
    floats = [name for name in sorted(a) if a[name].is_floating_point()]
    x, y = (torch.cat([state[name].double().flatten() for name in floats]) for state in (a, b))
    return float((x - y).norm() / y.norm())


@pytest.fixture(scope="module")
def two(forge: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that nobody disturbed."""
    out = tmp_path_factory.mktemp("two") / "run"
    words = ("train", *ALL, "--out", out)
    for code, text in forge.ranks(words, words):
        assert code == 0, text
    return out


def test_two_ranks_train_what_one_trains(forge: Any, two: Path, tmp_path: Path) -> None:
    code, text, _ = forge("train", *ALL, "--out", tmp_path / "one")
    assert code == 0, text
    assert apart(two, tmp_path / "one") < ROUNDING
    alone, shared = RunDir(tmp_path / "one").read_metrics(), RunDir(two).read_metrics()
    for a, b in zip(alone, shared, strict=True):
        errors = ("test_error", "train_error")  # one image of 360 may fall on the other side
        assert {k: v for k, v in b.items() if k not in errors} == pytest.approx(
            {k: v for k, v in a.items() if k not in errors}, rel=1e-3
        )
    assert shared[0]["train_error"] == alone[0]["train_error"]  # counted over both shares, from equal weights
    results = [read_json(run / "result.json") for run in (tmp_path / "one", two)]
    assert results[1]["n_test_images"] == results[0]["n_test_images"] == 360
    assert results[1]["test_error"] == pytest.approx(results[0]["test_error"], abs=0.6)
    assert read_json(two / "env.json")["ranks"] == 2


def test_a_share_in_parts_is_the_same_training(forge: Any, two: Path, tmp_path: Path) -> None:
    code, text, _ = forge("train", *ALL, "--accumulate", 2, "--out", tmp_path / "run")
    assert code == 0, text
    assert apart(tmp_path / "run", two) < ROUNDING


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_others_and_all_go_on(forge: Any, two: Path, tmp_path: Path, victim: int) -> None:
    out = tmp_path / "run"
    words = ("train", *ALL, "--out", out)
    stop = {"signal": "SIGKILL", "rank": victim, "run": str(out), "lines": 2}
    for _ in range(10):
        ended = forge.ranks(words, words, stop=stop)
        if ended[victim][0] == -9:
            break
        shutil.rmtree(out)
    code, text = ended[1 - victim]
    assert code == 2, text
    assert f"reslab [rank {1 - victim}]: error: another rank ended or did not answer" in text
    assert "go on from the last checkpoint" in text
    for code, text in forge.ranks(words, words):
        assert code == 0, text
    assert (out / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    assert all(torch.equal(tensor, weights(two)[name]) for name, tensor in weights(out).items())


def test_ranks_that_differ(forge: Any, tmp_path: Path) -> None:
    words = ("train", *ALL, "--out", tmp_path / "run")
    for rank, (code, text) in enumerate(forge.ranks(words, (*words, "--seed", 1))):
        assert code == 2, text
        assert f"reslab [rank {rank}]: error: the ranks differ in their recipe" in text
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_told_to_all(forge: Any, two: Path) -> None:
    words = ("train", *ALL, "--out", two)
    for code, text in forge.ranks(words, words):
        assert code == 0, text


Reslab = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--accumulate", 3), "a batch of 128 cannot be divided evenly among 3 parts"),
        (("--accumulate", 4), "the recipe computes BN's statistics over groups of 64 images, but each of 4 parts"),
        (("--accumulate", 0), "--accumulate takes 1 or more parts of a batch, got 0"),
        (("--accumulate", 2, "--set", "bn_group=null"), "BN's statistics over the whole batch, but each of 2 parts"),
    ],
)
def test_batches_that_cannot_be_shared_out(
    reslab: Reslab, tmp_path: Path, words: tuple[object, ...], says: str
) -> None:
    code, _, text = reslab("train", *RECIPE, "--iterations", 2, "--out", tmp_path / "run", *words)
    assert code == 2
    assert says in text
    assert not (tmp_path / "run").exists()


def test_a_rank_that_never_comes_to_the_training(forge: Any, tmp_path: Path) -> None:
    """Its data is not there; the other is told, and has written nothing."""
    words = ("train", *ALL, "--out", tmp_path / "run")
    other = [tmp_path / "nowhere" if word == "digits" else word for word in words]
    (code, text), (failed, why) = forge.ranks(words, other)
    assert failed == code == 2
    assert "reslab [rank 1]: error:" in why
    assert "nowhere" in why
    assert "reslab [rank 0]: error: another rank ended or did not answer" in text
    assert not (tmp_path / "run").exists()


def test_gradients_are_averaged_while_the_backward_pass_goes_on(tmp_path: Path) -> None:
    """What GPUs use; here in a world of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        net = nn.Linear(3, 2)
        shared = overlapping(net)
        x = torch.randn(4, 3)
        shared(x).sum().backward()
        assert net.weight.grad is not None
        torch.testing.assert_close(net.weight.grad, x.sum(0).expand(2, 3))
    finally:
        dist.destroy_process_group()
