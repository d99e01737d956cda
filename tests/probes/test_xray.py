"""The figures: measured with their cost first, kept one by one, and drawn from what was kept."""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.figure import Figure as Canvas

from reslab.commands.options.probe import GROUPS as OPTIONS
from reslab.errors import InputError
from reslab.nets import build
from reslab.probes import drawing, plots
from reslab.probes.chain import Passes
from reslab.probes.figures import FIGURES, GROUPS
from reslab.probes.result import Result
from reslab.probes.xray import Clock, Subject, Task, as_name, chance, measure, plan
from reslab.report import sheet

from .tiny import PLAIN, PREACTIVATION, logits, network, sample

QUICK = ["responses", "signal", "shares", "lesions", "gradients", "downsampling", "attribution"]


def subject(name: str = PREACTIVATION, *, key: str = "a", n: int = 12) -> Subject:
    return Subject(f"a {name[:12]}", network(name), sample(n, batch=6), {"weights": key})


def test_cost_comes_first_and_results_are_kept(tmp_path: Path) -> None:
    one = subject()
    first = plan([one], QUICK, tmp_path)
    assert [task.figure for task in first.tasks] == QUICK
    assert all(task.seconds > 0 for task in first.tasks if task.figure != "downsampling")
    assert first.seconds == sum(task.seconds for task in first.tasks)
    told: list[tuple[str, float]] = []
    done = measure(first, tmp_path, tell=lambda task, share: told.append((task.figure, share)))
    assert ("lesions", 0.5) in told
    assert told[0] == ("responses", 0.0)
    files = sorted(path.stem for path in (tmp_path / as_name(one.label)).glob("*.json"))
    assert files == sorted(QUICK)
    kept = json.loads((tmp_path / as_name(one.label) / "lesions.json").read_text())
    assert kept["key"]["weights"] == "a"
    assert kept["said"].startswith("at chance: its error is 91.7 % on 12 images, no better than guessing (83.3 %)")
    assert kept["cite"].startswith("Veit")

    again = plan([one], QUICK, tmp_path)
    assert all(task.kept is not None for task in again.tasks)
    assert again.seconds == 0
    same = measure(again, tmp_path)
    for name in QUICK:
        assert same.results[name][0][1].to_dict() == done.results[name][0][1].to_dict()


def test_forecast_is_passes_times_seconds_of_a_pass() -> None:
    clock = Clock(fused=0.001, single=0.002)
    assert clock.seconds(Passes(fused=3, single=4), images=10) == pytest.approx(10 * (3 * 0.001 + 4 * 0.002))
    found = Clock.of(subject())
    assert found.fused > 0
    assert found.single > 0


@pytest.mark.parametrize("name", [PREACTIVATION, PLAIN])
@pytest.mark.parametrize("figure", ["lesions", "deletions", "permutations"])
def test_passes_of_lesions_are_counted_exactly(name: str, figure: str) -> None:
    """What each block is really called, against what was forecast; counting multiply-adds takes a call more."""
    net, data = network(name), sample(12, batch=12)
    calls = 0

    def called(*_: object) -> None:
        nonlocal calls
        calls += 1

    for block in net.blocks:
        block.register_forward_hook(called)
    FIGURES[figure].measure(net, data, lambda _share: None)
    cost = FIGURES[figure].cost(net)
    assert calls - len(net.blocks) == round((cost.fused + cost.single) * len(net.blocks))


def test_forecast_grows_with_the_images_that_a_figure_takes() -> None:
    def images(n: int) -> Subject:
        return Subject("net", network(), sample(n, batch=6), {})

    few, many = (len(FIGURES["gradients"].sample(images(n).sample)) for n in (12, 200))
    assert (few, many) == (12, 64)


