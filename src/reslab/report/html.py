"""A study's report as one page: it holds its data, style and script, and loads nothing from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reslab.report import csvs, figure, page, words
from reslab.report import view as views
from reslab.report.summary import Summary
from reslab.runs.files import write_text

EXPLAINED = "degradation"
"""The study, and so the demo, whose page tells why shortcuts help."""


def write(summary: Summary | Mapping[str, Any], path: Path) -> None:
    """Write the page, atomically."""
    write_text(path, render(summary))


def render(summary: Summary | Mapping[str, Any]) -> str:
    """The text of the page."""
    summary = Summary.of(summary)
    view = views.of(summary)
    return page.template("page.html").render(
        s=summary,
        version=summary.reslab_version,
        headline=words.headline(summary),
        seeds=words.seeds(summary),
        many=view.n_seeds > 1,
        repeated=len({row.net for row in summary.rows}) < len(summary.rows),
        measured=list(dict.fromkeys(name for run in summary.runs for name in run.measures)),
        panels=len(view.panels),
        y_ranges=view.y_ranges,
        colors=views.colors(summary),
        show_best=any(row.best_test_error is not None for row in summary.rows),
        show_published=any(row.published is not None for row in summary.rows),
        explained=summary.study == EXPLAINED,
        plain_uri=page.data_uri("image/svg+xml", page.asset("plain-block.svg").encode()),
        residual_uri=page.data_uri("image/svg+xml", page.asset("residual-block.svg").encode()),
        machine=_machine(summary),
        times=_times(summary),
        figure_uri=page.data_uri("image/svg+xml", figure.render(summary, "svg")),
        figure_alt=" ".join(_describe(panel) for panel in view.panels),
        rows_uri=page.data_uri("text/csv", csvs.rows(summary).encode()),
        runs_uri=page.data_uri("text/csv", csvs.runs(summary).encode()),
        summary_json=_json(summary.model_dump(mode="json")),
        view_json=_json(_view(view)),
        css=Markup(page.asset("page.css") + page.palette()),
        js=Markup(page.asset("page.js")),
        uplot_css=Markup(page.asset("uPlot.min.css")),
        uplot_js=Markup(page.asset("uPlot.iife.min.js")),
        uplot_licence=Markup(page.asset("uPlot.LICENSE.txt")),
    )


def _machine(summary: Summary) -> dict[str, str]:
    """The machines that runs were made on; commits as short as people write them."""
    short = {"git_commit": " / ".join(each[:10] for each in summary.machine.get("git_commit", "").split(" / "))}
    return summary.machine | {key: value for key, value in short.items() if key in summary.machine}


def _times(summary: Summary) -> dict[str, str]:
    """When the runs were made, how long that took, and how long they took themselves: several go at a time."""
    times = {"started": words.moment(summary.started), "finished": words.moment(summary.finished)}
    if (elapsed := words.between(summary.started, summary.finished)) is not None:
        times["wall clock, pauses included"] = words.duration(elapsed)
    return times | {f"sum over {words.plural(len(summary.runs), 'run')}": words.duration(summary.wall_seconds)}


def _view(view: views.View) -> dict[str, Any]:
    plain: dict[str, Any] = asdict(view)
    for panel, drawn in zip(view.panels, plain["panels"], strict=True):
        drawn["label"] = _describe(panel)
    return plain


def _describe(panel: views.Panel) -> str:
    """The chart in words, for those who cannot see it: the errors at the end of training."""
    parts = []
    for net in panel.nets:
        ends = [("training", net.train), ("test", net.test)]
        said = [f"{name} error {words.percent(line.last)} %" for name, line in ends if line and line.last is not None]
        parts.append(f"{net.net} ends at {' and '.join(said)}" if said else f"{net.net} has no curve")
    what = f"Error during training, {panel.title}" if panel.style == "curves" else panel.title.capitalize()
    return f"{what}: {'; '.join(parts)}."


def _json(value: object) -> Markup:
    """JSON that is safe inside a script element: no text in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
