"""Just enough of SVG to draw networks: shapes and texts on a canvas, with colours for light and dark."""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

from reslab.nets.describe import Kind

Point = tuple[float, float]

WIDTH = 900
MARGIN = 36

_LIGHT = """
--ground:#fbfaf8;--card:#ffffff;--ink:#1d1c1a;--soft:#5f5b54;--rule:#dfdad0;--line:#57534c;
--s0:#eeebe5;--s0e:#a39d92;--s1:#dfeafa;--s1e:#5c8bd1;--s2:#daf1e5;--s2e:#3d9f75;--s3:#fcefcb;--s3e:#c8962a;
--s4:#fbe1da;--s4e:#d5735a;--s5:#e9e2f7;--s5e:#8e74cb;
--conv:#e3ebf5;--conve:#5a7ba6;--pool:#e2efe6;--poole:#5f9474;--norm:#f1ecfa;--norme:#9a86c9;
--act:#fdebd8;--acte:#d28a3c;--way:#0f6b8f;"""
_DARK = """
--ground:#15171a;--card:#1c1f23;--ink:#eceae5;--soft:#b0aca4;--rule:#363a40;--line:#a8a39a;
--s0:#2a2d31;--s0e:#7d7a74;--s1:#1c2d47;--s1e:#6d9ee6;--s2:#173328;--s2e:#54b98d;--s3:#382c0f;--s3e:#d2a645;
--s4:#3c211a;--s4e:#e28a72;--s5:#2b2342;--s5e:#a68fe0;
--conv:#22303f;--conve:#7fa2cd;--pool:#1e3227;--poole:#7bb592;--norm:#2b2640;--norme:#a994dd;
--act:#3b2a16;--acte:#e0a35c;--way:#5cc0e6;"""
_RULES = """
text{font-family:"Helvetica Neue",Helvetica,Arial,"Liberation Sans",sans-serif;fill:var(--ink)}
.b{font-weight:600}.soft{fill:var(--soft)}.mid{text-anchor:middle}.end{text-anchor:end}
.way-text{fill:var(--way)}.it{font-style:italic}
.ground{fill:var(--ground)}.card{fill:var(--card);stroke:var(--rule)}.disc{fill:var(--ink)}.on-disc{fill:var(--card)}
.line{fill:none;stroke:var(--line);stroke-width:1.4}
.way{fill:none;stroke:var(--way);stroke-width:1.8}
.changes{stroke-dasharray:5 4}.pads{stroke-dasharray:1.5 4;stroke-linecap:round;stroke-width:2.2}
.gate{fill:none;stroke:var(--acte);stroke-width:1.4;stroke-dasharray:3 3}
.tip{fill:var(--line)}.gate-tip{fill:var(--acte)}.way-tip{fill:var(--way)}.plus{fill:var(--card);stroke:var(--line);stroke-width:1.4}
.chip{fill:var(--card);stroke:var(--way);stroke-width:1}
.times{fill:var(--card);stroke:var(--acte);stroke-width:1.3}
.drop{fill:var(--card);stroke:var(--soft);stroke-width:1.2;stroke-dasharray:3 2}
.conv,.fc{fill:var(--conv);stroke:var(--conve)}.pool,.pad{fill:var(--pool);stroke:var(--poole)}
.norm{fill:var(--norm);stroke:var(--norme)}.act,.sigmoid{fill:var(--act);stroke:var(--acte)}"""
COLOURS = 5
"""Of stages; ``s0`` is what belongs to none."""


def style() -> str:
    """The style sheet. A picture shown by a page follows the page's reader, light or dark."""
    stages = "".join(
        f".s{i}{{fill:var(--s{i});stroke:var(--s{i}e)}}.f{i}{{fill:var(--s{i}e)}}" for i in range(COLOURS + 1)
    )
    return f":root{{{_LIGHT}}}\n@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}{_RULES}\n{stages}"


def pretty(text: str) -> str:
    """Uses typographic signs: ``3×3`` for ``3x3``, a minus for a hyphen before a number."""
    text = re.sub(r"(?<=\d)x(?=\d)", "×", text)
    return re.sub(r"(?<![\w])-(?=\d)|(?<= )-(?= )", "−", text)


