"""A network as a picture in SVG: its stages with their blocks, then each kind of block step by step."""

from reslab.nets.describe import Description, Kind
from reslab.nets.svg.blocks import draw_block, draw_blocks
from reslab.nets.svg.canvas import MARGIN, WIDTH, Canvas, si
from reslab.nets.svg.stages import draw_legend, draw_stages

BLOCK = (300, 356)
"""Pixels, across and at the least down, of a picture of one block: a basic block with its shortcut."""


def drawing(told: Description) -> str:
    """The text of an SVG file, 900 wide, that needs nothing beside itself."""
    canvas = Canvas()
    bottom = _draw_title(canvas, told)
    bottom = draw_stages(canvas, told, bottom + 54)
    bottom = draw_legend(canvas, told, bottom + 24)
    bottom = draw_blocks(canvas, told, bottom + 30)
    about = f"{told.depth} layers, {told.cost.params:,} parameters. " + "; ".join(
        f"{kind.letter}: {kind.title} ({told.places(kind)})" for kind in told.kinds
    )
    return canvas.document(round(bottom + MARGIN), told.name, about)


def block(kind: Kind, title: str) -> str:
    """The text of an SVG file with one kind of block step by step, `BLOCK` in size or higher, for a page or a slide."""
    width, least = BLOCK
    height = max(draw_block(Canvas(), kind, 0, 62, width) + 20, least)
    canvas = Canvas()
    canvas.rect(1, 1, width - 2, height - 2, "card", 10)
    canvas.text(width / 2, 32, title, "b mid", 15, width - 30)
    draw_block(canvas, kind, 0, 62, width)
    return canvas.document(height, title, kind.formula, width)


def _draw_title(canvas: Canvas, told: Description) -> float:
    room = WIDTH - 2 * MARGIN
    canvas.text(MARGIN, 62, told.name, "b", 32, room, verbatim=True)
    facts = f"{told.depth:,} layers · {si(told.cost.params)} parameters · {si(told.cost.macs)} multiply-adds"
    canvas.text(MARGIN, 90, f"{facts} · input {told.entering}", "soft", 15, room)
    canvas.text(MARGIN, 111, told.cite, "soft", 12, room, verbatim=True)
    return 111
