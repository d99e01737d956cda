"""A ledger of claims: for each, what was found here, by which command; as a table, a page and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reslab import __version__
from reslab.report import words
from reslab.report.page import asset, template
from reslab.report.summary import Judgement
from reslab.runs.files import write_text


@dataclass(frozen=True)
class Evidence:
    """What one study, or one probe, found of a claim."""

    verdict: Judgement
    numbers: str
    n: int
    """seeds of a study; of a probe networks, 1"""
    of: str
    """what it is of, for people: data, iterations, seeds"""
    command: str
    when: str
    machine: str
    source: str
    """file that it stands in"""
    papers_data: bool = True
    """whether it is of the data that the papers have"""
    p: float | None = None
    """of a study that counts in the ledger: p-value of the verdict that it leans to, over all its looks"""
    adjusted: float | None = None
    """for all claims that studies test, by the false-discovery rate; what the verdict rests on"""

    @property
    def level(self) -> str:
        """p-values in words; nothing for a probe."""
        return "" if self.p is None or self.adjusted is None else f"p = {self.p:.2g}, adjusted {self.adjusted:.2g}"


@dataclass(frozen=True)
class ClaimRow:
    """A claim of a paper, and what is known of it here."""

    key: str
    paper: str
    place: str
    claim: str
    command: str
    """that tests it"""
    evidence: tuple[Evidence, ...] = ()
    """the strongest first"""

    @property
    def verdict(self) -> Judgement:
        """By the strongest evidence; not decided where there is none."""
        return self.evidence[0].verdict if self.evidence else "not decided"

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        best = asdict(self.evidence[0]) if self.evidence else {}
        plain = asdict(self)
        return {"claim": self.claim, "verdict": self.verdict, **{k: v for k, v in plain.items() if k != "claim"}} | {
            "found": {key: value for key, value in best.items() if key != "verdict"} or None
        }


def to_json(rows: Sequence[ClaimRow]) -> str:
    """A list of rows."""
    return json.dumps([row.as_dict() for row in rows], indent=2, ensure_ascii=False) + "\n"


def counts(rows: Sequence[ClaimRow]) -> str:
    """``12 claims: 5 held, 2 not held, 2 not decided, 3 not tested``."""
    tested = [row for row in rows if row.evidence]
    of = {verdict: sum(row.verdict == verdict for row in tested) for verdict in words.TONE}
    said = ", ".join(f"{count} {verdict}" for verdict, count in of.items())
    elsewhere = sum(not row.evidence[0].papers_data and row.verdict != "not decided" for row in tested)
    beside = f" ({elsewhere} on other data than the papers')" if elsewhere else ""
    return f"{words.plural(len(rows), 'claim')}: {said}{beside}, {len(rows) - len(tested)} not tested"


def print_rows(rows: Sequence[ClaimRow], console: Console) -> None:
    """A line and a half for each claim, paper by paper."""
    paper = None
    for row in rows:
        if row.paper != paper:
            paper = row.paper
            console.print(Text(f"\n{paper}", "bold"))
        grid = Table.grid(padding=(0, 2, 0, 0), expand=False)
        grid.add_column(width=11, no_wrap=True)
        grid.add_column()
        best = row.evidence[0] if row.evidence else None
        verdict = Text(row.verdict, f"bold {words.TONE[row.verdict]}") if best else Text("not tested", "dim")
        said = Text.assemble(row.claim, (f" ({row.place})" if row.place else "", "dim"))
        if best is not None:
            level = f"; {best.level}" if best.level else ""
            said.append(f"\n{best.numbers}\n{best.of}, {best.when[:10]}{level}", "dim")
        else:
            said.append(f"\n{row.command}", "dim")
        grid.add_row(verdict, said)
        console.print(grid)
    console.print(f"\n{counts(rows)}", highlight=False)


def render(rows: Sequence[ClaimRow]) -> str:
    """The page: it loads nothing from outside."""
    papers = list(dict.fromkeys(row.paper for row in rows))
    return template("claims.html").render(
        papers=[(paper, [row for row in rows if row.paper == paper]) for paper in papers],
        counts=counts(rows),
        version=__version__,
        css=Markup(asset("page.css") + asset("claims.css")),
    )


def write(rows: Sequence[ClaimRow], path: Path) -> None:
    """Writes the page, atomically."""
    write_text(path, render(rows))
