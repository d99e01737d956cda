"""``reslab report``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

from reslab.commands.options.common import Command, Figure, Force, Json, Open, positional


@positional
@dataclass(frozen=True)
class Options(Command):
    """Compare runs, or show the report of a study again.

    `reslab report runs/resnet20-seed* runs/plain20-seed* --out runs/compared`
    """

    runs: ClassVar = "reslab.commands.report:run"

    folders: tuple[Path, ...] = ()
    """Folders of finished runs (runs of the same recipe are grouped as its seeds), or the folder of one study."""
    _: KW_ONLY
    out: Path | None = None
    """Write the page, the tables and the figure to this folder."""
    figure: Figure = ()
    force: Force = False
    open: Open = False
    json: Json = False
