"""A confusion matrix as a picture or as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from reslab.errors import InputError, writing
from reslab.report.figure import STYLE
from reslab.runs.files import write_bytes

FORMATS = ("png", "svg", "pdf", "csv")
Matrix = Sequence[Sequence[int]]
NAMED = 40
"""Classes up to which a picture has room for their names."""
COUNTED = 20
"""Classes up to which it has room for the counts."""


def check_format(path: Path) -> str:
    """The format that a file's name says, lower case. Raises `InputError` for another one than `FORMATS`."""
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise InputError(f"cannot write a confusion matrix as '{path.name}': end the name in .png, .svg, .pdf or .csv")
    return suffix


def save(matrix: Matrix, classes: Sequence[str], path: Path, *, title: str = "") -> None:
    """Writes a matrix of counts.

    Args:
        matrix: (K, K + 1): images of each class (rows) that were taken for each (columns); the last column counts
            classes that the data does not have, and is left out where it is empty.
        classes: their names (K).
        path: where to; the suffix, one of `FORMATS`, says as what.
        title: over the picture.

    Raises:
        InputError: another suffix, or a file that cannot be written.
    """
    suffix = check_format(path)
    others = any(row[-1] for row in matrix)
    columns = [*classes, "other"] if others else list(classes)
    counts = [list(row) if others else list(row[:-1]) for row in matrix]
    content = table(counts, classes, columns) if suffix == "csv" else _picture(counts, classes, columns, suffix, title)
    with writing(path):
        write_bytes(path, content)


def table(counts: Matrix, classes: Sequence[str], columns: Sequence[str]) -> bytes:
    """As CSV: a heading of the columns' classes, then a line for each class."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["class", *columns])
    writer.writerows([name, *row] for name, row in zip(classes, counts, strict=True))
    return buffer.getvalue().encode()


def _picture(counts: Matrix, classes: Sequence[str], columns: Sequence[str], suffix: str, title: str) -> bytes:
    """Each row in shares of its images, so that a rare class is as easy to see as a common one."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = [[100 * value / max(1, sum(row)) for value in row] for row in counts]
    with matplotlib.rc_context(STYLE | {"axes.spines.top": True, "axes.spines.right": True}):
        side = min(12.0, 3.6 + 0.32 * len(classes))
        figure = Figure(figsize=(side + 1.2, side), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        figure.colorbar(image, ax=ax, label="% of the class's images", shrink=0.8)
        if len(classes) <= NAMED:
            ax.set_xticks(range(len(columns)), columns, rotation=90)
            ax.set_yticks(range(len(classes)), classes)
        if len(classes) <= COUNTED:
            for y, row in enumerate(counts):
                for x, value in enumerate(row):
                    if value:
                        ink = "white" if shares[y][x] > 55 else "#222222"
                        ax.text(x, y, str(value), ha="center", va="center", fontsize=8, color=ink)
        ax.set_xlabel(
            "taken for" if len(columns) == len(classes) else "taken for (last: a class that the data does not have)"
        )
        ax.set_ylabel("class")
        ax.set_title(title, loc="left", fontsize=12)
        buffer = io.BytesIO()
        # No dates, so that a picture that did not change is not a change to commit.
        empty: dict[str, None] = (
            {} if suffix == "png" else {"Date": None} if suffix == "svg" else {"CreationDate": None}
        )
        figure.savefig(buffer, format=suffix, dpi=200, metadata=empty)
    return buffer.getvalue()
