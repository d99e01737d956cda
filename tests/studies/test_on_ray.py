"""Runs on a real Ray cluster of this machine, one of whose workers is killed; and a store that machines share."""

import json
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from reslab.errors import InputError
from reslab.runs import RunDir, read_json
from reslab.studies import store as store_module
from reslab.studies.on_ray import FOLLOWED
from reslab.studies.store import Store, mirrored

Reslab = Callable[..., tuple[int, str, str]]
WORDS = ("study", "warm-up", "--data", "synthetic", "--depths", 8, "--seeds", 1, "--batch-size", 16)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    # Ray's workers stand back behind all else on a machine, which beside other tests takes minutes.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()
    del os.environ["RAY_worker_niceness"]  # noqa: SIM112


def test_a_worker_that_is_killed_costs_nothing_but_time(cluster: Any, reslab: Reslab, tmp_path: Path) -> None:
    """The run goes on from its checkpoint in another worker, and all end as without a cluster."""
    torch.set_num_threads(1)
    settings = ("--iterations", 40, "--set", "evaluate_every=10")
    code, expected, err = reslab(*WORDS, *settings, "--out", tmp_path / "elsewhere" / "alone", "--json")
    assert code == 0, err
    killed: list[int] = []
    out = tmp_path / "cluster"

    def kill() -> None:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up and not killed:
            for path in out.glob("runs/*/checkpoints/iteration-*"):
                if RunDir(path.parent.parent).finished:
                    continue
                for pid in _workers():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    return
            time.sleep(0.1)

    thread = threading.Thread(target=kill)
    thread.start()
    code, found, err = reslab(*WORDS, *settings, "--out", out, "--on", "ray", "--json")
    thread.join()
    assert code == 0, err
    assert killed
    assert "Ray: 1 machines with 2 CPUs" in err
    one, two = json.loads(expected), json.loads(found)
    assert two["runs"] == one["runs"]
    assert two["verdict"] == one["verdict"]
    begun = [read_json(path)["started"] for path in out.glob("runs/*/env.json")]
    ended = [read_json(path)["finished"] for path in out.glob("runs/*/result.json")]
    assert len(begun) == len(ended) == 2


