"""A training that was killed, again and again, ends with the same bits as one that was not."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reslab.runs import RunDir, read_json

Forge = Callable[..., tuple[int, str, str]]
Stop = dict[str, Any]

KILLED = -9
# 1,437 digits in batches of 100: an epoch ends in mid-batch, and every kill falls in mid-epoch.
DIGITS = ("he2015_cifar", "--net", "cifar_resnet(depth=8, width=4)", "--data", "digits", "--batch-size", 100)
FEW = ("--iterations", 32, "--set", "log_every=3", "evaluate_every=8", "schedule.drops=[13,24]")
EACH = ("--checkpoint-every", 3, "--threads", 1)
WARM_UP = 'warm_up={"lr":0.01,"until_error":88,"window":5}'

KINDS: dict[str, tuple[object, ...]] = {
    "last": (*DIGITS, *FEW, *EACH),
    # At a rate so high that the best iterate may come before a kill.
    "best": (*DIGITS, *FEW, "optimizer.lr=1", "evaluate_every=4", *EACH, "--holdout", 300),
    "warm-up": (*DIGITS, *FEW, WARM_UP, *EACH),
    "fp32": (*DIGITS, *FEW, *EACH, "--precision", "fp32", "--no-fused"),
}


def outcome(run: Path) -> dict[str, bytes]:
    """What has to be equal byte for byte; the header of the weights holds network and iteration, too."""
    names = ["metrics.jsonl", "recipe.json", "checkpoints/final.safetensors", "checkpoints/best.safetensors"]
    found = {name: (run / name).read_bytes() for name in names if (run / name).exists()}
    clock = ("seconds", "finished", "images_per_second", "waiting_for_data")
    return found | {
        "result": repr({k: v for k, v in read_json(run / "result.json").items() if k not in clock}).encode()
    }


@pytest.fixture(scope="module")
def straight(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """What the run of a kind comes to when nobody kills it."""
    folder = tmp_path_factory.mktemp("straight")

    def run(kind: str) -> dict[str, bytes]:
        out = folder / kind
        code, text, _ = forge("train", *KINDS[kind], "--out", out)
        assert code == 0, text
        assert "heavy:\n" in text, "a training must not wait for libraries that it does not need"
        return outcome(out)

    known: dict[str, dict[str, bytes]] = {}
    return lambda kind: known[kind] if kind in known else known.setdefault(kind, run(kind))


def kill(forge: Forge, words: tuple[object, ...], out: Path, stop: Stop) -> None:
    """Runs a training until it is killed by ``stop``; once more from where it was, where a brief moment was missed."""
    before = out.with_name("before")
    if out.exists():
        shutil.copytree(out, before)
    for _ in range(20):
        code, text, _ = forge("train", *words, stop={"signal": "SIGKILL", "run": str(out), **stop})
        if code == KILLED:
            break
        assert code == 0, text
        shutil.rmtree(out)
        if before.exists():
            shutil.copytree(before, out)
    assert code == KILLED, f"{stop} never came"
    if "file" in stop:
        assert list(out.glob(stop["file"])), "the kill fell after the rename"
    shutil.rmtree(before, ignore_errors=True)


@pytest.mark.parametrize(
    ("kind", "stops"),
    [
        pytest.param("last", [{"lines": 1}, {"lines": 4}, {"lines": 11}], id="mid-epoch"),
        pytest.param("last", [{"evaluations": 1}, {"evaluations": 3}], id="after an evaluation"),
        pytest.param("last", [{"file": "checkpoints/.iteration-*.tmp"}] * 3, id="while a checkpoint is written"),
        pytest.param("last", [{"file": ".result.json.*.tmp"}, {"file": "result.json"}], id="at the end"),
        pytest.param("best", [{"evaluations": 1}, {"file": "checkpoints/.best.*.tmp"}, {"evaluations": 7}], id="best"),
        pytest.param("best", [{"file": "checkpoints/.final.*.tmp"}], id="best, at the end"),
        pytest.param("warm-up", [{"lines": 1}, {"lines": 2}, {"lines": 4}], id="warm-up"),
        pytest.param("fp32", [{"lines": 3}], id="fp32 without fused kernels"),
    ],
)
def test_killed_equals_unkilled(
    kind: str, stops: list[Stop], forge: Forge, straight: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words: tuple[object, ...] = (*KINDS[kind], "--out", out)
    for stop in stops:
        kill(forge, words, out, stop)
        words = ("--resume", out, "--checkpoint-every", 3)  # the rest is as it was, threads included
    code, text, _ = forge("train", *words)
    assert code == 0, text
    assert outcome(out) == straight(kind)
    assert not list(out.rglob("*.tmp")), "what a kill left behind is cleared away"
    assert len(list(out.glob("checkpoints/iteration-*"))) == 2


def test_killed_at_any_time(forge: Forge, straight: Callable[[str], dict[str, bytes]], tmp_path: Path) -> None:
    """From the first moment, where there may be no run yet; a little later each time, until it has come through."""
    out, kills, code = tmp_path / "run", 0, KILLED
    while code == KILLED:
        words = ("--resume", out) if (out / "recipe.json").exists() else (*KINDS["last"], "--out", out)
        stop = {"signal": "SIGKILL", "seconds": 0.06 + 0.07 * kills}
        code, text, _ = forge("train", *words, stop=stop)
        kills += 1
        assert code in (0, KILLED), text
        assert kills < 60
    assert kills > 2
    assert outcome(out) == straight("last")


@pytest.mark.parametrize("file", ["checkpoints", ".recipe.json.*.tmp"])
def test_killed_while_the_run_is_made(file: str, forge: Forge, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = (*DIGITS, "--iterations", 2, "--threads", 1, "--out", out)
    kill(forge, words, out, {"file": file})
    code, text, _ = forge("train", *words)
    assert code == 0, text
    assert RunDir(out).finished


def test_a_run_from_given_weights_is_killed_before_its_first_checkpoint(forge: Forge, tmp_path: Path) -> None:
    common = (*DIGITS, *FEW, "--threads", 1)
    assert forge("train", *common, "--seed", 7, "--out", tmp_path / "first")[0] == 0
    weights = tmp_path / "first" / "checkpoints" / "final.safetensors"
    assert forge("train", *common, "--weights", weights, "--out", tmp_path / "straight")[0] == 0
    stop = {"signal": "SIGKILL", "run": str(tmp_path / "killed"), "lines": 1}
    code, text, _ = forge("train", *common, "--weights", weights, "--out", tmp_path / "killed", stop=stop)
    assert code == KILLED, text
    assert not list(tmp_path.glob("killed/checkpoints/*"))
    code, text, _ = forge("train", "--resume", tmp_path / "killed")
    assert code == 0, text
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")
    drawn = (*common, "--out", tmp_path / "drawn")
    assert forge("train", *drawn)[0] == 0
    assert outcome(tmp_path / "drawn") != outcome(tmp_path / "straight")


def test_a_damaged_newest_checkpoint_costs_only_its_iterations(
    forge: Forge, straight: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    stop = {"signal": "SIGKILL", "run": str(out), "lines": 5}
    assert forge("train", *KINDS["last"], "--out", out, stop=stop)[0] == KILLED
    older, newest = sorted(out.glob("checkpoints/iteration-*"))
    newest.write_bytes(newest.read_bytes()[:-100])
    spare = tmp_path / "spare"
    shutil.copytree(out, spare)
    code, text, _ = forge("train", "--resume", out)
    assert code == 0, text
    assert outcome(out) == straight("last")

    (spare / older.relative_to(out)).write_bytes(b"")
    before = sorted((path, path.stat().st_size) for path in spare.rglob("*") if path.is_file())
    code, text, _ = forge("train", "--resume", spare)
    assert code == 2
    assert f"reslab: error: {spare / newest.relative_to(out)} is not a whole safetensors file" in text
    assert sorted((path, path.stat().st_size) for path in spare.rglob("*") if path.is_file()) == before


def test_ctrl_c_says_how_to_go_on(forge: Forge, straight: Callable[[str], dict[str, bytes]], tmp_path: Path) -> None:
    out = tmp_path / "a run"
    words: tuple[object, ...] = (*KINDS["last"], "--out", out)
    for lines in (1, 4, 8):
        started = time.monotonic()
        code, text, _ = forge("train", *words, stop={"signal": "SIGINT", "run": str(out), "lines": lines})
        assert time.monotonic() - started < 30
        assert code == 130
        assert f"reslab: interrupted; continue with: reslab train --resume '{out}'" in text
        assert "Traceback" not in text
        words = ("--resume", out)
    assert forge("train", *words)[0] == 0
    assert outcome(out) == straight("last")


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
def test_asked_to_stop_it_leaves_a_checkpoint(
    sent: str, forge: Forge, straight: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    """Where it was, and not where the last one was: schedulers give a minute's notice before they take a machine."""
    out = tmp_path / "run"
    words = (*DIGITS, *FEW, "--threads", 1, "--checkpoint-every", 1000, "--out", out)
    code, text, _ = forge("train", *words, stop={"signal": sent, "run": str(out), "lines": 3})
    assert code == 130
    assert "interrupted; continue with" in text
    [left] = out.glob("checkpoints/iteration-*")
    recorded = [json.loads(line)["iteration"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert int(left.stem.partition("-")[2]) >= recorded[-1]
    code, text, _ = forge("train", "--resume", out)
    assert code == 0, text
    assert outcome(out) == straight("last")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_under_deterministic(forge: Forge, tmp_path: Path) -> None:
    cuda = (*DIGITS, *FEW, *EACH, "--device", "cuda", "--deterministic")
    assert forge("train", *cuda, "--out", tmp_path / "straight")[0] == 0
    out = tmp_path / "killed"
    words: tuple[object, ...] = (*cuda, "--out", out)
    stops: list[Stop] = [{"lines": 3}, {"file": "checkpoints/.iteration-*.tmp"}, {"evaluations": 3}]
    for stop in stops:
        kill(forge, words, out, stop)
        words = ("--resume", out, "--checkpoint-every", 3)
    code, text, _ = forge("train", *words)
    assert code == 0, text
    assert outcome(out) == outcome(tmp_path / "straight")
