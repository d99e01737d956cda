"""``reslab claims``."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reslab.errors import InputError
from reslab.report import claims as report
from reslab.studies import ledger


def run(roots: Sequence[Path], *, html: Path | None, as_json: bool) -> None:
    """Prints the ledger, or writes it as a page."""
    for root in roots:
        if not root.is_dir():
            raise InputError(f"{root}: expected a folder of results, found none")
    found = ledger.read(ledger.roots_or_usual(roots))
    rows = found.rows
    if found.passed_over:
        Console(stderr=True).print(
            f"passed over, as this version cannot read: {', '.join(map(str, found.passed_over))}; run the study again "
            "with its --out",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if html is not None:
        report.write(rows, html)
    if as_json:
        print(report.to_json(rows), end="")
    elif html is not None:
        Console().print(f"{html}: {report.counts(rows)}", highlight=False, soft_wrap=True)
    else:
        report.print_rows(rows, Console())
