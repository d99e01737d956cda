"""Several networks' scores averaged, and which of them are best together."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reslab.errors import InputError
from reslab.evaluate.figures import Logs, ranks
from reslab.evaluate.predictions import Predictions

MOST = 16
"""Members whose subsets are all tried: 65,535."""
AT_A_TIME = 2**20
"""Scores of one member that are looked at together: they stay in the processor's caches."""


def check_together(members: Sequence[Predictions], names: Sequence[str]) -> None:
    """Raises `InputError` unless all are scores of the same images for the same classes in the same order.

    Nothing is reordered: two orders of the same classes mean that one of the two was read wrongly.
    """
    first, called = members[0], names[0]
    for other, name in zip(members[1:], names[1:], strict=True):
        mine, theirs = first.about, other.about
        if mine.data_fingerprint != theirs.data_fingerprint or len(first.labels) != len(other.labels):
            raise InputError(
                f"{name} is of other images ({theirs.data}, {theirs.split}: {len(other.labels):,}, "
                f"{theirs.data_fingerprint}) than {called} ({mine.data}, {mine.split}: {len(first.labels):,}, "
                f"{mine.data_fingerprint}); an ensemble needs the same ones in the same order"
            )
        if mine.left_out != theirs.left_out:
            raise InputError(
                f"{name} and {called} left out different images that could not be decoded; repair those images"
            )
        if first.logs.shape[1] != other.logs.shape[1]:
            raise InputError(
                f"{name} has {other.logs.shape[1]} classes, {called} {first.logs.shape[1]}; an ensemble needs the same"
            )
        for number, (own, its) in enumerate(zip(mine.outputs, theirs.outputs, strict=True)):
            if own is not None and its is not None and own != its:
                raise InputError(
                    f"the classes of {name} are in another order than those of {called}: output {number} is '{its}' "
                    f"there and '{own}' here; evaluate members whose outputs agree"
                )
        if not np.array_equal(first.labels, other.labels):
            number = int(np.argmax(first.labels != other.labels))
            raise InputError(
                f"{name} and {called} disagree about the right output of image {number}: {other.labels[number]} and "
                f"{first.labels[number]}; evaluate members whose classes are in one order"
            )


def averaged(members: Sequence[Logs]) -> Logs:
    """log(1/M sum_m p_m): the log of the mean of softmax scores, (N, classes)."""
    total = members[0].astype(np.float64)
    for logs in members[1:]:
        np.logaddexp(total, logs, out=total)
    return (total - math.log(len(members))).astype(np.float32)


@dataclass(frozen=True)
class Subset:
    """The best of all subsets of a size. Errors in per cent."""

    members: tuple[int, ...]
    """their places, counted from 0"""
    top1_error: float
    top5_error: float


def best_subsets(members: Sequence[Predictions]) -> tuple[Subset, ...]:
    """For each size the subset whose averaged scores have the least top-1 error on these very images.

    All subsets are tried. Of equal ones that of the least top-5 error is taken, then the one whose members come first.

    Raises:
        InputError: more than `MOST` members.
    """
    count, labels = len(members), members[0].labels
    if count > MOST:
        raise InputError(f"--best-subset tries all subsets of up to {MOST} members, got {count}; leave some out")
    subsets = [chosen for chosen, _ in _sums([np.zeros((0, 0))] * count)]
    wrong = np.zeros((len(subsets), 2), np.int64)
    rows = max(1, AT_A_TIME // members[0].logs.shape[1])
    for start in range(0, len(labels), rows):
        part = slice(start, start + rows)
        scores = [np.exp(member.logs[part].astype(np.float64)) for member in members]
        for which, (_, total) in enumerate(_sums(scores)):
            place = ranks(total, labels[part])
            wrong[which] += ((place > 0).sum(), (place > 4).sum())
    best: dict[int, tuple[int, int, tuple[int, ...]]] = {}
    for chosen, (first, fifth) in zip(subsets, wrong.tolist(), strict=True):
        candidate = (first, fifth, chosen)
        best[len(chosen)] = min(best.get(len(chosen), candidate), candidate)
    n = len(labels)
    return tuple(Subset(chosen, 100 * first / n, 100 * fifth / n) for _, (first, fifth, chosen) in sorted(best.items()))


Sum = npt.NDArray[np.float64]


def _sums(scores: Sequence[Sum]) -> Iterator[tuple[tuple[int, ...], Sum]]:
    """Every subset that is not empty, and its sum: one addition each, on that of a smaller one."""

    def further(chosen: tuple[int, ...], total: Sum | None) -> Iterator[tuple[tuple[int, ...], Sum]]:
        for number in range(chosen[-1] + 1 if chosen else 0, len(scores)):
            grown = scores[number] if total is None else total + scores[number]
            yield (*chosen, number), grown
            yield from further((*chosen, number), grown)

    return further((), None)