def test_readings_of_a_network_at_chance_are_left_out(tmp_path: Path) -> None:
    net, data = network(), sample(30, batch=15)
    with torch.no_grad():  # so that it names several classes
        net.fc.bias.sub_(logits(net, data).mean(0))
    able = replace(data, labels=logits(net, data).argmax(1))
    guessing, sure = Subject("guessing", net, data, {}), Subject("sure", net, able, {"weights": "a"})
    assert chance(guessing) is not None
    assert chance(sure) is None
    done = measure(plan([guessing, sure], ["responses", "initial"], tmp_path), tmp_path)
    assert list(done.at_chance) == ["guessing"]
    said = {
        (figure, label): done.says(figure, label, result)
        for figure, results in done.results.items()
        for label, result in results
    }
    assert said["responses", "guessing"] is None
    assert said["responses", "sure"] == FIGURES["responses"].say(done.results["responses"][1][1])
    # At initialisation the weights are others.
    assert said["initial", "guessing"] == FIGURES["initial"].say(done.results["initial"][0][1])


def test_what_is_kept_is_of_these_weights_and_images(tmp_path: Path) -> None:
    measure(plan([subject()], ["responses"], tmp_path), tmp_path)
    other_weights, fewer = subject(key="b"), subject(n=10)
    for other in (other_weights, fewer):
        assert plan([other], ["responses"], tmp_path).tasks[0].kept is None
    assert plan([subject()], ["responses"], None).tasks[0].kept is None


def test_what_was_done_before_an_interruption_is_kept(tmp_path: Path) -> None:
    one = subject()

    def stops(task: Task, share: float) -> None:
        if task.figure == "shares":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(plan([one], QUICK, tmp_path), tmp_path, tell=stops)
    found = [task.figure for task in plan([one], QUICK, tmp_path).tasks if task.kept is not None]
    assert found == ["responses", "signal"]


def test_figures_that_a_network_does_not_have() -> None:
    found = plan([subject(PLAIN)], list(FIGURES), None)
    left = {name: why for name, _, why in found.left_out}
    assert set(left) == {"shares", "paths", "gates"}
    assert left["shares"].endswith("its blocks have no shortcut")
    assert left["gates"].endswith("its blocks have no gates")
    tiny = plan([subject("cifar_resnet(depth=8, width=4)")], ["permutations"], None)
    assert "no two blocks of one shape" in tiny.left_out[0][2]


def test_a_reason_that_shows_late_is_told_too() -> None:
    one = subject("cifar_plain(depth=8, width=(8, 4, 2))")
    done = measure(plan([one], ["initial", "responses"], None), None)
    assert list(done.results) == ["responses"]
    assert done.left_out[0][0] == "initial"
    assert "no twin" in done.left_out[0][2]


def test_figures_of_no_weights_are_measured_once() -> None:
    found = plan([subject(), subject(PLAIN)], ["shattering", "responses"], None)
    assert [task.figure for task in found.tasks] == ["shattering", "responses", "responses"]


def test_every_group_is_an_option() -> None:
    assert sorted(OPTIONS) == sorted(GROUPS)


def results(*names: str) -> dict[str, list[tuple[str, Result]]]:
    """These figures, of three networks where they have it."""
    gated = build("cifar_highway(widths=(4, 4, 4), gated=(1, 2, 1))", size=(8, 8)).eval()
    data = sample(12, batch=6)
    subjects = [
        Subject("pre <&>", network(PREACTIVATION), data, {}),
        Subject("plain", network(PLAIN), data, {}),
        Subject("gated", gated, data, {}),
    ]
    return measure(plan(subjects, list(names), None), None).results


def small_results() -> dict[str, list[tuple[str, Result]]]:
    """Those of fresh networks, as small as they can be."""
    from reslab.probes.identity import fit_identity
    from reslab.probes.shattering import along_images, decay_laws, shattering

    spec = network(PLAIN).spec
    return {
        "shattering": [("a", shattering(depths=(1, 3), width=8, points=20, lags=4, seeds=2))],
        "decay": [("a", decay_laws(depths=(1, 2), width=16, networks=4))],
        "identity": [("a", fit_identity(blocks=(1, 2), width=6, steps=5, seeds=2))],
        "along-images": [("a", along_images(spec, sample(4), points=8, lags=3, seeds=1))],
    }