def _workers() -> list[int]:
    """Processes that carry out a task of ours."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_text()
            except OSError:
                continue
            if command.startswith("ray::_work"):
                found.append(int(folder.name))
    return found


def test_an_error_in_a_run_is_said_in_one_line(cluster: Any, reslab: Reslab, tmp_path: Path) -> None:
    words = (*WORDS, "--iterations", 60, "--out", tmp_path / "study", "--on", "ray")
    run = RunDir(tmp_path / "study" / "runs" / "with-warm-up-seed0")
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "iteration-00000010.safetensors").write_bytes(b"damaged")
    code, _, err = reslab(*words)
    assert code == 2
    assert "exists and is not a" in err
    assert "Traceback" not in err


def test_addresses_that_are_none(reslab: Reslab, tmp_path: Path) -> None:
    for words, said in (
        (("--on", "slurm"), "--on takes ray, or ray://HOST:PORT"),
        (("--on", "ray", "--cpus", 0), "--cpus takes 1 or more"),
        (("--store", "file:///x"), "it goes with --on ray"),
        (("--on", "ray", "--store", "nonsense://x"), "--store nonsense://x cannot be used"),
    ):
        code, _, err = reslab(*WORDS, "--iterations", 2, "--out", tmp_path / "study", *words)
        assert code == 2, words
        assert said in err


def test_a_study_goes_on_by_way_of_a_store(cluster: Any, reslab: Reslab, tmp_path: Path) -> None:
    """What is followed of a run under way is a run that can be gone on with; what depends on a run finds it there."""
    torch.set_num_threads(1)
    sizes = ("--depths", 8, 14, "--seeds", 1, "--batch-size", 16, "--iterations", 6)
    words = ("study", "constructed", "--data", "synthetic", *sizes)
    code, expected, _ = reslab(*words, "--out", tmp_path / "elsewhere" / "alone", "--json")
    assert code == 0
    out, store = tmp_path / "far", f"file://{tmp_path / 'store'}"
    # As an interrupted study leaves it: of one run what was followed, another finished here and not in the store.
    runs = tmp_path / "elsewhere" / "alone" / "runs"
    shutil.copytree(runs / "cifar_plain-depth-8-seed0", out / "runs" / "cifar_plain-depth-8-seed0")
    under_way = out / "runs" / "cifar_resnet-depth-8-seed0"
    under_way.mkdir()
    for name in FOLLOWED:
        shutil.copy(runs / under_way.name / name, under_way / name)
    shutil.copy(tmp_path / "elsewhere" / "alone" / "study.json", out / "study.json")
    code, found, err = reslab(*words, "--out", out, "--on", "ray", "--store", store, "--json")
    assert code == 0, err
    assert json.loads(found)["runs"] == json.loads(expected)["runs"]
    finished = {path.parent.name for path in (tmp_path / "store").glob("*/result.json")}
    assert finished == {path.name for path in (out / "runs").iterdir()}, "also what was made elsewhere and is needed"


def made(folder: Path, name: str) -> RunDir:
    run = RunDir(folder / name)
    run.checkpoints.mkdir(parents=True)
    run.recipe.write_text("{}")
    run.metrics.write_text('{"iteration": 1}\n')
    (run.checkpoints / "iteration-1.safetensors").write_bytes(b"one")
    (run.path / ".lock").write_text("")
    return run


def test_a_store_keeps_runs_as_they_are(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path / 'store'}")
    store.check()
    here = tmp_path / "here"
    run = made(here, "a")
    store.push("a", here)
    (run.checkpoints / "iteration-1.safetensors").unlink()
    (run.checkpoints / "iteration-2.safetensors").write_bytes(b"two!")
    run.metrics.write_text('{"iteration": 1}\n{"iteration": 2}\n')
    store.push("a", here)
    store.pull("a", tmp_path / "there")
    files = {p.relative_to(tmp_path / "there").as_posix() for p in (tmp_path / "there").rglob("*") if p.is_file()}
    assert files == {"a/recipe.json", "a/metrics.jsonl", "a/checkpoints/iteration-2.safetensors"}
    assert RunDir(tmp_path / "there" / "a").read_metrics() == [{"iteration": 1}, {"iteration": 2}]
    store.pull("a", tmp_path / "some", only=("metrics.jsonl",))
    assert not (tmp_path / "some" / "a" / "recipe.json").exists()
    store.pull("nothing", tmp_path / "there")
    assert not (tmp_path / "there" / "nothing").exists()


def test_what_is_mirrored_is_there_at_the_end_even_of_a_failure(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path / 'store'}")
    here = tmp_path / "here"

    def fail() -> None:
        with mirrored(store, ["a"], here):
            made(here, "a")
            raise InputError("the run failed")

    with pytest.raises(InputError, match="the run failed"):
        fail()
    store.pull("a", tmp_path / "there")
    assert RunDir(tmp_path / "there" / "a").read_metrics() == [{"iteration": 1}]


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Store(f"file://{tmp_path / 'file' / 'below'}").check()


def test_a_store_that_fails_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error of the network at the end of hours does not take them."""
    monkeypatch.setattr(store_module, "PAUSES", (0.0, 0.0))
    store = Store(f"file://{tmp_path / 'store'}")
    here, calls, push = tmp_path / "here", [], store.push

    def fails_twice(name: str, folder: Path) -> None:
        calls.append(name)
        if len(calls) < 3:
            raise OSError("503 slow down")
        push(name, folder)

    monkeypatch.setattr(store, "push", fails_twice)
    with mirrored(store, ["a"], here):
        made(here, "a")
    assert len(calls) == 3
    assert (tmp_path / "store" / "a" / "recipe.json").exists()
