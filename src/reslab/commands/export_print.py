"""What the gate found, for people and for programs."""

import json
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from reslab.deploy.artefact import About, Accuracy, Checked


def show(rows: Sequence[Checked], console: Console) -> None:
    """A row for each batch size, and a line for each runtime."""
    timed = any(row.speed for row in rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for title in ("runtime", "batch", "largest difference", *(("images/s", "before", "times") if timed else ())):
        table.add_column(title, justify="left" if title == "runtime" else "right")
    for row in rows:
        speeds = {each.batch: each for each in row.speed}
        for place, (batch, apart) in enumerate(row.largest_difference.items()):
            cells = [f"{row.runtime} {row.precision}" if place == 0 else "", str(batch), f"{apart:.1g}"]
            if found := speeds.get(batch):
                cells += [f"{found.artefact:,.1f}", f"{found.original:,.1f}", f"{found.ratio:.2f}"]
            table.add_row(*cells, end_section=place == len(row.largest_difference) - 1)
    console.print(table)
    for row in rows:
        console.print(f"{row.runtime} {row.precision}: {words(row)}", markup=False, highlight=False, soft_wrap=True)


def words(row: Checked) -> str:
    """What was found for a runtime, in a line."""
    same = "predicts the same class for"
    said = f"{same} {row.agreement:.1f} % of {row.images:,} images"
    if row.accuracy is not None and row.accuracy_before is not None:
        said += f"; accuracy {_accuracy(row.accuracy)}, before {_accuracy(row.accuracy_before)}"
    if row.refused.startswith(same):
        said = said.partition("; ")[2]  # it is said already
    return "; ".join(filter(None, (f"refused: {row.refused}" if row.refused else "passed", said)))


def _accuracy(found: Accuracy) -> str:
    return f"{found.percent:.1f} % ({found.low:.1f} to {found.high:.1f})"


def as_json(out: str, about: About, rows: Sequence[Checked]) -> str:
    """The same as one object."""
    found = [row.model_dump(mode="json") for row in rows]
    return json.dumps({"out": out, "written": sorted(about.models), "gate": found}, indent=2)