def test_all_figures_are_said_drawn_and_tabled() -> None:
    small = small_results()
    found = results(*(name for name in FIGURES if name not in small)) | small
    assert set(found) == set(FIGURES)
    ids: set[str] = set()
    for name, named in found.items():
        figure = FIGURES[name]
        for _, result in named:
            assert isinstance(result, figure.kind)
            assert len(figure.say(result)) > 20
            assert "nan" not in figure.say(result)
            json.dumps(result.to_dict(), allow_nan=False)
            again = figure.kind.from_dict(json.loads(json.dumps(result.to_dict())))
            assert again.to_dict() == result.to_dict()
            assert result.rows()
            assert sheet.table(result.rows()).count("\n") == 1 + len(result.rows())
        assert len(figure.read) == 2
        assert figure.paper.endswith(".") or figure.paper.endswith(").")
        svg = drawing.svg(figure.draw, named, salt=name)
        ElementTree.fromstring(f"<figure>{svg}</figure>")
        own = set(re.findall(r'id="([^"]+)"', svg))
        assert all(each.startswith(f"{name}-") for each in own)
        assert not own & ids, "no two figures of a page share a name"
        ids |= own
        assert "var(--ink)" in svg or "var(--soft)" in svg
        assert "#222222" not in svg
        assert svg == drawing.svg(figure.draw, named, salt=name), "the same results give the same picture"


def test_the_page_holds_all_and_loads_nothing() -> None:
    named = results("lesions")["lesions"]
    panel = sheet.Panel(
        name="lesions",
        title="One block <deleted>",
        svg=drawing.svg(plots.lesions, named, salt="lesions"),
        read=("Read it so.", "And so."),
        found=tuple((label, FIGURES["lesions"].say(result)) for label, result in named),
        paper="Veit found & said.",
        cite="Veit 2016",
        rows={label: result.rows() for label, result in named},
    )
    page = sheet.render(
        sheet.Sheet(
            title="X-ray",
            lede="What is inside.",
            panels=(panel,),
            left_out=(("Gates (plain)", "none <here>"),),
            facts={"Machine": {"cores": 2}},
            command="reslab probe a",
            version="1",
        )
    )
    assert "One block &lt;deleted&gt;" in page
    assert "pre &lt;&amp;&gt;" in page
    assert "none &lt;here&gt;" in page
    assert "Veit found &amp; said." in page
    assert "data:text/csv" in page
    assert "<script" not in page
    for address in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert address.startswith(("#", "data:")), address
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page).replace("http-equiv", "")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file cannot be written: Not a directory"):
        measure(plan([subject()], ["downsampling"], None), tmp_path / "file")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.3, 8, ["0.5", "1", "2", "5"]),
        (0.05, 60, ["0.1", "1", "10"]),
        (1e-6, 1, ["10⁻⁶", "10⁻⁴", "10⁻²", "10⁰"]),
    ],
)
def test_labels_of_a_logarithmic_axis(low: float, high: float, expected: list[str]) -> None:
    """Numbers as people write them where there are few decades about 1, powers where there are many."""

    def draw(canvas: Canvas, _: object) -> None:
        ax = canvas.subplots()
        ax.plot([0, 1], [low, high])
        ax.set_ylim(low, high)
        drawing.grid(ax, x="x", y="y", log=True)
        canvas.draw_without_rendering()
        ticks = [*ax.get_yticklabels(), *ax.get_yticklabels(minor=True)]
        found[:] = (t.get_text() for t in ticks if t.get_text() and low <= t.get_position()[1] <= high)

    found: list[str] = []
    drawing.svg(draw, [], salt="x")
    assert set(found) >= set(expected)
    assert len(found) <= 8
