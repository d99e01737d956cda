"""What ``reslab eval`` prints and draws, for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reslab.evaluate.figures import BINS, confusion, per_class
from reslab.evaluate.predictions import Predictions
from reslab.report.confusion import check_format, save

__all__ = ["check_format", "classes", "save_confusion", "show"]

SHOWN = 25
"""Classes that are printed for people; JSON has all."""


def classes(found: Predictions) -> list[dict[str, Any]]:
    """How each class fares, worst first, as plain values."""
    about = found.about
    return [each.as_dict() for each in per_class(found.logs, found.labels, about.classes, about.numbers)]


def save_confusion(found: Predictions, path: Path) -> None:
    """Writes the confusion matrix as a picture or CSV, as the name of the file says."""
    about = found.about
    matrix = confusion(found.logs, found.labels, about.numbers).tolist()
    title = f"{about.protocol.called} on {about.data}, {len(found.labels):,} images"
    save(matrix, about.classes, path, title=title)


def show(records: Sequence[dict[str, Any]]) -> None:
    """Prints results, right in 80 columns: one with all its figures, several or an ensemble a row each."""
    console = Console()
    last = records[-1]
    rows = [*last["members"], last] if "members" in last else list(records)
    if len(rows) == 1:
        console.print(_one(last))
        console.print(_spread(last), highlight=False, soft_wrap=True)
    else:
        console.print(_many(rows))
    for text in _remarks(rows):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if "best_subsets" in last:
        console.print(_subsets(last["best_subsets"]))
        console.print(
            "The best subset was chosen on these images: expect a larger error on others. Choose on images "
            "held out from training, and use the test set once.",
            markup=False, highlight=False,
        )  # fmt: skip
    if "per_class" in last:
        console.print(_classes(last["per_class"]))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def _interval(interval: Sequence[float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f} %"


def _table(*headings: str, words: int = 0) -> Table:
    """The first ``words`` columns are text, the others numbers."""
    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < words else "right", overflow="fold")
    return table


def _one(record: dict[str, Any]) -> Table:
    table = _table("top-1 error", "top-5 error", "images", "images/s")
    rate = record["images_per_second"]
    table.add_row(
        _percent(record["top1_error"]), _percent(record["top5_error"]), f"{record['n_images']:,}",
        "-" if rate is None else f"{rate:,.0f}",
    )  # fmt: skip
    return table


def _spread(record: dict[str, Any]) -> str:
    loss = "not finite" if record["loss"] is None else f"{record['loss']:.4f}"
    return (
        f"top-1 error within {_interval(record['top1_interval'])} (95 %, Wilson)\n"
        f"loss {loss}, calibration error {record['calibration_error']:.2f} % (expected, {BINS} bins)"
    )


def _many(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table("weights", "protocol", "top-1 error", "95 %", "top-5 error", "images", words=2)
    for row in rows:
        together = "members" in row
        table.add_row(
            Text(f"all {len(row['members'])} together" if together else row["called"]), row["protocol"],
            _percent(row["top1_error"]), "{:.1f}-{:.1f}".format(*row["top1_interval"]), _percent(row["top5_error"]),
            f"{row['n_images']:,}", style="bold" if together else None,
        )  # fmt: skip
    return table


def _remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What must not be overlooked."""
    found = []
    for row in rows:
        if row["left_out"]:
            some = "; ".join(row["left_out"][:3])
            found.append(f"{len(row['left_out'])} images could not be decoded and were left out: {some}")
        if row["not_finite"]:
            found.append(
                f"{row['called']} gave no finite scores for {row['not_finite']:,} images; they count as errors"
            )
    return list(dict.fromkeys(found))


def _subsets(subsets: Sequence[dict[str, Any]]) -> Table:
    table = _table("members", "which are best", "top-1 error", "top-5 error", words=2)
    for subset in subsets:
        names = Text(", ".join(subset["members"]))
        table.add_row(
            str(len(subset["members"])), names, _percent(subset["top1_error"]), _percent(subset["top5_error"])
        )  # fmt: skip
    return table


def _classes(each: Sequence[dict[str, Any]]) -> Table:
    table = _table("class, worst first", "images", "top-1 accuracy", "95 %", words=1)
    for row in each[:SHOWN]:
        table.add_row(Text(row["name"]), f"{row['n_images']:,}", _percent(row["accuracy"]), _interval(row["interval"]))
    if len(each) > SHOWN:
        table.add_row(Text(f"... and {len(each) - SHOWN:,} more, in --json"), "", "", "")
    return table
