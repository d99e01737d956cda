"""Finds the summaries of finished studies, and reads their size and data."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from reslab import studies
from reslab.errors import InputError
from reslab.report.files import SUMMARY
from reslab.report.summary import Summary
from reslab.studies.design import Depths, of_papers_data


def paths(roots: Sequence[Path]) -> list[Path]:
    """The summaries under some folders, at most two folders below: the runs of a study are many files."""
    return [path for root in roots for depth in ("", "*/", "*/*/") for path in sorted(root.glob(f"{depth}{SUMMARY}"))]


def summaries(roots: Sequence[Path]) -> Iterator[tuple[Path, Summary]]:
    """Those of judged studies that this version can read, each once."""
    for path in sorted(set(paths(roots))):
        try:
            summary = Summary.of(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, InputError):
            continue
        if summary.verdict is not None and summary.study in studies.MODULES:
            yield path, summary


def depths_of(summary: Summary) -> Depths:
    """Depths of the networks that were trained."""
    return tuple(sorted({row.depth for row in summary.rows if row.train_error is not None}))


def iterations_of(summary: Summary) -> int:
    """Length of a training."""
    return int(str(summary.recipe["iterations"]))


def on_papers_data(summary: Summary) -> bool:
    """Whether it was on the images that the papers speak of."""
    return of_papers_data(str(summary.data["name"]), int(str(summary.data["n_train"])))
