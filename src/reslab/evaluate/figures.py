"""Figures that come of scores and labels: pure functions of arrays."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Logs = npt.NDArray[np.float32]
"""Log of softmax scores (N, classes)."""
Labels = npt.NDArray[np.int64]
"""The right class of each image (N,)."""
Z95 = 1.959963984540054
BINS = 15


def ranks(scores: npt.NDArray[np.floating[Any]], labels: Labels) -> Labels:
    """How many classes come before the right one (N,): 0 is a top-1 hit, 4 or less a top-5 hit.

    Of equal scores the lower class comes first. Where a score is not a number, all classes come before the right one.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    before = (scores > own).sum(1) + ((scores == own) & earlier).sum(1)
    found: Labels = np.where(np.isnan(scores).any(1), scores.shape[1], before).astype(np.int64)
    return found


def wilson(hits: int, n: int, z: float = Z95) -> tuple[float, float]:
    """The interval of a share (Wilson 1927): where p lies with 95 % confidence after ``hits`` of ``n``.

    (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)
    """
    if n == 0:
        return 0.0, 1.0
    p, square = hits / n, z * z / n
    centre, half = p + square / 2, z * math.sqrt(p * (1 - p) / n + square / (4 * n))
    low, high = (centre - half) / (1 + square), (centre + half) / (1 + square)
    return (0.0 if hits == 0 else max(0.0, low)), (1.0 if hits == n else min(1.0, high))


ONE_SIDED = 1.6448536269514722


def at_chance(hits: int, n: int, most: float) -> bool:
    """Whether a network does no better than always predicting the most frequent class.

    That is so where its accuracy cannot be told from that class's share: the share is not below the one-sided 95 %
    bound (Wilson) of ``hits`` of ``n``; ``most`` is how many of the n images are of the most frequent class.
    """
    return wilson(hits, n, ONE_SIDED)[0] <= most / n if n else True


def calibration_error(confidence: npt.NDArray[np.floating[Any]], hit: npt.NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error, 0 to 1: sum_b n_b/N |accuracy_b - confidence_b| (Guo 2017, arXiv 1706.04599, eq. 3).

    ``confidence`` (N,) is the score of the class that was chosen, ``hit`` (N,) whether it was right; bin b of equal
    width holds the confidences in (b/bins, (b + 1)/bins].
    """
    if not len(hit):
        return 0.0
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(which, weights=hit.astype(np.float64) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(hit))


@dataclass(frozen=True)
class Figures:
    """What an evaluation comes to. Errors, their intervals (95 %, Wilson) and calibration in per cent; loss in nats."""

    top1_error: float
    top5_error: float | None
    """None of five classes or fewer, where the right one is always among the first five"""
    loss: float | None
    """mean of -log(score of the right class); None where it is not finite, for which JSON has no word"""
    n_images: int
    top1_interval: tuple[float, float]
    top5_interval: tuple[float, float] | None
    calibration_error: float
    not_finite: int
    """images that the network gave no number for; they count as errors"""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def figures(logs: Logs, labels: Labels) -> Figures:
    """All figures of some scores."""
    n = len(labels)
    place = ranks(logs, labels)
    first, fifth = int((place > 0).sum()), int((place > 4).sum())
    chosen = predicted(logs)
    confidence = np.nan_to_num(np.exp(logs[np.arange(n), chosen].astype(np.float64)), nan=0.0)
    nats = float(-logs[np.arange(n), labels].mean(dtype=np.float64))
    five = logs.shape[1] > 5
    return Figures(
        top1_error=100 * first / n,
        top5_error=100 * fifth / n if five else None,
        loss=nats if math.isfinite(nats) else None,
        n_images=n,
        top1_interval=_per_cent(wilson(first, n)),
        top5_interval=_per_cent(wilson(fifth, n)) if five else None,
        calibration_error=100 * calibration_error(confidence, place == 0),
        not_finite=int(np.isnan(logs).any(1).sum()),
    )


def predicted(logs: Logs) -> Labels:
    """The class of the highest score of each image (N,), the lower of equal ones."""
    chosen: Labels = np.where(np.isnan(logs), -np.inf, logs).argmax(1).astype(np.int64)
    return chosen


def _per_cent(interval: tuple[float, float]) -> tuple[float, float]:
    return 100 * interval[0], 100 * interval[1]


@dataclass(frozen=True)
class ClassFigures:
    """How one class fares. Accuracy and its interval (95 %, Wilson) in per cent."""

    name: str
    n_images: int
    accuracy: float
    interval: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def per_class(logs: Logs, labels: Labels, names: Sequence[str], numbers: Sequence[int]) -> list[ClassFigures]:
    """Top-1 accuracy of each class that has images, worst first; ``numbers`` are the outputs of the named classes."""
    hit = ranks(logs, labels) == 0
    found = []
    for name, number in zip(names, numbers, strict=True):
        own = hit[labels == number]
        if n := len(own):
            hits = int(own.sum())
            found.append(ClassFigures(name, n, 100 * hits / n, _per_cent(wilson(hits, n))))
    return sorted(found, key=lambda each: each.accuracy)


def confusion(logs: Logs, labels: Labels, numbers: Sequence[int]) -> npt.NDArray[np.int64]:
    """How many images of each class (rows) were taken for each (columns), (K, K + 1).

    ``numbers`` are the outputs of the K classes of the data; the last column counts all other outputs.
    """
    count = len(numbers)
    place = np.full(max(logs.shape[1], 1 + max(numbers, default=0)), count)
    place[np.asarray(numbers, dtype=np.int64)] = np.arange(count)
    pairs = place[labels] * (count + 1) + place[predicted(logs)]
    return np.bincount(pairs, minlength=count * (count + 1)).reshape(count, count + 1).astype(np.int64)
