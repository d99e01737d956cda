"""A network drawn with the characters of a terminal: its stages as a column, then each kind of block."""

from reslab.nets.describe import Description, Kind
from reslab.nets.flow import Step, Steps

BOXED = ("conv", "fc", "pool", "pad")
"""What is drawn as a box; the rest (BN, ReLU, a factor) is written beside the line."""

INDENT = "  "
GAP = 5
"""Columns between the ways of a block."""


def picture(told: Description) -> str:
    """The network as a column of its stages, then each kind of block with its steps in their order."""
    title = f"{told.name}: {told.depth:,} layers"
    costs = f"{told.cost.params:,} parameters, {told.cost.macs:,} multiply-adds"
    return "\n\n".join((f"{title}\n{costs}", _network(told), *(_titled(told, kind) for kind in told.kinds)))


# --- one way: boxes and notes on a vertical line -----------------------------------------------------------------


def _inner(*ways: Steps) -> int:
    """The width that the boxes of a way need inside."""
    return max((len(step.text) + 2 for way in ways for step in way if step.kind in BOXED), default=0)


def _mid(inner: int) -> int:
    """The column of the line that goes through boxes of that width."""
    return inner // 2 + 1 if inner else 0


def _box(texts: list[str], inner: int) -> list[str]:
    left, right = "─" * (inner // 2), "─" * (inner - inner // 2 - 1)
    return [f"┌{left}┴{right}┐", *(f"│{text:^{inner}}│" for text in texts), f"└{left}┬{right}┘"]


def _line(inner: int, note: str = "") -> str:
    return " " * _mid(inner) + f"│ {note}".rstrip()


def _lines(steps: Steps, inner: int) -> list[str]:
    def lines(step: Step) -> list[str]:
        return _box([step.text], inner) if step.kind in BOXED else [_line(inner, step.text)]

    return [line for step in steps for line in lines(step)]


def _centred(text: str, mid: int) -> str:
    return " " * max(0, mid - len(text) // 2) + text


# --- the network -------------------------------------------------------------------------------------------------


def _network(told: Description) -> str:
    first = told.stages[0]
    runs = [[f"{run.kind.letter} x {run.count:,}" for run in stage.runs] for stage in told.stages]
    inner = max(_inner(told.stem, first.before, told.head), *(len(text) + 6 for texts in runs for text in texts))
    rows = [_centred(str(told.entering), _mid(inner)), _line(inner)]
    notes: dict[int, tuple[str, ...]] = {}

    def add(lines: list[str], *note: str) -> None:
        """Appends lines, with a note beside the last box."""
        bottom = max((i for i, line in enumerate(lines) if line.startswith("└")), default=1)
        top = max((i for i, line in enumerate(lines[:bottom]) if line.startswith("┌")), default=0)
        notes[len(rows) + (top + bottom) // 2] = note
        rows.extend(lines)

    add(_lines(told.stem, inner), told.stem_paper, "stem", str(told.stem_leaving))
    if first.before:
        add(_lines(first.before, inner), "", "", str(first.entering))
    for stage, texts in zip(told.stages, runs, strict=True):
        add(_box(texts, inner), stage.paper, stage.name, str(stage.leaving))
    add(_lines(told.head, inner), "", "head", "")
    beside = {row: "   {:<9}{:<8}{}".format(*note) for row, note in notes.items()}
    return "\n".join((f"{INDENT}{row:<{inner + 2}}" + beside.get(i, "")).rstrip() for i, row in enumerate(rows))


# --- a kind of block ---------------------------------------------------------------------------------------------


def _titled(told: Description, kind: Kind) -> str:
    return f"{kind.letter}  {kind.title}: {kind.formula}\n   {told.places(kind)}\n\n{_block(kind)}"


def _block(kind: Kind) -> str:
    """The steps of a block from top to bottom, with the shortcut as a line beside them."""
    way = kind.flow
    inner = max(_inner(way.fork, way.branch, way.after), len(str(kind.entering)) + 6, len(str(kind.leaving)) + 2)
    mid = _mid(inner)
    branch = _lines(way.branch, inner)
    rows = [_centred(f"x: {kind.entering}", mid), *_lines(way.fork, inner)]
    if way.shortcut is None:
        rows += [_line(inner), *branch]
    else:
        rows += _joined(branch, mid, _beside(kind))
    rows += [*_lines(way.after, inner), " " * mid + "▼", _centred(str(kind.leaving), mid)]
    # What the drawing says of widths holds for its first block.
    rows[0] += f"   (enters {kind.first})"
    return "\n".join((INDENT + row).rstrip() for row in rows)


def _beside(kind: Kind) -> list[tuple[list[str], int]]:
    """The shortcut and the gate: their lines, and the column of the line in each."""
    way = kind.flow
    assert way.shortcut is not None
    inner = _inner(way.shortcut)
    ways = [(_lines(way.shortcut, inner) or [_line(inner, kind.shortcut)], _mid(inner))]
    if way.gate:
        inner = _inner(way.gate)
        ways.append(([*_lines(way.gate, inner), " " * _mid(inner) + "g"], _mid(inner)))
    return ways


def _joined(branch: list[str], mid: int, beside: list[tuple[list[str], int]]) -> list[str]:
    """The branch, the other ways right of it, the fork above and the addition below."""
    height = max(len(branch), *(len(lines) for lines, _ in beside))
    rows = _stretched(branch, height, mid, top=True)
    start, mids = max(map(len, rows)) + GAP, []
    for number, (lines, at) in enumerate(beside):
        mids.append(start + at)
        # The gate ends in its g; the shortcut goes all the way down.
        side = _stretched(lines, height, at) if number == 0 else lines + [""] * (height - len(lines))
        rows = [f"{row:<{start}}{line}" for row, line in zip(rows, side, strict=True)]
        start = max(map(len, rows)) + GAP
    fork = "├".rjust(mid + 1) + "─" * (mids[-1] - mid - 1) + "┐"
    for at in mids[:-1]:
        fork = f"{fork[:at]}┬{fork[at + 1 :]}"
    return [fork, *rows, "⊕".rjust(mid + 1) + "◄" + "─" * (mids[0] - mid - 2) + "┘"]


def _stretched(lines: list[str], height: int, at: int, *, top: bool = False) -> list[str]:
    """The lines in the middle (or at the top) of a way of ``height``."""
    line, missing = " " * at + "│", height - len(lines)
    above = 0 if top else missing // 2
    return [line] * above + lines + [line] * (missing - above)
