"""``reslab runs``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

from reslab.commands.options.common import Command, Json, positional


@positional
@dataclass(frozen=True)
class Options(Command):
    """List your runs: what was trained, its progress, and its test error.

    `reslab runs`, or for another folder `reslab runs results/degradation`
    """

    runs: ClassVar = "reslab.commands.runs:run"

    folder: Path = Path("runs")
    """Folder to search for runs, including subfolders."""
    _: KW_ONLY
    json: Json = False
