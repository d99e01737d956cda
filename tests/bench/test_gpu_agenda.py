"""The agenda for a GPU machine, as far as it can be seen without one: what it decides from what it measured."""

import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.train import inductor

FILE = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_agenda", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_agenda"] = module
    spec.loader.exec_module(module)
    return module


def context(gpu: ModuleType, tmp_path: Path, *, data: str | None = "digits", seconds: float = 600) -> Any:
    return gpu.Context(data, tmp_path, tmp_path / "runs", time.monotonic() + seconds)


def steps(captured: float | None = 0.0, compiled: float | None = 0.0, bf16: float = 2.0) -> dict[str, Any]:
    """What the first job writes; None is a way that could not be gone."""

    def way(apart: float | None) -> dict[str, Any]:
        return {"why_not": "no"} if apart is None else {"greatest_difference": apart, "seconds_of_first_step": 10.0}

    return {
        "eager in bf16": {"loss": 2.0}, "captured": way(captured), "captured in bf16": {"loss": bf16},
        "compiled and captured": way(compiled), "compiled and captured in bf16": {"loss": 2.0},
    }  # fmt: skip


def test_jobs_have_names_of_their_own(gpu: ModuleType) -> None:
    names = [job.name for job in gpu.agenda()]
    assert len(set(names)) == len(names)
    assert {"study-degradation-4000", "study-orderings-64000"} <= set(names)  # as summaries say: --only study-...


@pytest.mark.parametrize(
    ("seen", "graphs"),
    [
        (None, True),
        (steps(), True),
        (steps(captured=0.1), False),
        (steps(captured=None), False),
        (steps(bf16=2.1), False),
    ],
    ids=["not tried", "the same", "not the same", "not captured", "not in bf16"],
)
def test_captured_unless_that_was_seen_to_be_wrong(
    gpu: ModuleType, tmp_path: Path, seen: dict[str, Any] | None, graphs: bool
) -> None:
    if seen is not None:
        (tmp_path / "captured-is-eager.json").write_text(json.dumps(seen))
    assert gpu._execution(context(gpu, tmp_path)).graphs is graphs


@pytest.mark.parametrize(
    ("seen", "milliseconds", "iterations", "compiles"),
    [
        (steps(), (2.0, 1.0), 64_000, True),
        (steps(), (2.0, 1.0), 4_000, False),  # saves 4 s, and takes 10
        (steps(), (1.0, 2.0), 64_000, False),
        (steps(), (2.0, None), 64_000, False),
        (steps(compiled=0.1), (2.0, 1.0), 64_000, False),
        (steps(compiled=None), (2.0, 1.0), 64_000, False),
    ],
)
def test_compiled_where_it_pays(
    gpu: ModuleType, tmp_path: Path, seen: dict[str, Any], milliseconds: tuple[float, float | None], iterations: int,
    compiles: bool,
) -> None:  # fmt: skip
    for name in ("captured", "compiled"):
        (tmp_path / f"{name}-is-eager.json").write_text(json.dumps(seen))
    names = ("reslab", "reslab compiled")
    seconds = {name: [ms / 1000] for name, ms in zip(names, milliseconds, strict=True) if ms is not None}
    (tmp_path / "speed-resnet20.json").write_text(json.dumps({"seconds": seconds}))
    assert gpu._quickest(context(gpu, tmp_path), "resnet20", iterations).compile is compiles


