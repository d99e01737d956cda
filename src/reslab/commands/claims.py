"""``reslab claims``."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reslab.commands.options.claims import Options
from reslab.commands.targets import PAGES, check_target
from reslab.errors import InputError, nearest
from reslab.report import claims as report
from reslab.report.claims import ClaimRow
from reslab.studies import ledger


def run(options: Options) -> Path | None:
    """Prints the ledger, or writes it as a page, whose path it returns."""
    check_target("--html", options.html, PAGES, force=options.force)
    for root in options.results:
        if not root.is_dir():
            raise InputError(f"{root}: expected a folder of results, found none")
    found = ledger.read(ledger.roots_or_usual(options.results))
    rows = _chosen(found.rows, options)
    if found.passed_over:
        Console(stderr=True).print(
            f"These results cannot be read by this version of Reslab: "
            f"{', '.join(map(str, found.passed_over))}; run the study again with its --out",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if options.html is not None:
        report.write(rows, options.html)
    nothing = not any(row.evidence for row in found.rows)
    if nothing and (options.verdict is not None or options.json):
        Console(stderr=True).print(_nowhere(options), highlight=False, markup=False, soft_wrap=True)
    if nothing and options.verdict is None and not options.json:
        _how(options)
    elif options.json:
        print(report.to_json(rows), end="")
    elif options.html is not None:
        Console().print(f"{options.html}: {report.counts(rows)}", highlight=False, soft_wrap=True)
    else:
        report.print_rows(rows, Console())
    return options.html


def _chosen(rows: Sequence[ClaimRow], options: Options) -> tuple[ClaimRow, ...]:
    """The claims of one paper, or with one verdict."""
    if options.paper is not None:
        known = {_key(row.paper): row.paper for row in rows}
        if options.paper not in known:
            raise InputError(
                f"no claims of a paper called '{options.paper}': expected {', '.join(known)}; "
                f"{nearest(options.paper, known)}"
            )
        rows = [row for row in rows if row.paper == known[options.paper]]
    if options.verdict is not None:
        rows = [row for row in rows if (row.verdict if row.evidence else "not tested") == options.verdict]
    return tuple(rows)


def _key(paper: str) -> str:
    """``He et al. 2015`` as ``he2015``, ``Zagoruyko, Komodakis 2016`` as ``zagoruyko2016``."""
    names, _, year = paper.rpartition(" ")
    if not year.isdigit():
        return paper.lower().replace(" ", "_")
    first = names.partition(",")[0].removesuffix(" et al.")
    return f"{first.lower().replace(' ', '_')}{year}"


def _nowhere(options: Options) -> str:
    looked = ", ".join(str(root.absolute()) for root in ledger.roots_or_usual(options.results))
    return f"No results of studies or probes were found in {looked}."


def _how(options: Options) -> None:
    """Says where results were looked for, in place of a list in which nothing is tested, and how to have some."""
    Console().print(
        f"{_nowhere(options)}\n"
        "To read results from elsewhere: reslab claims FOLDER\n"
        "To produce some: reslab demo (two minutes), or reslab study NAME --data cifar10 --budget 60\n"
        "To list the claims all the same: reslab claims --verdict 'not tested'",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
