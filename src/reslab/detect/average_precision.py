"""Average precision: Pascal VOC's of 2007 and of 2010, COCO's, and how far each can be trusted.

Everingham et al. 2010, IJCV 88:303, section 4.2; Lin et al. 2014, arXiv 1405.0312, and cocoeval.py.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from reslab.detect.annotations.types import Picture
from reslab.detect.detections import Detections, Floats, as_coco, as_coco_results
from reslab.detect.matching import Matched, match
from reslab.errors import InputError

Rule = Literal["voc07", "voc10", "coco"]
OVERLAPS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""COCO's thresholds."""
RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Curve:
    """Precision against recall as the score that a detection needs falls; of one class, at one overlap."""

    scores: Floats
    """(n,), best first"""
    recall: Floats
    """(n,)"""
    precision: Floats
    """(n,)"""


def curve(matched: Matched, times: Floats | None = None) -> Curve:
    """The curve of one class; ``times``: how often each picture counts, (pictures,)."""
    weights = np.ones(len(matched.hits)) if times is None else times[matched.pictures]
    there = matched.there.sum() if times is None else matched.there @ times
    right = np.cumsum(weights * matched.hits)
    all_of = np.cumsum(weights)
    precision = np.divide(right, all_of, out=np.zeros_like(right), where=all_of > 0)
    return Curve(matched.scores, right / there if there else np.full_like(right, np.nan), precision)


def area(drawn: Curve, rule: Rule) -> float:
    """Average precision from a curve, 0 to 1.

    - ``voc07``: the mean over recalls 0, 0.1, ..., 1 of the best precision at that recall or above.
    - ``voc10``: the area under the curve, once precision is made to fall; since VOC 2010.
    - ``coco``: as ``voc07`` with 101 recalls; precision between two detections is that of the later one.
    """
    if not len(drawn.recall):
        return 0.0
    best = np.maximum.accumulate(drawn.precision[::-1])[::-1]  # the best precision at this recall or above
    if rule == "voc10":
        steps = np.diff(drawn.recall, prepend=0.0)
        return float(steps @ best)
    points = np.linspace(0, 1, 11) if rule == "voc07" else np.linspace(0, 1, 101)
    places = np.searchsorted(drawn.recall, points, side="left")
    return float(np.append(best, 0.0)[places].mean())


def of_classes(matched: Sequence[Matched], rule: Rule, times: Floats | None = None) -> Floats:
    """Average precision of each class (classes,); nan of one that has no box to be found."""
    found = []
    for each in matched:
        there = each.there.sum() if times is None else each.there @ times
        found.append(area(curve(each, times), rule) if there else np.nan)
    return np.array(found)


def mean(values: Floats) -> float:
    """The mean over the classes that have boxes; nan where none has."""
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


@dataclass(frozen=True)
class Figure:
    """A mean average precision with its interval. Shares, 0 to 1."""

    value: float
    low: float
    high: float
    classes: tuple[float, ...]
    """of each class; nan where it has no box to be found"""


def figure(sets: Sequence[Sequence[Matched]], rule: Rule, resamples: int = RESAMPLES, seed: int = 0) -> Figure:
    """The mean over overlaps and classes, and a 95 % interval by bootstrap over pictures.

    Pictures are drawn with replacement (Efron 1979), each with all its boxes and detections; the interval is between
    the percentiles of the figures of the draws. It says nothing of what another training would give.

    Args:
        sets: for each overlap, each class matched.
        rule: how precision is averaged.
        resamples: draws; 0 for none, and an interval of nan.
        seed: of the draws.
    """
    values = np.array([of_classes(matched, rule) for matched in sets])  # (overlaps, classes)
    n = len(sets[0][0].there)
    random = np.random.Generator(np.random.Philox(key=seed))
    drawn = []
    for _ in range(resamples if n else 0):
        times = random.multinomial(n, np.full(n, 1 / n)).astype(np.float64)
        drawn.append(mean(np.array([of_classes(matched, rule, times) for matched in sets])))
    whole = np.array(drawn)[~np.isnan(drawn)] if drawn else np.zeros(0)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(whole, (tail, 1 - tail)) if len(whole) else (np.nan, np.nan)
    return Figure(mean(values), float(low), float(high), tuple(values.mean(0).tolist()))


