"""What kinds of error a detector makes: Hoiem et al. 2012 (ECCV); Bolya et al. 2020 (TIDE, arXiv 2008.08115)."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from reslab.detect.annotations.types import Picture
from reslab.detect.detections import Detections
from reslab.detect.matching import overlaps

RIGHT, NEAR = 0.5, 0.1
"""Overlaps from which on a box is at its place, and near it."""


class Error(StrEnum):
    """A kind of error."""

    TWICE = "found twice"
    PLACE = "badly placed"
    CLASS = "wrong class"
    BACKGROUND = "background"
    MISSED = "missed"


WHAT = {
    Error.TWICE: f"overlaps a box of its class by {RIGHT} or more, which another detection has found already",
    Error.PLACE: f"overlaps a box of its class, but only by {NEAR} to {RIGHT}",
    Error.CLASS: f"overlaps a box by {RIGHT} or more, but of another class",
    Error.BACKGROUND: "a detection of none of these kinds",
    Error.MISSED: "an annotated box that no detection overlaps as above",
}
"""What each means; a detection is of the first kind that fits."""


class Mistake(NamedTuple):
    """One error: a detection, or for `Error.MISSED` a box of the picture, by its place there."""

    kind: Error
    place: int


def mistakes(picture: Picture, found: Detections) -> list[Mistake]:
    """The errors in one picture. Give the detections of the score that one works at: `Detections.above`."""
    labels, ignored = picture.labels(), picture.ignored()
    shares = overlaps(found.boxes, picture.corners())  # (n, m)
    same = found.labels[:, None] == labels[None]
    taken, touched = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
    made = []
    for i in np.argsort(-found.scores, kind="stable"):
        own, other = np.where(same[i], shares[i], 0.0), np.where(same[i], 0.0, shares[i])
        touched |= (own >= NEAR) | (other >= RIGHT)
        at = np.flatnonzero((own >= RIGHT) & ~taken & ~ignored)
        if len(at):
            taken[at[own[at].argmax()]] = True
            continue
        if (own[ignored] >= RIGHT).any():
            continue
        kind = _kind(float(own.max(initial=0.0)), float(other.max(initial=0.0)))
        made.append(Mistake(kind, int(i)))
    made += [Mistake(Error.MISSED, int(j)) for j in np.flatnonzero(~touched & ~ignored)]
    return made


def _kind(own: float, other: float) -> Error:
    if own >= RIGHT:
        return Error.TWICE
    if own >= NEAR:
        return Error.PLACE
    return Error.CLASS if other >= RIGHT else Error.BACKGROUND


def counted(pictures: Sequence[Picture], detections: Sequence[Detections], score: float) -> dict[Error, int]:
    """Errors of each kind over all pictures, among detections of at least this score."""
    found: Counter[Error] = Counter()
    for picture, each in zip(pictures, detections, strict=True):
        found.update(mistake.kind for mistake in mistakes(picture, each.above(score)))
    return {kind: found[kind] for kind in Error}
