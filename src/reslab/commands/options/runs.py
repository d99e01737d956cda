"""``reslab runs``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar

from reslab.commands.options.common import Command, Json, positional


@positional
@dataclass(frozen=True)
class Options(Command):
    """List your runs: what was trained, how far it is, and its test error.

    `reslab runs`, or of another folder `reslab runs results/degradation`
    """

    runs: ClassVar = "reslab.commands.runs:run"

    folder: Path = Path("runs")
    """Folder that the runs lie in, at any depth."""
    _: KW_ONLY
    json: Json = False
