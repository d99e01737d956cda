"""``reslab claims``."""

from pathlib import Path

from rich.console import Console

from reslab.commands.options.claims import Options
from reslab.errors import InputError
from reslab.report import claims as report
from reslab.studies import ledger


def run(options: Options) -> Path | None:
    """Prints the ledger, or writes it as a page, whose path it returns."""
    for root in options.results:
        if not root.is_dir():
            raise InputError(f"{root}: expected a folder of results, found none")
    found = ledger.read(ledger.roots_or_usual(options.results))
    rows = found.rows
    if found.passed_over:
        Console(stderr=True).print(
            f"passed over, as this version cannot read: {', '.join(map(str, found.passed_over))}; run the study again "
            "with its --out",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if options.html is not None:
        report.write(rows, options.html)
    if options.json:
        print(report.to_json(rows), end="")
    elif options.html is not None:
        Console().print(f"{options.html}: {report.counts(rows)}", highlight=False, soft_wrap=True)
    else:
        report.print_rows(rows, Console())
    return options.html