def xml(text: str) -> str:
    """Fit to stand in a file of XML, which knows no control characters."""
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))


def si(count: int) -> str:
    """Three digits and a unit: ``25.6 M``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 999.5 * size else f"{count / size:,.0f} {unit}"
    return str(count)


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in Arial's proportions."""
    narrow, wide = " .,:;'|()[]ijlftrI", "mwMW@ABCDEGHKNOPQRSUVX"
    return size * sum(0.31 if char in narrow else 0.75 if char in wide else 0.56 for char in text)


def way_class(kind: Kind) -> str:
    """The class of a kind's shortcut: dotted and dashed where it changes the shape, as in He 2015, Fig. 3."""
    padded = any(step.kind == "pad" for step in kind.flow.shortcut or ())
    return "way pads" if padded else "way changes" if kind.changes else "way"


class Canvas:
    """Collects shapes. ``y`` grows downwards; classes are those of the style sheet."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, css: str, radius: float = 5) -> None:
        """A rounded rectangle by its upper left corner."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" class="{css}"/>'
        )

    def circle(self, x: float, y: float, radius: float, css: str) -> None:
        """A disc."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class="{css}"/>')

    def text(
        self, x: float, y: float, text: str, css: str = "", size: float = 12, room: float | None = None, *,
        verbatim: bool = False,
    ) -> None:  # fmt: skip
        """A line of text on the base line ``y``, smaller if ``room`` asks for it; `pretty` unless ``verbatim``."""
        shown = text if verbatim else pretty(text)
        if room is not None:
            wider = 1.1 if "b" in css.split() else 1.0  # bold
            size = min(size, size * room / max(1.0, wider * text_width(shown, size)))
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{css}" font-size="{size:.3g}">{xml(shown)}</text>')

    def path(self, points: Sequence[Point], css: str = "line", radius: float = 10, tip: bool = False) -> None:
        """A line through points, its corners rounded; ``tip`` puts an arrow at its end."""
        steps = [f"M{points[0][0]:g} {points[0][1]:g}"]
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            (x1, y1), (x2, y2) = (_towards(corner, other, radius) for other in (before, after))
            steps.append(f"L{x1:g} {y1:g}Q{corner[0]:g} {corner[1]:g} {x2:g} {y2:g}")
        steps.append(f"L{points[-1][0]:g} {points[-1][1]:g}")
        self.parts.append(f'<path d="{"".join(steps)}" class="{css}"/>')
        if tip:
            self.tip(points[-2], points[-1], "way-tip" if "way" in css else "tip")

    def tip(self, start: Point, end: Point, css: str = "tip") -> None:
        """An arrow's head at ``end``, coming from ``start``."""
        (x, y), (bx, by) = end, _towards(end, start, 7)
        ox, oy = (by - y) * 0.5, (x - bx) * 0.5
        self.parts.append(f'<path d="M{x:g} {y:g}L{bx + ox:g} {by + oy:g}L{bx - ox:g} {by - oy:g}Z" class="{css}"/>')

    def plus(self, x: float, y: float, radius: float = 6) -> None:
        """The sign of an addition."""
        self.circle(x, y, radius, "plus")
        arm = radius * 0.6
        self.parts.append(f'<path d="M{x - arm:g} {y:g}h{2 * arm:g}M{x:g} {y - arm:g}v{2 * arm:g}" class="line"/>')

    def document(self, height: float, title: str, about: str, width: float = WIDTH) -> str:
        """The whole file."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" style="max-width:100%;height:auto" role="img">\n'
            f"<title>{xml(title)}</title>\n<desc>{xml(about)}</desc>\n"
            f"<style>{style()}</style>\n"
            f'<rect width="{width:g}" height="{height:g}" class="ground"/>\n' + "\n".join(self.parts) + "\n</svg>\n"
        )


def _towards(start: Point, end: Point, length: float) -> Point:
    """The point ``length`` from ``start``, at most half way to ``end``."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    whole = max(1e-9, (dx * dx + dy * dy) ** 0.5)
    share = min(length, whole / 2) / whole
    return start[0] + dx * share, start[1] + dy * share