def gain(
    before: Sequence[Sequence[Matched]], after: Sequence[Sequence[Matched]], rule: Rule, resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:  # fmt: skip
    """How far the mean of ``after`` is above that of ``before``, and its 95 % interval by paired bootstrap.

    Both are matched with the same pictures, of which each draw takes the same for both. Sets as in `figure`.
    """

    def ahead(times: Floats | None) -> float:
        one, other = (mean(np.array([of_classes(each, rule, times) for each in sets])) for sets in (before, after))
        return other - one

    n = len(before[0][0].there)
    random = np.random.Generator(np.random.Philox(key=seed))
    drawn = np.array([ahead(random.multinomial(n, np.full(n, 1 / n)).astype(np.float64)) for _ in range(resamples)])
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(drawn, (tail, 1 - tail)) if not np.isnan(drawn).all() else (np.nan, np.nan)
    return ahead(None), float(low), float(high)


def matched_classes(
    pictures: Sequence[Picture], detections: Sequence[Detections], classes: int, overlap: float, rule: Rule
) -> list[Matched]:
    """Each class matched at one overlap, as the rule of the figure has it."""
    how: Literal["voc", "coco"] = "coco" if rule == "coco" else "voc"
    return [match(pictures, detections, label, overlap, how) for label in range(classes)]


def voc(
    pictures: Sequence[Picture], detections: Sequence[Detections], classes: int, rule: Literal["voc07", "voc10"],
    *, overlap: float = 0.5, resamples: int = RESAMPLES,
) -> Figure:  # fmt: skip
    """Pascal VOC's mean average precision: of 2007 in 11 points, since 2010 as an area."""
    return figure([matched_classes(pictures, detections, classes, overlap, rule)], rule, resamples)


def coco(
    pictures: Sequence[Picture], detections: Sequence[Detections], classes: Sequence[str], *, resamples: int = RESAMPLES
) -> Figure:
    """COCO's mAP@[.5:.95] by faster-coco-eval, with an interval by our own count, which gives the same figure.

    Raises:
        InputError: faster-coco-eval is not installed.
    """
    stats, by_class = library_figures(pictures, detections, classes)
    sets = [matched_classes(pictures, detections, len(classes), overlap, "coco") for overlap in OVERLAPS]
    own = figure(sets, "coco", resamples)
    return Figure(stats, own.low, own.high, by_class)


def library_figures(
    pictures: Sequence[Picture], detections: Sequence[Detections], classes: Sequence[str], api: Any = None
) -> tuple[float, tuple[float, ...]]:
    """mAP@[.5:.95], over all classes and of each (nan without boxes), as a library counts it.

    ``api``: a pair of classes as pycocotools' ``COCO`` and ``COCOeval``; by default those of faster-coco-eval.
    """
    of_data, of_evaluation = faster_coco_eval() if api is None else api
    with contextlib.redirect_stdout(io.StringIO()):  # both libraries print as they go
        truth = of_data()
        truth.dataset = as_coco(pictures, classes)
        truth.createIndex()
        results = as_coco_results(detections)
        found = truth.loadRes(results) if results else of_data()
        if not results:
            found.dataset = truth.dataset | {"annotations": []}
            found.createIndex()
        evaluation = of_evaluation(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]  # (overlaps, recalls, classes)
    there = np.where(precision < 0, np.nan, precision)
    by_class = tuple(float(there[:, :, label].mean()) for label in range(len(classes)))
    return mean(np.array(by_class)), by_class


def faster_coco_eval() -> tuple[Any, Any]:
    """The library's two classes, if it is installed."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise InputError("COCO's figures need the library faster-coco-eval: pip install 'reslab[detect]'") from None
    return COCO, COCOeval_faster
