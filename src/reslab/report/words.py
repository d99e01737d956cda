"""Numbers as readers like them: the same wording in the page, the figure and the terminal."""

from __future__ import annotations

import re
from datetime import datetime

from reslab.report.summary import Fact, Judgement, Row, Spread, Summary

TONE: dict[Judgement, str] = {"held": "green", "not held": "red", "not decided": "yellow"}
"""The terminal's colour of a verdict."""
HEADLINES: dict[Judgement, str] = {
    "held": "The claim held here.",
    "not held": "The claim did not hold here.",
    "not decided": "Not decided here.",
}


def headline(summary: Summary) -> str:
    """What came of the study, in a sentence of few words."""
    if summary.verdict is None:
        return "No claim was judged."
    several = sum(part.decides for part in summary.verdict.parts) > 1
    if several and summary.verdict.overall == "held":
        return "The claims held here."
    if several and summary.verdict.overall == "not held":
        return "Not all of the claims held here."
    return HEADLINES[summary.verdict.overall]


def percent(value: float | None) -> str:
    """An error in per cent, without the sign: two decimals, as in the papers; a dash for nothing."""
    return "–" if value is None else f"{value:.2f}"


def spread(value: Spread | None, digits: int = 2) -> str:
    """``38.61 ± 2.10``; the mean alone where there is one seed; a dash for nothing."""
    if value is None:
        return "–"
    mean = f"{value.mean:,.{digits}f}"
    return mean if value.std is None else f"{mean} ± {value.std:,.{digits}f}"


def to_threshold(row: Row) -> str:
    """Iterations to the threshold; how many seeds reached it is said where not all did."""
    if row.iterations_to_threshold is None or row.reached == 0:
        return "not reached"
    text = spread(row.iterations_to_threshold, digits=0)
    return text if row.reached == row.n else f"{text} ({row.reached} of {row.n})"


def count(value: int) -> str:
    """A whole number with separators: ``269,722``."""
    return f"{value:,}"


def plural(number: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """``48 s``, ``2 min 5 s``, ``3 h 12 min``, ``105.5 days``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours >= 72:
        return f"{hours / 24:,.1f} days"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def roughly(seconds: float) -> str:
    """A guess in round numbers: ``20 s``, ``5 min``, ``1 h``, ``3 h``, ``70 h``."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 0.9 * size:
            whole = seconds / size
            return f"{round(whole, -1) if whole >= 20 else max(1, round(whole)):.0f} {unit}"
    return f"{max(1, round(seconds))} s"


def moment(iso: str) -> str:
    """``2026-03-01T10:00:05+00:00`` as ``2026-03-01 10:00 +00:00``; other text as it came."""
    day, separator, rest = iso.partition("T")
    if not separator:
        return iso
    zone = ""
    for mark in ("+", "-", "Z"):
        if mark in rest:
            rest, _, tail = rest.partition(mark)
            zone = " UTC" if mark == "Z" or tail in ("00:00", "0000") else f" {mark}{tail}"
            break
    return f"{day} {rest[:5]}{zone}"


def between(start: str, end: str) -> float | None:
    """Seconds from one ISO 8601 moment to another; None where they are no such moments."""
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (ValueError, TypeError):
        return None


def signs(text: str) -> str:
    """With a minus for each hyphen before a figure: ``-3.45`` as ``−3.45``, but not in ``2026-03-01``."""
    return re.sub(r"(?<![\w.-])-(?=\d)", "−", text)


def fact(value: Fact) -> str:
    """A value of `data` or `recipe` for a reader."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(fact(item) for item in value)
    return value


def label(key: str) -> str:
    """A key such as ``n_train`` as words."""
    known = {"n_train": "training images", "n_test": "test images", "lr": "learning rate", "cpu": "CPU"}
    known |= {"bn_group": "images per BN statistics", "global_batch": "batch"}
    known |= {"gpu": "GPU", "drops": "learning rate drops at", "torch": "PyTorch"}
    return known.get(key, key.replace("_", " "))


def seeds(summary: Summary) -> str:
    """``3 seeds each``, or ``2 to 3 seeds each`` where the networks differ in it."""
    counts = sorted({row.n for row in summary.rows})
    if len(counts) == 1:
        return plural(counts[0], "seed") + (" each" if len(summary.rows) > 1 else "")
    return f"{counts[0]} to {counts[-1]} seeds each"
