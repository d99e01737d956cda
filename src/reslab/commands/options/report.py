"""``reslab report``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

from reslab.commands.options.common import Command, Figure, Force, Json, Open, positional


@positional
@dataclass(frozen=True)
class Options(Command):
    """Compare any runs, or show a study once more.

    `reslab report runs/resnet20-seed* runs/plain20-seed* --out runs/compared`
    """

    runs: ClassVar = "reslab.commands.report:run"

    folders: tuple[Path, ...] = ()
    """Folders of finished runs; runs of one recipe are its seeds. Or the folder of one study."""
    _: KW_ONLY
    out: Path | None = None
    """Folder for the page, the tables and the figure."""
    figure: Figure = ()
    force: Force = False
    open: Open = False
    json: Json = False
