"""Localisation error as ImageNet's challenge counts it: the class has to be right, and so has a box of it.

Russakovsky et al. 2015, arXiv 1409.0575, section 4.2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reslab.detect.annotations.types import Picture
from reslab.detect.detections import Detections, Floats
from reslab.detect.matching import overlaps

OVERLAP, GUESSES, LEVEL = 0.5, 5, 0.95


def main_class(picture: Picture) -> int | None:
    """The class of a picture's largest box; None without boxes. In ImageNet all boxes of a picture are of one class."""
    kept = ~picture.ignored()
    if not kept.any():
        return None
    corners = picture.corners()[kept]
    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    return int(picture.labels()[kept][areas.argmax()])


def right(picture: Picture, found: Detections, label: int) -> tuple[bool, bool, bool, bool]:
    """Whether the class and a box of it are among the first guess and the first five; the class alone; the box alone.

    A guess is a class with its best box; classes come in the order of these boxes' scores. The last is of the box of
    the right class, whatever its rank.
    """
    order = np.argsort(-found.scores, kind="stable")
    classes = found.labels[order]
    _, first = np.unique(classes, return_index=True)
    guesses = order[np.sort(first)]  # the best box of each class, the surest class first
    there = picture.corners()[(picture.labels() == label) & ~picture.ignored()]
    of_class = found.labels[guesses] == label
    boxes: Floats = found.boxes[guesses]
    placed = overlaps(boxes, there).max(1, initial=0.0) >= OVERLAP
    both = of_class & placed
    return bool(both[:1].any()), bool(both[:GUESSES].any()), bool(of_class[:1].any()), bool(both.any())


def localisation(
    pictures: Sequence[Picture], detections: Sequence[Detections], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Errors 0 to 1, each with its 95 % interval by bootstrap over the pictures; those without boxes are left out.

    ``top1`` and ``top5``: no guess among the first one or five has the right class and a box that overlaps one of this
    class by 0.5. ``class``: the first guess is of another class. ``given_class``: the box that was guessed for the
    right class is wrong (He et al. 2015, Table 13, "on ground truth class").
    """
    rows: list[tuple[bool, ...]] = []
    for picture, found in zip(pictures, detections, strict=True):
        label = main_class(picture)
        if label is not None:
            rows.append(right(picture, found, label))
    wrong = ~np.array(rows, bool).reshape(-1, 4)
    drawn = _resampled(wrong, resamples, seed)
    tail = (1 - LEVEL) / 2
    made: dict[str, Any] = {"pictures": len(wrong)}
    for column, name in enumerate(("top1", "top5", "class", "given_class")):
        low, high = np.quantile(drawn[:, column], (tail, 1 - tail)).tolist() if len(drawn) else (None, None)
        made[name] = {"error": float(wrong[:, column].mean()) if len(wrong) else None, "interval": [low, high]}
    return made


def _resampled(wrong: npt.NDArray[np.bool_], resamples: int, seed: int) -> Floats:
    """The means of each column (resamples, 4), over pictures drawn with replacement."""
    n = len(wrong)
    if not n or not resamples:
        return np.zeros((0, 4))
    random = np.random.Generator(np.random.Philox(key=seed))
    drawn: Floats = random.multinomial(n, np.full(n, 1 / n), size=resamples) @ wrong / n
    return drawn
