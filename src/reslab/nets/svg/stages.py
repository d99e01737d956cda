"""The stages of a network side by side, each a column of its blocks with their shortcuts as curves."""

from dataclasses import dataclass
from itertools import pairwise

from reslab.nets.describe import Description, Kind, Stage, rows
from reslab.nets.svg.canvas import COLOURS, MARGIN, WIDTH, Canvas, si, text_width, way_class

LANE = 16
"""Between a panel and the line that leads to the next."""
SHOWN = 5
"""Longer runs of equal blocks are a pile behind the first two."""


@dataclass(frozen=True)
class _Item:
    """A block, or a pile of equal ones, or layers that are no block."""

    rows: tuple[str, ...]
    kind: Kind | None = None
    more: int = 0

    @property
    def height(self) -> float:
        return 44 if self.more else 26 * len(self.rows) - 5

    @property
    def joins(self) -> bool:
        return self.kind is not None and self.kind.flow.shortcut is not None


@dataclass
class _Panel:
    """A stage, the stem or the head."""

    names: tuple[str, str]
    facts: tuple[str, ...]
    colour: int
    items: list[_Item]
    x: float = 0
    y: float = 0
    width: float = 0
    room: float = 0
    """Right of the blocks, for their shortcuts."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines below the name."""
        first, *others = self.facts
        both = " · ".join(others)
        return (first, both) if text_width(both, 11) < self.width - 24 else self.facts

    @property
    def head(self) -> float:
        return 34 + 15 * len(self.lines)

    @property
    def height(self) -> float:
        return self.head + sum(12 + item.height + (20 if item.joins else 0) for item in self.items) + 16

    @property
    def middle(self) -> float:
        return self.x + 22 + self.inner / 2

    @property
    def inner(self) -> float:
        """The width of a layer's box."""
        return self.width - 22 - self.room


