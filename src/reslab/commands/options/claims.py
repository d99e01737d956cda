"""``reslab claims``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

from reslab.commands.options.common import Command, Json, Open, positional


@positional
@dataclass(frozen=True)
class Options(Command):
    """List the claims of the papers, and whether each held here.

    Built from the results of studies at hand; nothing is run.
    """

    runs: ClassVar = "reslab.commands.claims:run"

    results: tuple[Path, ...] = ()
    """Folders of results; by default results/ and runs/ here."""
    _: KW_ONLY
    html: Path | None = None
    """Write the list to this file, as a page."""
    open: Open = False
    json: Json = False
