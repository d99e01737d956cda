"""``reslab nets --compare``: networks side by side, and where they differ."""

from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reslab.nets.describe import Description, Rule, rows, ten_to_the

MARK = "≠"
NOTHING = "-"
DIFFERENT = "bold magenta"

Row = tuple[str, tuple[str, ...]]
"""A label, and what each network has there."""


def print_comparison(all_told: Sequence[Description], console: Console) -> None:
    """A column for each network. Rows in which they differ carry a mark, and stand out where there is colour."""
    padding = (0, 2 if len(all_told) <= 3 else 1, 0, 0)
    table = Table(box=None, header_style="bold", padding=padding, collapse_padding=True, pad_edge=False)
    table.add_column("")
    table.add_column("", no_wrap=True)
    for told in all_told:
        table.add_column(Text(told.name), overflow="fold", ratio=1)
    for label, cells in comparison(all_told):
        if "\n" in "".join((label, *cells)):
            table.add_row()
        differ = len(set(cells)) > 1
        if len(all_told) > 3 and label in ("MACs", "FLOPs"):  # narrow columns
            cells = tuple(ten_to_the(int(cell.replace(",", ""))) for cell in cells)
        style = DIFFERENT if differ else ""
        table.add_row(Text(MARK if differ else "", style), Text(label), *(Text(cell, style) for cell in cells))
    console.print(table)
    console.print(
        f"\n{MARK}  The networks differ here.\n"
        "MACs are multiply-adds, which the papers call FLOPs; FLOPs count two for each.\n"
        "Activations are the numbers that layers with weights put out. /2 is stride 2.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def comparison(all_told: Sequence[Description]) -> list[Row]:
    """What is compared, row by row."""
    most = max((told.stages for told in all_told), key=len)
    table: list[tuple[str, Callable[[Description], str]]] = [
        ("layers", lambda told: f"{told.depth:,}"),
        ("parameters", lambda told: f"{told.cost.params:,}"),
        ("MACs", lambda told: f"{told.cost.macs:,}"),
        ("FLOPs", lambda told: f"{told.cost.flops:,}"),
        ("activations", lambda told: f"{told.cost.activations:,}"),
        ("input", lambda told: str(told.entering)),
        (f"{all_told[0].stem_paper}\nstem".strip(), _stem),
        *(
            (f"{stage.paper}\n{stage.name}".strip(), lambda told, index=index: _stage(told, index))
            for index, stage in enumerate(most)
        ),
        ("head", lambda told: "\n".join(told.head_rows)),
        ("shortcut", _shortcuts),
        ("downsample", lambda told: _rules(told.downsampling)),
        ("stride in", lambda told: _rules(told.strides)),
        ("order", lambda told: "\n".join(f"{order}: {path}" for order, path in told.orders)),
        ("besides", lambda told: "\n".join(told.remarks) or NOTHING),
    ]
    found = [(label, tuple(map(cell, all_told))) for label, cell in table]
    return [(label, cells) for label, cells in found if set(cells) != {NOTHING}]


def _short(text: str) -> str:
    return text.replace("stride ", "/")


def _stem(told: Description) -> str:
    first = told.stages[0]
    return "\n".join((str(first.entering), *map(_short, (*told.stem_rows, *rows(first.before)))))


def _stage(told: Description, index: int) -> str:
    """``56x56``, then blocks by count: ``3 x 1x1, 64`` with the other layers of a block below."""
    if index >= len(told.stages):
        return NOTHING
    stage = told.stages[index]
    lines = [str(stage.leaving)]
    for bracket, count in stage.brackets:
        times = f"{count} x "
        lines += [f"{' ' * len(times) if number else times}{_short(row)}" for number, row in enumerate(bracket)]
    return "\n".join(lines)


def _shortcuts(told: Description) -> str:
    counts: Counter[str] = Counter()
    for what, names in told.shortcuts:
        counts[what.partition(":")[0]] += len(names)
    return "none" if set(counts) == {"none"} else "\n".join(f"{count} x {what}" for what, count in counts.items())


def _rules(rules: Sequence[Rule]) -> str:
    return "\n".join(_short(what) for what, _ in rules) or NOTHING
