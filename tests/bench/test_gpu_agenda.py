"""The agenda for a GPU machine, as far as it can be seen without one: what it decides from what it measured."""

import importlib.util
import json
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
    monkeypatch.setattr(gpu, "he2015_cifar", lambda _, info, **more: he2015_cifar(small, info, batch=32, **more))
    torch._dynamo.reset()
    where = replace(context(gpu, tmp_path), job="compiled-is-eager")
    found = gpu.compiled_is_eager(where)
    assert found["eager again"]["greatest_difference"] == 0.0
    assert 0 <= found["compiled and captured"]["greatest_difference"] < gpu.SAME
    left = json.loads((tmp_path / "compiled-is-eager.partial.json").read_text())
    assert left == found, "what a job has stands there before it is done"
    (tmp_path / "compiled-is-eager.json").write_text(json.dumps(found))
    assert gpu._apart(context(gpu, tmp_path), "compiled and captured") < gpu.SAME


def test_the_agenda_begins_with_what_fits_a_lease(gpu: ModuleType) -> None:
    """Correctness and speed take less than five of the nine minutes of a call, so that trainings have the rest."""
    first = next(i for i, job in enumerate(gpu.agenda()) if job.resumable)
    assert gpu.agenda()[0].name == "captured-is-eager"
    assert gpu.agenda()[0].minutes <= 0.5
    assert sum(job.minutes for job in gpu.agenda()[:first]) <= 7


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
