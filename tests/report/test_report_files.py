import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from reslab.errors import InputError
from reslab.report import csvs, figure, files, table
from reslab.report.summary import Judgement, Summary
from reslab.report.words import headline

from .sample import sample


def test_files_hold_what_the_summary_holds(tmp_path: Path) -> None:
    summary = sample(published={"resnet20": 8.75})
    written = files.write(summary.model_dump(mode="json"), tmp_path / "out")
    assert sorted(path.name for path in written) == sorted(p.name for p in (tmp_path / "out").iterdir())
    plain = json.loads((tmp_path / "out/summary.json").read_text())
    assert list(plain) == list(Summary.model_fields)
    assert Summary.of(plain) == summary

    with (tmp_path / "out/summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["net"] for row in rows] == ["plain20", "plain56", "resnet20", "resnet56"]
    for line, row in zip(rows, summary.rows, strict=True):
        assert row.train_error is not None
        assert float(line["train_error_mean"]) == pytest.approx(row.train_error.mean, abs=1e-6)
        assert len(line["test_error_values"].split()) == row.n == int(line["n"])
    assert rows[1]["iterations_to_threshold_mean"] == ""
    assert [row["published"] for row in rows] == ["", "", "8.75", ""]

    with (tmp_path / "out/runs.csv").open(newline="") as file:
        runs = list(csv.DictReader(file))
    assert [run["name"] for run in runs] == [run.name for run in summary.runs]
    assert float(runs[3]["final_test_error"]) == summary.runs[3].final_test_error


def test_one_seed_leaves_the_std_empty() -> None:
    line = next(csv.DictReader(csvs.rows(sample(seeds=1)).splitlines()))
    assert line["train_error_std"] == ""
    assert line["train_error_mean"] != ""


def test_figure_formats(tmp_path: Path) -> None:
    summary = sample(depths=(20, 32, 44, 56))
    figure.save(summary, tmp_path / "f.png")
    figure.save(summary, tmp_path / "f.svg")
    figure.save(summary, tmp_path / "f.pdf")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.size == (2400, 960)
    root = ElementTree.parse(tmp_path / "f.svg").getroot()
    assert root.tag.endswith("svg")
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")


def test_the_same_summary_gives_the_same_figure() -> None:
    assert figure.render(sample(), "svg") == figure.render(sample(), "svg")


def test_one_network_gives_one_panel(tmp_path: Path) -> None:
    figure.save(sample(depths=(20,), kinds=("residual",), seeds=1, threshold=None), tmp_path / "f.svg")
    assert (tmp_path / "f.svg").read_text().count('id="axes_') == 1


def test_a_figure_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        figure.save(sample(), tmp_path / "f.gif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overall", ["held", "not held", "not decided"])
def test_table_fits_80_columns(overall: Judgement) -> None:
    summary = sample((20, 32, 44, 56), iterations=64_000, overall=overall, published={"resnet20": 8.75})
    console = Console(width=80, record=True, file=io.StringIO())
    table.print_summary(summary, console)
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    words = " ".join(text.split())
    assert summary.verdict is not None
    assert headline(summary) in words
    for part in ("28.89 ± 1.39", "not reached", "8.75", "853,018", summary.verdict.parts[0].numbers):
        assert part in words
    assert "…" not in text


def test_table_leaves_out_what_there_is_not() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    table.print_summary(sample(seeds=1, depths=(20,), threshold=None), console)
    text = console.export_text()
    assert "±" not in text
    assert "paper" not in text
    assert "iterations" not in text
