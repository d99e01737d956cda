"""The ledger is made of results, and of nothing else."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reslab import studies
from reslab.probes.claims import CLAIMS
from reslab.report.claims import ClaimRow
from reslab.report.summary import Judgement, Summary
from reslab.runs import read_json
from reslab.studies import ledger

from .sample import sample

Reslab = Callable[..., tuple[int, str, str]]


P = 0.01


def write(folder: Path, verdict: Judgement, *, iterations: int = 4000, seeds: int = 3, data: str = "cifar10") -> None:
    """A summary whose first part is about a claim."""
    summary = sample(overall=verdict, iterations=iterations, seeds=seeds, data_name=data)
    assert summary.verdict is not None
    speaks_for, against = {"held": (P, 1.0), "not held": (1.0, P), "not decided": (0.4, 1.0)}[verdict]
    about = {"claim": "he2015-degradation", "verdict": verdict, "speaks_for": speaks_for, "against": against}
    first = summary.verdict.parts[0].model_copy(update=about)
    parts = (first, *summary.verdict.parts[1:])
    changed = summary.model_copy(update={"verdict": summary.verdict.model_copy(update={"parts": parts})})
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(changed.to_json())


def row(roots: list[Path], key: str = "he2015-degradation") -> object:
    return next(row for row in ledger.read(roots).rows if row.key == key)


def test_without_results_nothing_is_decided(tmp_path: Path) -> None:
    rows = ledger.read([tmp_path]).rows
    keys = [claim.key for _, claim in studies.claims()] + [claim.key for claim in CLAIMS]
    assert sorted(row.key for row in rows) == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert {row.verdict for row in rows} == {"not decided"}
    assert not any(row.evidence for row in rows)
    assert all(row.command.startswith(("reslab study ", "reslab probe ")) for row in rows)


def test_the_strongest_evidence_decides(tmp_path: Path) -> None:
    """The papers' data first, then seeds enough for a look, length, more seeds; never what came of it."""
    write(tmp_path / "a", "held", data="digits", iterations=64_000)
    write(tmp_path / "b", "not decided", iterations=1000)
    write(tmp_path / "c", "not held", iterations=4000)
    write(tmp_path / "d", "held", iterations=4000, seeds=5)
    write(tmp_path / "e", "held", iterations=64_000, seeds=1)
    found = row([tmp_path])
    assert isinstance(found, ClaimRow)
    assert found.verdict == "held"
    assert [Path(each.source).parent.name for each in found.evidence] == ["d", "c", "b", "e", "a"]
    assert (found.evidence[0].n, found.evidence[0].of) == (5, "cifar10, 20 and 56 layers, 4,000 iterations, n = 5")


