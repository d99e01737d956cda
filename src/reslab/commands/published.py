"""``reslab published``: the papers' own figures, as they are kept in `reslab.published`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reslab import published
from reslab.commands.options.published import Options

HEADINGS = {
    "top1_error": "top-1 %", "top5_error": "top-5 %", "test_error": "test error %", "mean": "mean %", "std": "std",
    "params": "M parameters", "params_torchvision": "M parameters (torchvision)", "gmacs": "GMACs", "depth": "layers",
    "test_error_resnet164": "ResNet-164, test error %",
}  # fmt: skip
"""What columns are called for people; the others are called as in the file."""

ABOUT = ("place", "what", "protocol", "rows")


def run(options: Options) -> None:
    """Prints one paper, or all of them."""
    names = published.names() if options.paper is None else (options.paper,)
    papers = {name: published.load(name) for name in names}
    if options.json:
        print(json.dumps(papers if options.paper is None else papers[options.paper], indent=2))
        return
    console = Console(highlight=False)
    for paper in papers.values():
        about = paper["paper"]
        console.print(Text.assemble((about["cite"], "bold"), f": {about['title']} (arXiv {about['arxiv']})"))
        for key, part in paper.items():
            if key != "paper":
                _print(console, key, part)


def _print(console: Console, key: str, part: Mapping[str, Any]) -> None:
    """One table or figure; what holds several of them (``recipe``) one after the other."""
    if "place" not in part:
        for name, inner in part.items():
            _print(console, f"{key}, {name}", inner)
        return
    title = f"{part['place']}: {part['what']}" if "what" in part else f"{part['place']}: {key}"
    console.print(Text(f"\n{title}", "bold"))
    if "protocol" in part:
        console.print(Text(part["protocol"], "dim"))
    if "rows" in part:
        console.print(Padding(_table(part["rows"]), (0, 0, 0, 2)))
    for name, value in part.items():
        if name not in ABOUT:
            console.print(Padding(Text(f"{_heading(name)}: {_text(value)}"), (0, 0, 0, 2)))


def _table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        numbers = all(isinstance(row.get(column, 0), int | float) for row in rows.values())
        table.add_column(_heading(column), justify="right" if numbers else "left")
    decimals = {column: _decimals([row.get(column) for row in rows.values()]) for column in columns}
    for name, row in rows.items():
        table.add_row(name, *(_text(row[c], decimals[c]) if c in row else "" for c in columns))
    return table


def _decimals(column: Sequence[object]) -> int:
    """As many as the figure has that has most."""
    return max((len(str(value).partition(".")[2]) for value in column if isinstance(value, float)), default=0)


def _heading(name: str) -> str:
    return HEADINGS.get(name, name.replace("_", " "))


def _text(value: object, decimals: int | None = None) -> str:
    if isinstance(value, float) and decimals is not None:
        return f"{value:.{decimals}f}"
    if isinstance(value, list):
        return ("; " if value and isinstance(value[0], str) else " ").join(map(str, value))
    return str(value)