def test_the_ways_are_compared(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, where nothing is captured: all of it but what only CUDA does."""
    monkeypatch.setattr(gpu, "CUDA", torch.device("cpu"))
    monkeypatch.setattr(inductor, "BACKEND", "aot_eager")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    small = "cifar_resnet(depth=8, width=4)"
    monkeypatch.setattr(gpu, "he2015_cifar", lambda _, info, **more: he2015_cifar(small, info, **{**more, "batch": 32}))
    torch._dynamo.reset()
    where = replace(context(gpu, tmp_path), job="compiled-is-eager")
    found = gpu.compiled_is_eager(where)
    assert found["eager again"]["greatest_difference"] == 0.0
    assert 0 <= found["compiled and captured"]["greatest_difference"] < gpu.SAME
    left = json.loads((tmp_path / "compiled-is-eager.partial.json").read_text())
    assert left == found, "what a job has stands there before it is done"
    (tmp_path / "compiled-is-eager.json").write_text(json.dumps(found))
    assert gpu._apart(context(gpu, tmp_path), "compiled and captured") < gpu.SAME


def test_the_two_calls_fit_a_lease(gpu: ModuleType) -> None:
    """Each call its minutes, the machine its fifteen, and each job the time that it says it takes."""
    assert gpu.LEASE.fits()
    assert gpu.LEASE.spent() <= 15 * 60
    assert max(gpu.LEASE.calls) + gpu.LEEWAY <= 10 * 60
    longer = replace(gpu.LEASE, calls=(60.0 * 5, 60.0 * 9))
    assert not longer.fits()
    jobs = {job.name: job for job in gpu.agenda()}
    assert list(jobs)[: sum(map(len, gpu.CALLS))] == [name for call in gpu.CALLS for name in call], "they come first"
    for names, seconds in zip(gpu.CALLS, gpu.LEASE.calls, strict=True):
        assert 60 * sum(jobs[name].minutes for name in names) <= seconds
    second = [jobs[name] for name in gpu.CALLS[1]]
    assert second[0].resumable
    assert second[0].leaves >= second[1].minutes, "there is time for 94 % however far the trainings came"


def test_what_could_go_on_leaves_time_to_what_is_to_come(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: dict[str, float] = {}

    def command(job: Any, where: Any) -> list[str]:
        left[job.name] = where.left()
        return [sys.executable, "-c", "pass"]

    monkeypatch.setattr(gpu, "_command", command)
    jobs = [
        gpu.Job("long", "", 1.0, 0, lambda _: {}, resumable=True, leaves=2.0),
        gpu.Job("short", "", 1.0, 0, lambda _: {}),
    ]
    gpu.carry_out_all(jobs, context(gpu, tmp_path), 1)
    assert 400 < left["long"] < 600 - 120
    assert left["short"] > 540
    left.clear()
    gpu.carry_out_all(jobs, context(gpu, tmp_path, seconds=130), 1)
    assert list(left) == ["short"], "with ten seconds of its own the first is not begun"
    left.clear()
    (tmp_path / "short.json").write_text("{}")
    gpu.carry_out_all(jobs, context(gpu, tmp_path), 1)
    assert 540 < left["long"] < 600, "nothing is to come"


@pytest.fixture
def rehearses(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "CUDA", torch.device("cpu"))
    monkeypatch.setattr(gpu, "REHEARSES", True)
    monkeypatch.setattr(gpu, "REHEARSED", 6)
    torch.set_num_threads(1)


@pytest.mark.usefixtures("rehearses")
def test_trainings_that_were_cut_short_go_on(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = replace(context(gpu, tmp_path), job="table6")
    run = gpu.table6([("resnet20", 0), ("plain20", 0), ("resnet20", 1)], 64_000, 2)
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "STOPPING", 1e9)  # the end is there as soon as they have begun
        with pytest.raises(gpu.Stopped, match="3 of 3 runs are under way or to come"):
            run(where)
    assert not list(tmp_path.glob("*.json"))
    assert run(where) == {
        "runs": [f"{net}-64000-seed{seed}" for net, seed in (("resnet20", 0), ("plain20", 0), ("resnet20", 1))]
    }
    record = json.loads((tmp_path / "resnet20-64000-seed1.json").read_text())
    assert record["result"]["iterations"] == 6
    assert record["machine"]["gpu"] == "none: a rehearsal on the CPU"
    assert len(run(where)["runs"]) == 3, "and is done before"


@pytest.mark.usefixtures("rehearses")
def test_trainings_at_a_time_are_counted_together(gpu: ModuleType, tmp_path: Path) -> None:
    found = gpu.at_a_time(context(gpu, tmp_path, data=None))
    assert set(found["steps_per_second"]) == {"1", "2"}
    assert all(rate > 0 for rate in found["steps_per_second"].values())


def test_a_call_is_rehearsed(gpu: ModuleType, tmp_path: Path) -> None:
    """In processes of its own, as on a GPU: what each job leaves."""
    pytest.importorskip("triton", reason="Triton is not installed here")
    names = ["kernels", "speed-resnet20"]
    words = [
        sys.executable,
        str(FILE),
        "--rehearse",
        "--call",
        "1",
        "--out",
        str(tmp_path),
        "--runs",
        str(tmp_path / "runs"),
    ]
    run = subprocess.run([*words, "--only", *names], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert "FAILED" not in run.stdout
    assert {path.stem for path in tmp_path.glob("*.json")} == set(names)
    assert set(json.loads((tmp_path / "speed-resnet20.json").read_text())["images_per_second"]) == {
        "reslab", "reslab uncaptured", "eager", "eager as it comes",
    }  # fmt: skip


def test_a_job_that_hangs_is_ended_with_what_it_began(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "alive"
    child = (
        f"import time, pathlib\nwhile True: pathlib.Path({str(mark)!r}).write_text(str(time.time())); time.sleep(.1)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    monkeypatch.setattr(gpu, "_command", lambda *_: [sys.executable, "-c", parent])
    monkeypatch.setattr(gpu, "LEEWAY", -4)  # ended four seconds before the end
    job = gpu.Job("hangs", "nothing", 0.01, 0, lambda _: {})
    gpu.carry_out_all([job], context(gpu, tmp_path, seconds=6), 1)
    assert "hangs                        FAILED: ended with -9" in capsys.readouterr().out
    written = mark.read_text()
    time.sleep(0.5)
    assert mark.read_text() == written
