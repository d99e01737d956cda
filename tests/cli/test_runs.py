"""``reslab runs``: what was trained here."""

import subprocess
import sys
from pathlib import Path

from reslab.runs import read_json

from .sample import TINY, TRAIN, Reslab, refused, said


def test_runs_are_listed(reslab: Reslab) -> None:
    assert reslab(*TRAIN, "--net", TINY, "--out", "runs/first", "--seed", 7)[0] == 0
    assert reslab(*TRAIN, "--net", TINY, "--out", "runs/study/runs/second")[0] == 0
    second = Path("runs/study/runs/second")
    (second / "result.json").unlink()
    lines = (second / "metrics.jsonl").read_text().splitlines()
    (second / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines[:-2]))
    Path("runs/broken").mkdir()
    Path("runs/broken/recipe.json").write_text("{")
    found = {entry["path"]: entry for entry in said(reslab, "runs", "--json")}
    assert set(found) == {"runs/first", "runs/study/runs/second"}
    first = found["runs/first"]
    assert (first["recipe"], first["net"], first["data"], first["seed"]) == ("he2015_cifar", TINY, "digits", 7)
    assert (first["done"], first["iterations"], first["finished"]) == (4, 4, True)
    assert first["test_error"] == read_json(Path("runs/first/result.json"))["test_error"]
    assert not found[str(second)]["finished"]
    assert 0 < found[str(second)]["done"] < 4
    code, out, err = reslab("runs")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for words in ("first", "study/runs", TINY.split("(")[0], "finished", "of 4", "2 runs in runs"):
        assert words in out
    assert "Cannot be read: runs/broken" in err
    assert [entry["path"] for entry in said(reslab, "runs", "runs/study", "--json")] == [str(second)]


def test_nothing_to_list(reslab: Reslab) -> None:
    assert "name another: reslab runs FOLDER" in refused(reslab, "runs")
    Path("empty").mkdir()
    assert reslab("runs", "empty") == (0, "0 runs in empty\n", "")


def test_it_does_not_wait_for_torch() -> None:
    Path("runs").mkdir()
    code = (
        "import sys; from reslab.cli import main\n"
        "for words in (['runs'], ['published'], ['claims', '--verdict', 'held']): main(words)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
