"""The study: its plan, what it says of the paper, and real runs that stop, go on and share a machine."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reslab.data.sources import load
from reslab.data.spec import Augment, DataInfo
from reslab.errors import InputError
from reslab.runs import RunDir, append_line, read_json, write_json
from reslab.studies.design import twins
from reslab.studies.he2015_figure6 import STUDY
from reslab.studies.plan import Plan, differences
from reslab.studies.summarise import summarise
from reslab.train.device import resolve_precision
from reslab.train.recipe import Recipe

Reslab = Callable[..., tuple[int, str, str]]

CIFAR10 = DataInfo(
    name="cifar10",
    source="made by hand",
    fingerprint="0",
    classes=tuple("abcdefghij"),
    channels=3,
    size=(32, 32),
    n_train=50_000,
    n_test=10_000,
    augment=Augment(pad=4, flip=True),
)


def finish(folder: Path, recipe: Recipe, error: float) -> None:
    """A finished run, written by hand as the loop writes it."""
    precision = resolve_precision(recipe.precision, torch.device("cpu"))
    run = RunDir(folder)
    env = {"started": "2026-01-01T00:00:00+00:00", "threads": 2, "data": {"fingerprint": "0"}}
    run.create(recipe.model_copy(update={"precision": precision}).model_dump(mode="json"), env)
    for at in (recipe.iterations // 2, recipe.iterations):
        append_line(run.metrics, {"iteration": at, "train_error": error, "test_error": error})
    result = {"params": 1, "train_error": error, "test_error": error, "best_test_error": error, "seconds": 1.0}
    write_json(run.result, result | {"finished": "2026-01-01T00:01:00+00:00"})


def recipes_of(plan: Plan) -> dict[str, Recipe]:
    return {run.name: run.recipe for run in plan.planned()}


def finish_all(plan: Plan, folder: Path) -> None:
    for name, recipe in recipes_of(plan).items():
        deep_and_plain = recipe.own_net.depth == max(plan.depths) and not recipe.own_net.is_residual
        finish(folder / name, recipe, 30.0 + recipe.seed if deep_and_plain else 1.0)


def test_the_runs_are_paired() -> None:
    plan = Plan(STUDY, CIFAR10, depths=(56, 20, 20), seeds=2, iterations=4000)
    recipes = recipes_of(plan)
    assert list(recipes) == [
        f"{kind}{depth}-seed{seed}" for seed in (0, 1) for depth in (20, 56) for kind in ("plain", "resnet")
    ]
    for name, recipe in recipes.items():
        assert recipe.net.name == name.partition("-")[0]
        other = recipes[f"plain{recipe.own_net.depth}-seed{recipe.seed}"]
        assert recipe.model_dump(exclude={"net"}) == other.model_dump(exclude={"net"})


def test_names_of_other_depths() -> None:
    assert twins(20) == ("plain20", "resnet20")
    assert twins(8) == ("cifar_plain(depth=8)", "cifar_resnet(depth=8)")


@pytest.mark.parametrize("setting", ["seed=1", "iterations=5", "global_batch=64", "data.holdout=10", "net.name=x"])
def test_what_the_report_relies_on_cannot_be_set(setting: str) -> None:
    field, _, value = setting.partition("=")
    with pytest.raises(InputError, match=rf"^--set {field}={value}: the study fixes this field"):
        Plan(STUDY, CIFAR10, depths=(20, 56), seeds=2, iterations=4000, settings=(setting,))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"iterations": 4000}, ["Length: 4,000 iterations instead of 64,000"]),
        ({"batch": 64}, ["Batch: 64 instead of 128."]),
        ({"settings": ("optimizer.lr=0.05",)}, ["Settings changed: optimizer.lr=0.05."]),
        ({"info": CIFAR10.model_copy(update={"name": "cifar100"})}, ["Data: cifar100"]),
        ({"info": CIFAR10.model_copy(update={"n_train": 45_000})}, ["Data: cifar10 (45,000 training images"]),
    ],
)
def test_published_figures_stand_only_beside_the_papers_protocol(
    changes: dict[str, Any], said: list[str], tmp_path: Path
) -> None:
    plan = Plan(**{"study": STUDY, "info": CIFAR10, "depths": (8, 20, 56), "seeds": 1, "iterations": 64_000, **changes})
    assert len(differences(plan)) == len(said)
    for text, start in zip(differences(plan), said, strict=True):
        assert text.startswith(start)
    finish_all(plan, tmp_path)
    summary = summarise(plan, tmp_path, command="")
    published = {row.net: row.published for row in summary.rows}
    if said:
        assert set(published.values()) == {None}
    else:
        # Table 6 of the paper; it has neither depth 8 nor the plain networks.
        assert published == {
            "cifar_plain(depth=8)": None,
            "cifar_resnet(depth=8)": None,
            "plain20": None,
            "plain56": None,
            "resnet20": 8.75,
            "resnet56": 6.97,
        }
    assert summary.differs_from_paper[:-1] == differences(plan)
    assert summary.differs_from_paper[-1].startswith("Networks: of 8 and 20 and 56 layers;")


SMALL = ("study", "degradation", "--data", "digits", "--depths", 8, 14, "--iterations", 12, "--batch-size", 32)


def stamps(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(out.glob("runs/*/*")) if path.name != ".lock"}


def test_a_real_study(reslab: Reslab, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    out = tmp_path / "study"
    code, text, err = reslab(*SMALL, "--seeds", 2, "--set", "optimizer.nesterov=true", "--out", out)
    assert code == 0, err
    assert "8 runs of 12 iterations on digits" in err
    assert err.splitlines()[-1] == f"Report: {out / 'report.html'}"
    assert "The deeper plain network has the higher training error. " in " ".join(text.split())

    summary = json.loads((out / "summary.json").read_text())
    assert [row["net"] for row in summary["rows"]] == [
        f"cifar_{kind}(depth={depth})" for kind in ("plain", "resnet") for depth in (8, 14)
    ]
    assert all(row["n"] == 2 and row["published"] is None for row in summary["rows"])
    assert summary["machine"]["threads"] == "1"
    # The rate that suits digits stays, unless it is what was set.
    assert summary["recipe"]["lr"] == 0.02
    assert "--set optimizer.lr=0.02 optimizer.nesterov=true" in summary["command"]
    for run in summary["runs"]:
        lines = RunDir(out / "runs" / run["name"]).read_metrics()
        assert run["curve"]["train_error"] == [line["train_error"] for line in lines]
        assert run["final_test_error"] == lines[-1]["test_error"]
    rows = list(csv.DictReader((out / "summary.csv").read_text().splitlines()))
    assert [row["net"] for row in rows] == [row["net"] for row in summary["rows"]]
    page = (out / "report.html").read_text()
    assert "<html" in page
    assert not any(f'{word}="http' in page for word in ("src", "href=", "link"))

    before = stamps(out)
    words = summary["command"].split()[1:]
    code, again, err = reslab(*words, "--out", out, "--json")
    assert code == 0, err
    assert json.loads(again)["runs"] == summary["runs"]
    assert "8 of 8 runs are finished already" in err
    assert stamps(out) == before

    code, again, err = reslab(*SMALL, "--seeds", 3, "--set", "optimizer.nesterov=true", "--out", out, "--json")
    assert code == 0
    assert "8 of 12 runs are finished already" in err
    assert {path: stamp for path, stamp in stamps(out).items() if path in before} == before
    assert [row["n"] for row in json.loads(again)["rows"]] == [3] * 4

    # A finished run of another recipe, of an older version say, is not passed off as part of this study.
    recipe = out / "runs" / "cifar_plain-depth-8-seed0" / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"precision": "', '"precision": "x'))
    code, _, err = reslab(*SMALL, "--seeds", 2, "--set", "optimizer.nesterov=true", "--out", out)
    assert code == 2
    assert "cifar_plain-depth-8-seed0 already holds a run of another recipe" in err


# Not digits: each process would import scikit-learn.
JOBS = ("study", "degradation", "--data", "synthetic", "--depths", 8, 14, "--seeds", 1, "--batch-size", 16)


NEVER = ("--iterations", 100_000, "--set", "evaluate_every=100000", "log_every=1")
"""Runs that would go on for hours if nothing ended them."""


def test_jobs_share_the_threads_and_give_the_same_results(forge: Reslab, reslab: Reslab, tmp_path: Path) -> None:
    words = (*SMALL, "--seeds", 1)
    code, text, _ = forge(*words, "--jobs", 2, "--out", tmp_path / "two")
    assert code == 0, text
    assert text.count("training error ") >= 4
    torch.set_num_threads(1)  # as many as each of the jobs had
    assert reslab(*words, "--out", tmp_path / "one")[0] == 0
    names = [path.name for path in sorted((tmp_path / "one" / "runs").iterdir())]
    assert len(names) == 4
    for name in names:
        for file in ("metrics.jsonl", "recipe.json", "checkpoints/final.safetensors"):
            one, two = (tmp_path / jobs / "runs" / name / file for jobs in ("one", "two"))
            assert one.read_bytes() == two.read_bytes(), (name, file)
    first, second = (read_json(tmp_path / jobs / "summary.json") for jobs in ("one", "two"))
    assert first["rows"] == second["rows"]
    assert first["verdict"] == second["verdict"]


def free(run: RunDir) -> bool:
    try:
        with run.lock():
            return True
    except InputError:
        return False


def wait_until_free(out: Path) -> list[RunDir]:
    give_up = time.monotonic() + 15
    runs = [RunDir(folder) for folder in out.glob("runs/*")]
    while not all(map(free, runs)):
        assert time.monotonic() < give_up, "a run went on after its study was gone"
        time.sleep(0.05)
    return runs


def test_killed_with_several_jobs_under_way(forge: Reslab, tmp_path: Path) -> None:
    """The kill hits the first process alone; those of the runs must not go on unseen, holding their folders."""
    out = tmp_path / "study"
    stop = {"signal": "SIGKILL", "run": str(out), "file": "runs/*/metrics.jsonl"}
    code, text, _ = forge(*JOBS, *NEVER, "--jobs", 2, "--out", out, stop=stop)
    assert code == -9, text
    assert not any(run.finished for run in wait_until_free(out))


def test_a_failing_job_ends_the_study_with_its_error(forge: Reslab, tmp_path: Path) -> None:
    out = tmp_path / "study"
    plan = Plan(
        STUDY, load("synthetic").info, depths=(8, 14), seeds=1, iterations=100_000, batch=16, settings=NEVER[3:]
    )
    name, recipe = next(iter(recipes_of(plan).items()))
    run = RunDir(out / "runs" / name)
    precision = resolve_precision(recipe.precision, torch.device("cpu"))
    env = {"data": {"fingerprint": plan.info.fingerprint}}
    run.create(recipe.model_copy(update={"precision": precision}).model_dump(mode="json"), env)
    (run.checkpoints / "iteration-00000010.safetensors").write_bytes(b"damaged")
    write_json(out / "study.json", plan.mark())
    started = time.monotonic()
    code, text, _ = forge(*JOBS, *NEVER, "--jobs", 2, "--out", out)
    assert code == 2, text
    assert text.count("reslab: error: ") == 1
    assert "iteration-00000010.safetensors is not a whole safetensors file" in text
    assert "Traceback" not in text
    assert time.monotonic() - started < 60
    wait_until_free(out)


def test_an_interrupted_study_goes_on(forge: Reslab, tmp_path: Path) -> None:
    out = tmp_path / "study"
    words = (*SMALL, "--seeds", 1, "--out", out)
    stop = {"signal": "SIGINT", "run": str(out), "file": "runs/*/result.json"}
    code, text, _ = forge(*words, stop=stop)
    assert code == 130
    assert "reslab: interrupted; repeat the command to continue; finished runs are not run again" in text
    assert "Traceback" not in text
    before = stamps(out)
    code, text, _ = forge(*words)
    assert code == 0
    assert "of 4 runs are finished already" in text
    done = [path.parent for path in before if path.name == "result.json"]
    assert all(stamps(out)[path] == stamp for path, stamp in before.items() if path.parent in done)


def test_the_demo_from_finished_runs(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its twelve trainings take two minutes; here they are made by hand, and all that follows is real."""
    out = tmp_path / "demo"
    plan = Plan(
        STUDY, load("digits").info, depths=(20, 56), seeds=3, iterations=500, batch=64, settings=("optimizer.lr=0.02",)
    )
    finish_all(plan, out / "runs")
    write_json(out / "study.json", plan.mark())
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    code, text, err = reslab("demo", "--out", out, "--open")
    assert code == 0, err
    assert "12 of 12 runs are finished already" in err
    assert opened == [(out / "report.html").as_uri()]
    said = " ".join(text.split())
    for words in (
        "about two minutes",
        "The claims held here. ✓ The deeper plain network has the higher training error. held",
        "What it cannot show: degradation after convergence",
        "reslab nets resnet56",
        "reslab train he2015_cifar --data cifar10",
        "reslab study degradation --data cifar10 --iterations 4000",
    ):
        assert words in said
    assert f"Report: {out / 'report.html'}" in err
    code, text, _ = reslab("demo", "--out", out, "--json")
    assert len(opened) == 1
    assert json.loads(text)["verdict"]["overall"] == "held"
    assert read_json(out / "summary.json")["verdict"]["overall"] == "held"


def test_runs_of_an_earlier_version_still_count(tmp_path: Path, reslab: Reslab) -> None:
    """A field that came with a later version, at its default, makes no other recipe."""
    words = ("study", "degradation", "--data", "digits", "--depths", 8, 14, "--seeds", 1, "--iterations", 2, "-b", 32)
    assert reslab(*words, "--out", tmp_path)[0] == 0
    for path in tmp_path.glob("runs/*/recipe.json"):
        saved = read_json(path)
        del saved["test_time"]
        del saved["schedule"]["kind"]
        write_json(path, saved)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/metrics.jsonl")}
    code, _, err = reslab(*words, "--out", tmp_path)
    assert code == 0, err
    assert "4 of 4 runs are finished already" in err
    assert {path: path.stat().st_mtime_ns for path in before} == before
