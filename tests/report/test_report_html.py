import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reslab.nets import build
from reslab.nets.describe import describe
from reslab.nets.svg import block
from reslab.report import html
from reslab.report.page import asset
from reslab.report.summary import Judgement, Summary, rows_of

from .sample import sample

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that elements close in order, and gathers addresses, scripts and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._script: str | None = None
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)
        self._script = (given.get("id") or "code") if tag == "script" else None

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"circle", "path"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif "style" not in self.open:
            self.text += data


def page(summary: Summary) -> Page:
    return Page(html.render(summary))


def words(text: str) -> str:
    return " ".join(text.split())


def test_nothing_is_loaded_from_outside() -> None:
    text = html.render(sample(published={"resnet20": 8.75}))
    for address in Page(text).addresses:
        assert address.startswith(("data:", "#")), address
    without_comments = re.sub(r"<!--.*?-->|/\*.*?\*/", "", text, flags=re.DOTALL)
    assert not re.findall(r"(?:url\(|@import|src=|href=)[\s\"']*(?:https?:)?//", without_comments)
    assert "default-src 'none'" in text
    assert "Leon Sorokin" in text, "the licence of the chart library travels with it"


def test_verdict_rule_and_numbers_are_said() -> None:
    summary = sample()
    assert summary.verdict is not None
    text = words(page(summary).text)
    for part in (
        summary.title,
        summary.question,
        summary.verdict.sentence,
        summary.verdict.rule,
        summary.command,
    ):
        assert words(part) in text
    for row in ("28.89 ± 1.39", "269,722", "not reached"):
        assert row in text
    for line in (*summary.how_measured, *summary.differs_from_paper, *summary.caveats):
        assert words(line) in text
    assert text.index(summary.verdict.sentence) < text.index(summary.verdict.rule)


@pytest.mark.parametrize(
    ("overall", "headline"),
    [
        ("held", "The claims held here."),
        ("not held", "Not all of the claims held here."),
        ("not decided", "Not decided here."),
    ],
)
def test_headline(overall: Judgement, headline: str) -> None:
    text = page(sample(overall=overall)).text
    assert headline in text
    assert ("It is not a finding against the claim." in text) == (overall == "not decided")


def test_published_only_where_there_is_any() -> None:
    assert "Published" not in page(sample()).text
    text = page(sample(published={"resnet20": 8.75})).text
    assert "Published" in text
    assert "8.75" in text


def test_one_run_and_one_seed_have_no_spread() -> None:
    text = page(sample(depths=(20,), kinds=("residual",), seeds=1, threshold=None)).text
    assert "±" not in text
    assert "one seed, so no spread" in text
    assert "Iterations to" not in text


def test_without_known_differences_nothing_is_claimed_of_them() -> None:
    text = page(sample().model_copy(update={"differs_from_paper": (), "caveats": ()})).text
    assert "differ from the paper" not in text
    assert "are the paper’s" not in text
    assert "Caveats" not in text


def test_both_times_are_said() -> None:
    text = words(page(sample()).text)
    assert "wall clock, pauses included4 h 12 min" in text
    assert "sum over 12 runs4 h 12 min" in text
    several = sample().model_copy(update={"finished": "2026-03-01T10:02:05+00:00", "wall_seconds": 285.0})
    text = words(page(several).text)
    assert "wall clock, pauses included2 min" in text
    assert "sum over 12 runs4 min 45 s" in text


def test_why_shortcuts_help_is_told_where_they_are_tried() -> None:
    found = words(page(sample()).text)
    assert "Why shortcuts help" in found
    assert "exists by construction" in found
    assert "exists by construction" not in page(sample().model_copy(update={"study": "depth"})).text


def test_hostile_names_stay_text() -> None:
    name = "</script><script>alert(1)</script><!-- & \" ' <b>"
    summary = sample(data_name=name)
    runs = tuple(run.model_copy(update={"name": name}) for run in summary.runs)
    found = page(summary.model_copy(update={"runs": runs, "question": name}))
    assert name in found.text
    assert set(found.scripts) == {"summary", "view", "code"}
    assert json.loads(found.scripts["summary"])["data"]["name"] == name
    assert "alert(1)" not in found.scripts["code"]


def test_embedded_data_are_the_summary_and_the_csvs() -> None:
    summary = sample()
    found = page(summary)
    assert Summary.of(json.loads(found.scripts["summary"])) == summary
    csvs = [a.partition(",")[2] for a in found.addresses if a.startswith("data:text/csv")]
    heads = [base64.b64decode(text).decode().splitlines()[0] for text in csvs]
    assert [head.split(",")[0] for head in heads] == ["label", "name"]


def test_written_from_a_plain_dict(tmp_path: Path) -> None:
    html.write(json.loads(sample().to_json()), tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text().startswith("<!doctype html>")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]


def test_runs_without_a_verdict_have_a_page_too() -> None:
    found = page(sample().model_copy(update={"verdict": None}))
    assert "held" not in found.text
    assert "28.89 ± 1.39" in found.text


def test_errors_over_x_are_drawn_before_the_curves() -> None:
    """A line for each group through the means of its rows; the ends that a reader can check in the table."""
    summary = sample(x_label="depth")
    view = json.loads(page(summary).scripts["view"])
    points, *curves = view["panels"]
    assert (points["style"], points["x"], points["x_label"]) == ("points", [20.0, 56.0], "depth")
    assert {panel["style"] for panel in curves} == {"curves"}
    lines = {net["net"]: net for net in points["nets"]}
    for group in ("plain networks", "residual networks"):
        rows = [row for row in summary.rows if row.group == group]
        assert lines[group]["test"]["mean"] == [round(row.test_error.mean, 3) for row in rows]
        assert lines[group]["train"]["low"] == [min(row.train_error.values) for row in rows if row.train_error]
        assert len(lines[group]["seeds"]) == 3


def test_rows_of_one_network_are_told_apart() -> None:
    """Two trainings of one network are two rows, two lines and two colours."""
    runs = sample(depths=(20,), kinds=("residual",)).runs
    twice = [
        run.model_copy(update={"label": label, "name": f"{label}-{run.seed}"})
        for label in ("with warm-up", "without")
        for run in runs
    ]
    summary = sample(depths=(20,), kinds=("residual",)).model_copy(
        update={"runs": tuple(twice), "rows": rows_of(twice)}
    )
    found = page(summary)
    [panel] = json.loads(found.scripts["view"])["panels"]
    assert [net["net"] for net in panel["nets"]] == ["with warm-up", "without"]
    assert len({net["color"] for net in panel["nets"]}) == 2
    assert "with warm-up resnet20" in words(found.text)


def test_what_is_measured_beside_stands_with_the_runs() -> None:
    summary = sample()
    runs = tuple(run.model_copy(update={"measures": {"log10_ratio": -0.125}}) for run in summary.runs)
    text = page(summary.model_copy(update={"runs": runs})).text
    assert "log10 ratio" in text
    assert text.count("-0.125") == len(runs)


@pytest.mark.parametrize(("net", "title"), [("plain20", "Plain"), ("resnet20", "Residual")])
def test_blocks_of_the_explanation_are_those_that_are_drawn(net: str, title: str) -> None:
    told = describe(build(net).spec)
    assert asset(f"{title.lower()}-block.svg") == block(told.kinds[0], title)
