import json
import subprocess
import sys

import pytest

from reslab.errors import InputError
from reslab.report import view, words
from reslab.report.summary import Curve, Run, Spread, Summary, rows_of

from .sample import run, sample


def test_spread_is_mean_and_sample_standard_deviation() -> None:
    spread = Spread.of([1.0, 2.0, 3.0, 6.0])
    assert spread.mean == 3.0
    assert spread.std == pytest.approx((14 / 3) ** 0.5)
    assert Spread.of([4.0]).std is None


def test_json_and_back_is_the_same_summary() -> None:
    summary = sample(published={"resnet20": 8.75})
    assert Summary.of(json.loads(summary.to_json())) == summary
    assert Summary.of(summary) is summary


def test_what_is_not_a_summary_is_refused_with_its_place() -> None:
    plain = sample().model_dump(mode="json")
    plain["rows"][1]["depth"] = "deep"
    with pytest.raises(InputError, match=r"rows\.1\.depth"):
        Summary.of(plain)
    with pytest.raises(InputError, match="surplus"):
        Summary.of(sample().model_dump() | {"surplus": 1})


def test_a_number_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Spread(mean=float("nan"), std=None, values=(1.0,))


def test_a_curve_is_one_length_and_increases() -> None:
    with pytest.raises(ValueError, match="one length"):
        Curve(iteration=(1, 2), train_error=(1.0,), test_error=(1.0, 2.0))
    with pytest.raises(ValueError, match="increase"):
        Curve(iteration=(2, 2), train_error=(1.0, 1.0), test_error=(1.0, 2.0))


def test_rows_gather_seeds_and_count_those_that_reached() -> None:
    runs = [run("residual", 20, s) for s in range(3)] + [run("plain", 56, s) for s in range(2)]
    late = runs[0].model_copy(update={"iterations_to_threshold": None})
    rows = rows_of([late, *runs[1:]], {"resnet20": 8.75})
    assert [(row.net, row.n, row.reached) for row in rows] == [("resnet20", 3, 2), ("plain56", 2, 0)]
    assert rows[1].iterations_to_threshold is None
    assert rows[0].iterations_to_threshold is not None
    assert len(rows[0].iterations_to_threshold.values) == 2
    assert [row.published for row in rows] == [8.75, None]
    assert words.to_threshold(rows[1]) == "not reached"
    assert words.to_threshold(rows[0]).endswith("(2 of 3)")


def _with_curve(base: Run, steps: list[int], train: list[float | None], test: list[float | None]) -> Run:
    curve = Curve(iteration=tuple(steps), train_error=tuple(train), test_error=tuple(test))
    return base.model_copy(update={"curve": curve})


def test_mean_and_band_only_where_every_seed_has_a_value() -> None:
    base = sample(depths=(20,), kinds=("plain",), seeds=2)
    first = _with_curve(base.runs[0], [0, 10, 20], [90, 50, 10], [None, 60, None])
    second = _with_curve(base.runs[1], [0, 10], [80, 40], [90, 70])
    (panel,) = view.of(base.model_copy(update={"runs": (first, second)})).panels
    (net,) = panel.nets
    assert list(panel.x) == [0, 10, 20]
    assert net.train is not None
    assert list(net.train.mean) == [85, 45, None]
    assert list(net.train.low) == [80, 40, None]
    assert list(net.train.high) == [90, 50, None]
    assert net.train.last == 45
    assert net.test is not None
    assert list(net.test.mean) == [None, 65, None]


def test_runs_without_a_curve_still_make_a_view() -> None:
    base = sample(depths=(20,), kinds=("plain",), seeds=1)
    bare = _with_curve(base.runs[0], [], [], [])
    drawn = view.of(base.model_copy(update={"runs": (bare,)}))
    assert drawn.panels[0].nets[0].train is None
    assert drawn.panels[0].x_max > 0


def test_twins_share_a_colour_and_depths_do_not() -> None:
    colors = {net.net: net.color for panel in view.of(sample(depths=(20, 32, 44, 56))).panels for net in panel.nets}
    assert colors["plain56"] == colors["resnet56"]
    assert len({colors[f"plain{depth}"] for depth in (20, 32, 44, 56)}) == 4


def test_ranges_of_the_error_axis() -> None:
    long = view.of(sample(depths=(20,), kinds=("residual",), iterations=64_000)).y_ranges
    assert long[0] < 60
    assert long[-1] == 100
    assert view.of(sample()).y_ranges[0] == 100


def test_words() -> None:
    assert words.duration(47.6) == "48 s"
    assert words.duration(125) == "2 min 5 s"
    assert words.duration(15155) == "4 h 12 min"
    assert words.moment("2026-03-01T10:00:05.25+00:00") == "2026-03-01 10:00 UTC"
    assert words.moment("2026-03-01T10:00:05Z") == "2026-03-01 10:00 UTC"
    assert words.moment("2026-03-01T10:00:05-05:00") == "2026-03-01 10:00 -05:00"
    assert words.moment("yesterday") == "yesterday"
    assert words.fact((2000, 3000)) == "2,000, 3,000"
    assert words.fact(None) == "–"
    assert words.fact(True) == "yes"
    assert words.spread(Spread.of([7.0])) == "7.00"


def test_the_definition_imports_without_torch_or_a_drawing_library() -> None:
    code = (
        "import sys, reslab.report.summary, reslab.report.table, reslab.published;"
        "print([m for m in ('torch', 'matplotlib', 'jinja2', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
