"""``reslab nets``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from reslab.commands.options.common import Command, Force, Json, Several, positional


@positional
@dataclass(frozen=True)
class Options(Command):
    """List the papers' networks, or show the stages, blocks and cost of one."""

    runs: ClassVar = "reslab.commands.nets:run"

    name: str | None = None
    """Show this network: resnet56, "cifar_resnet(depth=38)"."""
    _: KW_ONLY
    compare: Annotated[tuple[str, ...] | None, Several] = None
    """Show 2 to 5 networks side by side and their differences: --compare resnet50-v1 resnet50 resnet50d"""
    size: int | None = None
    """Compute the cost for images of this size in pixels."""
    diagram: bool = False
    """Draw the network and each kind of its blocks."""
    svg: Path | None = None
    """Write the drawing to this file, as SVG."""
    force: Force = False
    json: Json = False
