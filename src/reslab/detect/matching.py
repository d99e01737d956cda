"""Which detections are right: boxes found set against boxes there are, by the rules of Pascal VOC and of COCO."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from reslab.detect.annotations.types import Picture
from reslab.detect.detections import Detections, Floats

Rule = Literal["voc", "coco"]
MOST = 100
"""Detections of a class in a picture that COCO counts."""


def overlaps(found: Floats, there: Floats, crowds: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Intersection over union, (n, 4) and (m, 4) -> (n, m); over the area found, where a box is a crowd."""
    low = np.maximum(found[:, None, :2], there[None, :, :2])
    high = np.minimum(found[:, None, 2:], there[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)  # (n, m)
    areas = (found[:, 2:] - found[:, :2]).prod(1)[:, None]
    union = areas + (there[:, 2:] - there[:, :2]).prod(1) - common
    if crowds is not None:
        union = np.where(crowds, areas, union)
    shares: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


@dataclass(frozen=True)
class Matched:
    """The detections of one class over all pictures, best first; those that hit an ignored box are left out."""

    scores: Floats
    """(n,)"""
    hits: npt.NDArray[np.bool_]
    """whether each is right (n,)"""
    pictures: npt.NDArray[np.int64]
    """the picture of each (n,)"""
    there: npt.NDArray[np.int64]
    """boxes of the class that are to be found, in each picture"""


def match(
    pictures: Sequence[Picture], detections: Sequence[Detections], label: int, threshold: float, rule: Rule
) -> Matched:
    """Matches one class at one overlap.

    Pascal VOC (devkit, VOCevaldet.m): a detection is right if the box that it overlaps most is of its class, by at
    least the threshold, and not found yet. COCO (cocoeval.py): it takes the best box that is left, and an ignored one
    only where no other is; of each picture the 100 best detections count.
    """
    scores, hits, numbers, there = [], [], [], []
    for number, (picture, found) in enumerate(zip(pictures, detections, strict=True)):
        of_class = picture.labels() == label
        ignored = picture.ignored()[of_class]
        mine = np.flatnonzero(found.labels == label)
        mine = mine[np.argsort(-found.scores[mine], kind="stable")]
        if rule == "coco":
            mine = mine[:MOST]
        crowds = ignored if rule == "coco" else None
        shares = overlaps(found.boxes[mine], picture.corners()[of_class], crowds)
        verdicts = (_voc if rule == "voc" else _coco)(shares, ignored, threshold)
        counted = verdicts >= 0
        scores.append(found.scores[mine][counted])
        hits.append(verdicts[counted] == 1)
        numbers.append(np.full(int(counted.sum()), number, np.int64))
        there.append(int((~ignored).sum()))
    flat = np.concatenate(scores) if scores else np.zeros(0)
    order = np.argsort(-flat, kind="stable")
    return Matched(
        flat[order],
        (np.concatenate(hits) if hits else np.zeros(0, bool))[order],
        (np.concatenate(numbers) if numbers else np.zeros(0, np.int64))[order],
        np.array(there, np.int64),
    )


def _voc(shares: Floats, ignored: npt.NDArray[np.bool_], threshold: float) -> npt.NDArray[np.int64]:
    """1 right, 0 wrong, -1 not counted, for each detection, best first; shares (n, m)."""
    verdicts = np.zeros(len(shares), np.int64)
    if not shares.size:
        return verdicts
    taken = np.zeros(len(ignored), bool)
    for i, best in enumerate(shares.argmax(1)):
        if shares[i, best] >= threshold:
            if ignored[best]:
                verdicts[i] = -1
            elif not taken[best]:
                taken[best], verdicts[i] = True, 1
    return verdicts


def _coco(shares: Floats, ignored: npt.NDArray[np.bool_], threshold: float) -> npt.NDArray[np.int64]:
    """As `_voc`. Among equal overlaps the later box is taken, as cocoeval.py does; a crowd can be taken again."""
    verdicts = np.zeros(len(shares), np.int64)
    free = np.ones(len(ignored), bool)
    for i, share in enumerate(shares):
        for some, verdict in ((~ignored, 1), (ignored, -1)):
            left = np.flatnonzero(some & free & (share >= min(threshold, 1 - 1e-10)))
            if len(left):
                best = left[np.flatnonzero(share[left] == share[left].max())[-1]]
                free[best] = verdict == -1
                verdicts[i] = verdict
                break
    return verdicts
