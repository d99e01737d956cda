"""Any runs side by side."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reslab.runs import RunDir, read_json

Reslab = Callable[..., tuple[int, str, str]]
TINY = ("--data", "digits", "--iterations", 8, "--batch-size", 32)


@pytest.fixture
def trained(reslab: Reslab, tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    for name, words in {
        "a0": ("--seed", 0),
        "a1": ("--seed", 1),
        "again": ("--seed", 1),
        "slow": ("--seed", 0, "--lr", 0.01),
        "plain": ("--net", "cifar_plain(depth=8)"),
    }.items():
        net = () if "--net" in words else ("--net", "cifar_resnet(depth=8)")
        code, _, err = reslab("train", "he2015_cifar", *net, *TINY, *words, "--out", tmp_path / name)
        assert code == 0, err
    return tmp_path


def test_rows_are_recipes_and_seeds_their_runs(trained: Path, reslab: Reslab, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    folders = [trained / name for name in ("a0", "a1", "again", "slow", "plain")]
    code, text, err = reslab("report", *folders, "--out", trained / "report", "--json")
    assert code == 0, err
    summary = json.loads(text)
    assert summary["verdict"] is None
    rows = {row["label"]: row["n"] for row in summary["rows"]}
    assert rows == {
        "cifar_resnet(depth=8), lr 0.1": 3,
        "cifar_resnet(depth=8), lr 0.01": 1,
        "cifar_plain(depth=8)": 1,
    }
    for run in summary["runs"]:
        assert run["final_test_error"] == read_json(RunDir(trained / run["name"]).result)["test_error"]
    assert [run["seed"] for run in summary["runs"] if run["label"].endswith("lr 0.1")] == [0, 1, 2]
    page = (trained / "report" / "report.html").read_text()
    assert "No claim" not in page.partition("</style>")[2].partition("<section")[0]
    assert 'class="verdict' not in page
    assert (trained / "report" / "figure.svg").exists()

    code, text, _ = reslab("report", trained / "report", "--figure", trained / "figure.pdf")
    assert code == 0
    assert "lr 0.01" in text
    assert (trained / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert not opened
    assert reslab("report", trained / "report", "--out", trained / "again", "--open")[0] == 0
    assert opened == [(trained / "again" / "report.html").as_uri()]


def test_what_cannot_be_compared_is_refused(trained: Path, reslab: Reslab) -> None:
    for words, said in (
        ((), "expected folders of runs"),
        ((trained,), "found no recipe.json in it"),
        ((trained / "a0", trained / "nothing"), "found no recipe.json"),
    ):
        code, _, err = reslab("report", *words)
        assert code == 2
        assert said in err
    (trained / "a0" / "result.json").unlink()
    code, _, err = reslab("report", trained / "a0")
    assert code == 2
    assert "holds an unfinished run" in err


def test_runs_with_images_held_out(reslab: Reslab, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    words = ("--net", "cifar_resnet(depth=8)", *TINY, "--holdout", 200, "--out", tmp_path / "held")
    assert reslab("train", "he2015_cifar", *words)[0] == 0
    code, text, err = reslab("report", tmp_path / "held", "--json")
    assert code == 0, err
    [found] = json.loads(text)["runs"]
    assert found["final_test_error"] == read_json(RunDir(tmp_path / "held").result)["test_error"]
    assert found["best_test_error"] is None
