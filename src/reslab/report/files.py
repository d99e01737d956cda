"""A study's results as files: JSON, two CSVs, the page and the figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reslab.report import csvs
from reslab.report.summary import Summary
from reslab.runs.files import write_text

SUMMARY = "summary.json"
"""The file that a study's results can be read from."""
NAMES = (SUMMARY, "summary.csv", "runs.csv", "figure.svg", "report.html")
"""Files of a report, the page last."""


def write(summary: Summary | Mapping[str, Any], out_dir: Path) -> tuple[Path, ...]:
    """Write `summary.json`, `summary.csv`, `runs.csv`, `figure.svg` and `report.html`, each atomically.

    Returns:
        The paths written, the page last.
    """
    # Imported here, so that whoever needs only the name above does not load matplotlib and jinja2.
    from reslab.report import figure, html

    summary = Summary.of(summary)
    write_text(out_dir / SUMMARY, summary.to_json())
    write_text(out_dir / "summary.csv", csvs.rows(summary))
    write_text(out_dir / "runs.csv", csvs.runs(summary))
    figure.save(summary, out_dir / "figure.svg")
    html.write(summary, out_dir / "report.html")
    return tuple(out_dir / name for name in NAMES)
