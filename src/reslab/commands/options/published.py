"""``reslab published``."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from reslab.commands.options.common import Command, Json, positional


@positional
@dataclass(frozen=True)
class Options(Command):
    """Print the papers' result tables, with what was measured and how.

    `reslab published he2015`
    """

    runs: ClassVar = "reslab.commands.published:run"

    paper: str | None = None
    """Print only this paper: he2015, he2016, xie2016, zagoruyko2016, tong_he2018."""
    _: KW_ONLY
    json: Json = False
