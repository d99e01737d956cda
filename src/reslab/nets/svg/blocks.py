"""Each kind of block step by step, with the shortcut as a curve beside the branch."""

from collections.abc import Sequence

from reslab.nets.describe import Description, Kind
from reslab.nets.flow import Step, Steps
from reslab.nets.svg.canvas import MARGIN, WIDTH, Canvas, text_width, way_class

BOXED = ("conv", "fc", "pool", "pad")
BETWEEN = 9
"""Pixels between two steps."""


def draw_blocks(canvas: Canvas, told: Description, top: float) -> float:
    """A card for each kind of block; returns where they end."""
    canvas.text(MARGIN, top + 18, "Its blocks", "b", 20)
    room, gap, y = WIDTH - 2 * MARGIN, 20.0, top + 36
    wanted = [max(230.0, sum(_widths(kind)) + 16 * (len(_widths(kind)) - 1) + 36) for kind in told.kinds]
    lines = -(-(sum(wanted) + gap * (len(wanted) - 1)) // room)
    in_row = -(-len(wanted) // int(lines))
    for begin in range(0, len(wanted), in_row):
        kinds, least = told.kinds[begin : begin + in_row], wanted[begin : begin + in_row]
        spare = (room - sum(least) - gap * (len(least) - 1)) / len(least)
        widths = [min(480.0, each + spare) for each in least]
        x = (WIDTH - sum(widths) - gap * (len(widths) - 1)) / 2
        heads = [_card_head(Canvas(), told, kind, 0, 0, width) for kind, width in zip(kinds, widths, strict=True)]
        flow = y + max(heads) + 34
        bottom = max(draw_block(Canvas(), kind, 0, flow, width) for kind, width in zip(kinds, widths, strict=True)) + 20
        for kind, width in zip(kinds, widths, strict=True):
            canvas.rect(x, y, width, bottom - y, "card", 10)
            _card_head(canvas, told, kind, x, y, width)
            draw_block(canvas, kind, x, flow, width)
            x += width + gap
        y = bottom + gap
    return y - gap


def _wrapped(text: str, size: float, room: float) -> list[str]:
    """The text in lines that fit into ``room``; a stride and its figure stay together."""
    lines = [""]
    for word in text.replace("stride ", "stride\u00a0").split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) > room and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _card_head(canvas: Canvas, told: Description, kind: Kind, x: float, y: float, width: float) -> float:
    """Draws a block's name and where it is used; returns where the text ends."""
    canvas.circle(x + 28, y + 28, 12, "disc")
    canvas.text(x + 28, y + 32.5, kind.letter, "b mid on-disc", 13)
    at = y + 33
    for line in _wrapped(kind.title, 14.5, width - 66):
        canvas.text(x + 50, at, line, "b", 14.5)
        at += 18
    canvas.text(x + 50, at, kind.formula, "it way-text", 13, width - 66)
    for line in _wrapped(told.places(kind), 11.5, width - 66):
        at += 16
        canvas.text(x + 50, at, line, "soft", 11.5)
    return at


def _height(step: Step) -> float:
    return (40 if step.details else 29) if step.kind in BOXED else 21


def _extent(steps: Steps) -> float:
    return sum(BETWEEN + _height(step) for step in steps)


def _need(steps: Steps) -> float:
    """The width that the boxes of a way need."""
    texts = [text_width(step.head, 12.5) for step in steps if step.kind in BOXED]
    texts += [text_width(step.text, 11.5) for step in steps if step.kind not in BOXED]
    texts += [text_width(", ".join(step.details), 11) for step in steps if step.kind in BOXED]
    return max([46.0, *texts]) + 18


def _widths(kind: Kind) -> list[float]:
    """Widths of a block's paths: branch, shortcut, gate."""
    way = kind.flow
    widths = [_need(way.fork + way.branch + way.after)]
    if way.shortcut is not None:
        widths.append(_need(way.shortcut) if way.shortcut else 76)
    return [*widths, _need(way.gate)] if way.gate else widths


def draw_block(canvas: Canvas, kind: Kind, x: float, y: float, width: float) -> float:
    """The steps of a block and its shortcut; returns where the drawing ends."""
    way, widths = kind.flow, _widths(kind)
    side = way.shortcut
    room = width - 36 - 16 * (len(widths) - 1)
    widths = [each * min(1.25, room / sum(widths)) for each in widths]
    left = x + (width - sum(widths) - 16 * (len(widths) - 1)) / 2
    middles = [left + sum(widths[:i]) + 16 * i + each / 2 for i, each in enumerate(widths)]
    main = middles[0]
    canvas.text(main, y, f"x: {kind.entering}", "soft mid", 12)
    start = y + 6
    fork = start + _extent(way.fork) + (14 if side is not None else 4)
    height = max(_extent(way.branch), _extent(side or ()), _extent(way.gate) + 31 if way.gate else 0)
    join = fork + height + 16 if side is not None else fork + height
    after = join + 7 if side is not None else join
    end = after + _extent(way.after) + 20
    canvas.path([(main, start), (main, end)], tip=True)
    if side is not None:
        _aside(canvas, kind, middles, widths, (start, fork, join), height)
        canvas.plus(main, join, 8)
    slack = height - _extent(way.branch)
    _steps(canvas, way.fork, main, start, widths[0])
    _steps(canvas, way.branch, main, fork + (slack if way.gate else slack / 2), widths[0])
    _steps(canvas, way.after, main, after, widths[0])
    canvas.text(main, end + 15, str(kind.leaving), "soft mid", 12)
    return end + 15


def _aside(
    canvas: Canvas, kind: Kind, middles: Sequence[float], widths: Sequence[float],
    heights: tuple[float, float, float], height: float,
) -> None:  # fmt: skip
    """The shortcut beside the branch, and its gate."""
    way, (main, side) = kind.flow, middles[:2]
    start, fork, join = heights
    assert way.shortcut is not None
    points = [(main, fork), (side, fork), (side, join), (main + 8, join)]
    canvas.path(points, way_class(kind), 26)
    canvas.tip(points[-2], points[-1], "way-tip")
    if not way.shortcut:
        canvas.text(side + 7, (fork + join) / 2 + 4, kind.shortcut, "way-text", 12)
    if not way.gate:
        _steps(canvas, way.shortcut, side, fork + (height - _extent(way.shortcut)) / 2, widths[1])
        return
    level = fork + height - 10.5  # of the last step of the branch
    gate = middles[2]
    canvas.path([(main, start + 4), (gate, start + 4), (gate, level)], "gate", 26)
    target = main + 24 if way.branch[-1].what == "× g" else side + 32
    canvas.path([(gate, level), (target, level)], "gate")
    canvas.tip((gate, level), (target, level), "gate-tip")
    _steps(canvas, way.gate, gate, level - 20 - _extent(way.gate), widths[2])
    canvas.circle(gate, level, 11, "times")
    canvas.text(gate, level + 4, "g", "it mid", 13)
    _steps(canvas, way.shortcut, side, level - 10.5 - BETWEEN, widths[1])


def _steps(canvas: Canvas, steps: Steps, middle: float, y: float, width: float) -> None:
    """Boxes and pills on a line, from ``y`` down."""
    for step in steps:
        y += BETWEEN
        height = _height(step)
        if step.kind in BOXED:
            canvas.rect(middle - width / 2, y, width, height, step.kind, 6)
            canvas.text(middle, y + 18.5 - (1.5 if step.details else 0), step.head, "mid", 12.5, width - 8)
            if step.details:
                canvas.text(middle, y + 32, ", ".join(step.details), "mid soft", 11, width - 8)
        else:
            wide = max(46.0, text_width(step.text, 11.5) + 18)
            canvas.rect(middle - wide / 2, y, wide, height, step.kind, 10.5)
            canvas.text(middle, y + 14.5, step.text, "mid", 11.5)
        y += height