def _short(layers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(layer.replace("stride ", "/") for layer in layers)


def _items(stage: Stage) -> list[_Item]:
    items = [_Item(_short(rows(stage.before)))] if stage.before else []
    for run in stage.runs:
        layers = _short(run.rows)
        alone = run.count if run.count <= SHOWN else 2
        items += [_Item(layers, run.kind)] * alone
        if run.count > alone:
            items.append(_Item(layers, run.kind, run.count - alone))
    return items


def _panels(told: Description) -> list[list[_Panel]]:
    """The columns of the picture, from left to right."""
    first, *parts, last = told.cost.parts

    def facts(leaving: object, params: int, macs: int) -> tuple[str, ...]:
        return f"output {leaving}", f"{si(params)} params", f"{si(macs)} MACs"

    stem = _Panel(
        (told.stem_paper or "stem", "stem" if told.stem_paper else ""),
        facts(told.stem_leaving, first.params, first.macs), 0, [_Item(_short(told.stem_rows))],
    )  # fmt: skip
    head = _Panel(("head", ""), facts(last.out_channels, last.params, last.macs), 0, [_Item(told.head_rows)])
    stages = [
        _Panel(
            (stage.paper or stage.name, stage.name if stage.paper else ""),
            facts(stage.leaving, part.params, part.macs), 1 + number % COLOURS, _items(stage),
        )
        for number, (stage, part) in enumerate(zip(told.stages, parts, strict=True))
    ]  # fmt: skip
    columns = [[panel] for panel in stages]
    if len(columns) < 3:
        return [[stem], *columns, [head]]
    columns[0].insert(0, stem)
    columns[-1].append(head)
    return columns


def draw_stages(canvas: Canvas, told: Description, top: float) -> float:
    """All panels and the line through them; returns where they end."""
    columns = _panels(told)
    in_row = len(columns) if len(columns) <= 5 else 4
    joins = any(kind.flow.shortcut is not None for kind in told.kinds)
    gap = 2 * LANE
    width = min(236.0, (WIDTH - 2 * MARGIN - (in_row - 1) * gap) / in_row)
    left = (WIDTH - in_row * width - (in_row - 1) * gap) / 2
    y = bottom = top
    for number, column in enumerate(columns):
        if number and number % in_row == 0:
            y = bottom + 3 * LANE
        at = y
        for panel in column:
            panel.x, panel.y, panel.width = left + number % in_row * (width + gap), at, width
            panel.room = 48 if joins else 22
            at += panel.height + 2 * LANE
        bottom = max(bottom, at - LANE)
    panels = [panel for column in columns for panel in column]
    for panel in panels:
        canvas.rect(panel.x, panel.y, panel.width, panel.height, "card", 10)
    ends = [_panel(canvas, panel) for panel in panels]
    what = "vector" if told.entering.flat else "image"
    canvas.text(panels[0].middle, top - 18, f"{what} {told.entering}", "soft mid", 12)
    canvas.path([(panels[0].middle, top - 14), (panels[0].middle, top)], tip=True)
    for (before, after), end in zip(pairwise(panels), ends, strict=False):
        _lead(canvas, before, after, end)
    return bottom


def _lead(canvas: Canvas, before: _Panel, after: _Panel, end: float) -> None:
    """The line from one panel's last block to the next panel."""
    start = (before.middle, end)
    if before.x == after.x and before.y < after.y:
        canvas.path([start, (after.middle, after.y)], tip=True)
        return
    below, above, lane = before.y + before.height + LANE, after.y - LANE, after.x - LANE
    way = [(before.middle, below), (lane, below), (lane, above)]
    if after.x < before.x:  # the next row, below all of this one
        above -= LANE
        way = [(before.middle, above)]
    canvas.path([start, *way, (after.middle, above), (after.middle, after.y)], tip=True)


def _panel(canvas: Canvas, panel: _Panel) -> float:
    """Draws what is in a panel; returns where its line ends."""
    name, other = panel.names
    canvas.rect(panel.x + 14, panel.y + 13, 10, 10, f"f{panel.colour}", 3)
    canvas.text(panel.x + 30, panel.y + 23, name, "b", 14)
    canvas.text(panel.x + 36 + text_width(name, 14), panel.y + 23, other, "soft", 12)
    for number, fact in enumerate(panel.lines):
        canvas.text(panel.x + 14, panel.y + 40 + 15 * number, fact, "soft", 11, panel.width - 24)
    y, middle = panel.y + panel.head, panel.middle
    for item in panel.items:
        top = y + 12
        bottom = top + item.height
        join = bottom + 14
        canvas.path([(middle, y), (middle, join if item.joins else bottom)])
        if item.joins:
            _arc(canvas, panel, item, y + 4, join)
        _boxes(canvas, panel, item, top)
        y = join + 6 if item.joins else bottom
    return y


def _boxes(canvas: Canvas, panel: _Panel, item: _Item, top: float) -> None:
    x, css = panel.middle - panel.inner / 2, f"s{panel.colour}"
    if item.kind is not None:
        canvas.text(panel.x + 11, top + item.height / 2 + 4, item.kind.letter, "soft b mid", 11)
    if item.more:
        for offset in (8, 4, 0):
            canvas.rect(x + offset, top + offset, panel.inner - 8, item.height - 8, css)
        canvas.text(panel.middle - 4, top + 22, f"{item.more:,} more", "b mid", 12.5, panel.inner - 14)
        return
    for number, row in enumerate(item.rows):
        canvas.rect(x, top + 26 * number, panel.inner, 21, css)
        canvas.text(panel.middle, top + 26 * number + 14.5, row, "mid", 12, panel.inner - 8)


def _chips(kind: Kind) -> list[str]:
    """Labels of the operations on the shortcut, a word each."""
    if kind.flow.gate:
        return ["gate"]
    words = {"conv": "1x1", "pool": "pool", "pad": "pad", "drop": "drop"}
    found = (words.get(step.kind, step.what) for step in kind.flow.shortcut or () if step.kind != "norm")
    return list(dict.fromkeys(found))


def _arc(canvas: Canvas, panel: _Panel, item: _Item, fork: float, join: float) -> None:
    assert item.kind is not None
    right = panel.middle + panel.inner / 2 + 24
    points = [(panel.middle, fork), (right, fork), (right, join), (panel.middle + 6, join)]
    canvas.path(points, way_class(item.kind), 22)
    canvas.tip(points[-2], points[-1], "way-tip")
    canvas.plus(panel.middle, join)
    chips = _chips(item.kind)
    y = (fork + join) / 2 - 8 * len(chips)
    for number, word in enumerate(chips):
        half = text_width(word, 11) / 2 + 5
        canvas.rect(right - half, y + 16 * number, 2 * half, 15, "chip", 7)
        canvas.text(right, y + 16 * number + 11, word, "mid way-text", 11)


def draw_legend(canvas: Canvas, told: Description, y: float) -> float:
    """Draws the legend of the shortcuts' lines."""
    said = {"way": "shortcut", "way changes": "shortcut that changes the shape", "way pads": "shortcut that pads zeros"}
    drawn = {way_class(kind) for kind in told.kinds if kind.flow.shortcut is not None}
    x = float(MARGIN)
    for css, text in said.items():
        if css in drawn:
            canvas.path([(x, y), (x + 34, y)], css)
            canvas.text(x + 42, y + 4, text, "soft", 12)
            x += 66 + text_width(text, 12)
    strides = "/2: stride 2. " if any(kind.leaving.size != kind.entering.size for kind in told.kinds) else ""
    canvas.text(x, y + 4, f"{strides}Letters: the blocks below, step by step.", "soft", 12)
    return y + 4
