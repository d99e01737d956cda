"""``reslab claims``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from reslab.commands.options.common import Command, Force, Json, Open, positional

Verdict = Literal["held", "not held", "not decided", "not tested"]


@positional
@dataclass(frozen=True)
class Options(Command):
    """List the papers' claims, and whether each was confirmed here.

    Reads the results of finished studies; runs nothing.
    """

    runs: ClassVar = "reslab.commands.claims:run"

    results: tuple[Path, ...] = ()
    """Folders of results; by default results/ and runs/ here."""
    _: KW_ONLY
    paper: str | None = None
    """List only the claims of this paper: he2015, veit2016, ..."""
    verdict: Verdict | None = None
    """List only the claims with this verdict."""
    html: Path | None = None
    """Write the list to this file, as an HTML page."""
    force: Force = False
    open: Open = False
    json: Json = False