def test_what_is_no_summary_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "good", "held")
    for name, text in (("bad", "{"), ("other", "[]"), ("older", '{"verdict": {"parts": [{"claim": "x"}]}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(text)
    (tmp_path / "comparison").mkdir()
    (tmp_path / "comparison" / "summary.json").write_text(sample().model_copy(update={"verdict": None}).to_json())
    assert getattr(row([tmp_path]), "verdict") == "held"  # noqa: B009
    assert [path.parent.name for path in ledger.read([tmp_path]).passed_over] == ["bad", "older", "other"]


def test_the_command(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    write(tmp_path / "results" / "degradation", "held")
    code, text, err = reslab("claims", tmp_path / "results", "--json")
    assert code == 0, err
    rows = json.loads(text)
    assert all({"claim", "verdict", "paper", "place", "command", "evidence"} <= row.keys() for row in rows)
    assert {row["verdict"] for row in rows} <= {"held", "not held", "not decided"}
    [held] = [row for row in rows if row["verdict"] == "held"]
    assert held["found"]["n"] == 3
    assert held["found"]["numbers"].startswith("28.89 against")

    code, text, _ = reslab("claims", tmp_path / "results")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert "1 held, 0 not held, 0 not decided, " in text
    assert text.rstrip().endswith(" not tested")

    page = tmp_path / "claims.html"
    code, text, _ = reslab("claims", tmp_path / "results", "--html", page, "--open")
    assert code == 0
    assert opened == [page.as_uri()]
    html = page.read_text()
    assert "28.89 against" in html
    assert all(claim.key in html for _, claim in studies.claims())
    assert "http" not in html.replace("http-equiv", "")

    code, _, err = reslab("claims", tmp_path / "results", "--html", page)
    assert code == 2
    assert "overwrite it with --force" in err

    code, _, err = reslab("claims", tmp_path / "nothing")
    assert code == 2
    assert "expected a folder of results" in err


def test_a_real_study_ends_up_in_the_ledger(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--data", "digits", "--iterations", 12, "--batch-size", 32, "--depths", 8, "--seeds", 2)
    code, text, err = reslab("study", "orderings", *words, "--out", tmp_path / "runs" / "orderings", "--json")
    assert code == 0, err
    verdicts = {part["claim"]: part["verdict"] for part in json.loads(text)["verdict"]["parts"]}
    monkeypatch.chdir(tmp_path)
    found = {row.key: row for row in ledger.read([Path("runs")]).rows if row.evidence}
    assert found.keys() == verdicts.keys()
    assert {row.verdict for row in found.values()} == {"not decided"}, "digits decide nothing of photographs"
    assert all("does not count in the ledger" in row.evidence[0].numbers for row in found.values())
    assert all(row.evidence[0].of == "digits, 8 layers, 12 iterations, n = 2" for row in found.values())
    assert not any(row.evidence[0].papers_data for row in found.values())


def test_it_answers_without_torch_and_scipy() -> None:
    """Within a second, on a machine that has better things to do."""
    code = "import sys; import reslab.commands.claims; sys.exit(any(m in sys.modules for m in ('torch', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_summaries_of_the_first_version_can_still_be_read(tmp_path: Path) -> None:
    write(tmp_path / "new", "held")
    plain = read_json(tmp_path / "new" / "summary.json")
    for each in (*plain["runs"], *plain["rows"]):
        each["x"] = None
    expected = Summary.of(plain)
    for each in (*plain["runs"], *plain["rows"]):
        for name in ("label", "group", "x", "measures"):
            each.pop(name, None)
    assert Summary.of(plain) == expected


def test_claims_of_a_paper_or_with_a_verdict(reslab: Reslab, tmp_path: Path) -> None:
    write(tmp_path / "results" / "degradation", "held")
    every = json.loads(reslab("claims", tmp_path / "results", "--json")[1])
    code, text, err = reslab("claims", tmp_path / "results", "--paper", "he2015", "--json")
    assert code == 0, err
    assert json.loads(text) == [row for row in every if row["paper"] == "He et al. 2015"]
    code, text, _ = reslab("claims", tmp_path / "results", "--verdict", "held", "--json")
    assert json.loads(text) == [row for row in every if row["verdict"] == "held"]
    code, text, _ = reslab("claims", tmp_path / "results", "--paper", "veit2016", "--verdict", "not tested", "--json")
    assert json.loads(text) == [row for row in every if row["paper"] == "Veit et al. 2016"]
    code, text, _ = reslab("claims", tmp_path / "results", "--paper", "veit2016", "--verdict", "held")
    assert "0 claims" in text
    code, _, err = reslab("claims", "--paper", "veit2061")
    assert code == 2
    assert "did you mean 'veit2016'" in err


def test_where_results_were_looked_for(reslab: Reslab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, text, _ = reslab("claims")
    assert code == 0
    assert f"{tmp_path / 'results'}, {tmp_path / 'runs'}" in text
    assert "reslab claims FOLDER" in text
    assert "not tested\n" not in text
    assert text.count("\n") < 6


def test_verdicts_are_those_that_the_rate_of_all_claims_allows(tmp_path: Path) -> None:
    """p = 0.04 is a verdict of one claim by itself, and none beside five that show nothing."""
    summary = sample()
    assert summary.verdict is not None
    levels = {"he2015-degradation": 0.0001, "he2015-cure": 0.04, "he2015-beyond-cure": 0.9, "he2015-depth-test": 0.9}
    base = summary.verdict.parts[0].model_copy(update={"verdict": "held", "against": 1.0})
    parts = tuple(base.model_copy(update={"claim": key, "speaks_for": p}) for key, p in levels.items())
    changed = summary.model_copy(update={"verdict": summary.verdict.model_copy(update={"parts": parts})})
    (tmp_path / "summary.json").write_text(changed.to_json())
    found = {row.key: row for row in ledger.read([tmp_path]).rows if row.evidence}
    assert {key: row.verdict for key, row in found.items()} == {
        "he2015-degradation": "held", "he2015-cure": "not decided", "he2015-beyond-cure": "not decided",
        "he2015-depth-test": "not decided",
    }  # fmt: skip
    best = found["he2015-cure"].evidence[0]
    assert (best.p, best.adjusted) == (0.04, 0.08)
    assert best.level == "p = 0.04, adjusted 0.08"


def test_a_summary_by_an_earlier_rule_decides_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a", "held")
    path = tmp_path / "a" / "summary.json"
    plain = read_json(path)
    for part in plain["verdict"]["parts"]:
        del part["speaks_for"], part["against"]
    path.write_text(json.dumps(plain))
    found = row([tmp_path])
    assert isinstance(found, ClaimRow)
    assert found.verdict == "not decided"
    assert "by an earlier version's rule" in found.evidence[0].numbers
