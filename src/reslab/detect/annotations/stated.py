"""What annotation files say, before anything of it is believed, and the look that makes `Annotations` of it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image, UnidentifiedImageError

from reslab.data.decode.modes import seen_size
from reslab.detect.annotations.types import (
    LOST,
    MOST_LOST,
    SPLITS,
    Annotations,
    Box,
    Kind,
    Layout,
    Picture,
    Problem,
)
from reslab.errors import InputError

Units = Literal["pixels", "inclusive", "relative"]
"""How corners are stated: edges in pixels (COCO); first and last pixel, counted from 1 (VOC); shares (YOLO)."""


class StatedBox(NamedTuple):
    """A box as a file has it. The class is a name, or what stands in place of one where none is declared."""

    name: str
    x1: float
    y1: float
    x2: float
    y2: float
    difficult: bool = False
    crowd: bool = False


@dataclass(frozen=True)
class StatedPicture:
    """A picture as a file has it: perhaps absent, with boxes of any kind."""

    split: str
    name: str
    path: Path
    boxes: tuple[StatedBox, ...]
    size: tuple[int, int] | None = None
    """height and width as stated"""


@dataclass(frozen=True)
class Stated:
    """All that a data set's files say."""

    root: Path
    layout: Layout
    units: Units
    pictures: tuple[StatedPicture, ...]
    classes: tuple[str, ...] | None = None
    """where the files declare them; else they are the names of the training boxes, in the order of the alphabet"""
    problems: tuple[Problem, ...] = ()


def look(stated: Stated, classes: Sequence[str] | None = None) -> Annotations:
    """Measures each picture, treats each box by the rules of `reslab.detect.annotations.types.RULES`.

    Args:
        stated: what the files say.
        classes: those to read, in this order; boxes of others are left out. Without it those with training boxes.

    Raises:
        InputError: nothing can be used, or more than a tenth of the pictures is lost.
    """
    problems = list(stated.problems)
    listed = _once(stated.pictures, problems)
    if not listed:
        _check(stated, 0, problems)
    known, untaught = _known(stated, classes, listed)
    numbers = {name: number for number, name in enumerate(known)}
    splits: dict[str, list[Picture]] = {}
    for each in listed:
        size = _measured(each, problems)
        if size is not None:
            boxes = _treated(each, size, stated.units, numbers, untaught, problems)
            if not boxes:
                problems.append(Problem(Kind.NO_BOXES, _place(each)))
            splits.setdefault(each.split, []).append(Picture(each.name, each.path, *size, boxes))
    _check(stated, sum(map(len, splits.values())), problems)
    if not known:
        raise InputError(f"expected boxes to train on in {stated.root}, but no image of the split 'train' has any")
    return Annotations(
        stated.root, stated.layout, known, {s: tuple(splits[s]) for s in SPLITS if s in splits}, tuple(problems)
    )


def _place(picture: StatedPicture) -> str:
    return f"{picture.split}/{picture.name}"


def _once(pictures: Iterable[StatedPicture], problems: list[Problem]) -> list[StatedPicture]:
    """Each picture once: the first of its split, and of several splits the last of train, val, test."""
    first: dict[tuple[str, str], StatedPicture] = {}
    for picture in pictures:
        if (picture.split, picture.name) in first:
            problems.append(Problem(Kind.DUPLICATE, _place(picture)))
        first.setdefault((picture.split, picture.name), picture)
    last: dict[Path, StatedPicture] = {}
    for picture in sorted(first.values(), key=lambda each: SPLITS.index(each.split)):
        before = last.get(picture.path)
        if before is not None:
            again = before.split == picture.split
            problems.append(Problem(Kind.DUPLICATE if again else Kind.BOTH, _place(before), f"also {_place(picture)}"))
            if again:
                continue
        last[picture.path] = picture
    kept = set(map(id, last.values()))
    return [picture for picture in first.values() if id(picture) in kept]


def _known(
    stated: Stated, asked: Sequence[str] | None, pictures: list[StatedPicture]
) -> tuple[tuple[str, ...], frozenset[str]]:
    """The classes that are read, and those that have boxes to test on and none to learn from."""
    if asked is not None:
        return tuple(asked), frozenset()
    taught, elsewhere = set[str](), set[str]()
    for picture in pictures:
        (taught if picture.split == "train" else elsewhere).update(box.name for box in picture.boxes)
    if not any(picture.split == "train" for picture in pictures):
        raise InputError(
            f"{stated.root} has no training pictures, so that its classes are not known; train on a data set that has "
            "some, or evaluate a trained detector, which knows its classes"
        )
    declared = tuple(sorted(taught | elsewhere)) if stated.classes is None else stated.classes
    return tuple(name for name in declared if name in taught), frozenset(declared) & (elsewhere - taught)


def _measured(picture: StatedPicture, problems: list[Problem]) -> tuple[int, int] | None:
    """Height and width, as it is seen upright; None where it cannot be had."""
    try:
        with Image.open(picture.path) as image:
            height, width = seen_size(image)
    except FileNotFoundError:
        problems.append(Problem(Kind.ABSENT, _place(picture), str(picture.path)))
        return None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        problems.append(Problem(Kind.UNREADABLE, _place(picture), type(error).__name__))
        return None
    if picture.size is not None and picture.size != (height, width):
        stated = f"stated {picture.size[1]}x{picture.size[0]}, is {width}x{height}"
        problems.append(Problem(Kind.SIZE, _place(picture), stated))
    return height, width


def _treated(
    picture: StatedPicture,
    size: tuple[int, int],
    units: Units,
    numbers: dict[str, int],
    untaught: frozenset[str],
    problems: list[Problem],
) -> tuple[Box, ...]:
    """The boxes that are any good."""
    kept: dict[Box, None] = {}
    for number, stated in enumerate(picture.boxes, 1):
        if stated.name not in numbers:
            kind = Kind.UNTAUGHT if stated.name in untaught else Kind.UNKNOWN
            problems.append(Problem(kind, _place(picture), f"'{stated.name}'"))
            continue
        found: list[Kind] = []
        corners = _corners(stated, size, units, found)
        where = f"{_place(picture)}, box {number} ('{stated.name}')"
        problems += [Problem(kind, where, f"{stated.x1:g} {stated.y1:g} {stated.x2:g} {stated.y2:g}") for kind in found]
        if corners is not None:
            box = Box(numbers[stated.name], *corners, stated.difficult, stated.crowd)
            if box in kept:
                problems.append(Problem(Kind.REPEATED, where))
            kept[box] = None
    return tuple(kept)


def _corners(
    stated: StatedBox, size: tuple[int, int], units: Units, found: list[Kind]
) -> tuple[float, float, float, float] | None:
    """Edges in pixels within the picture, or None; what was wrong is added to ``found``."""
    height, width = size
    x1, y1, x2, y2 = stated[1:5]
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        found.append(Kind.NO_SIZE)
        return None
    if x1 > x2 or y1 > y2:
        found.append(Kind.SWAPPED)
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    if units == "inclusive":
        # Many tools write VOC's files and count from 0: a first pixel of 0 is meant to be the first.
        x1, y1 = x1 - (x1 >= 1), y1 - (y1 >= 1)
    elif units == "relative":
        x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
    if x1 >= x2 or y1 >= y2:
        found.append(Kind.NO_SIZE)
        return None
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        found.append(Kind.OUTSIDE)
        return None
    inside = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    # Shares of six digits times thousands of pixels miss the edge by less than this.
    if max(abs(a - b) for a, b in zip(inside, (x1, y1, x2, y2), strict=True)) > 0.01:
        found.append(Kind.OVERHANGING)
    return inside


def _check(stated: Stated, used: int, problems: list[Problem]) -> None:
    lost = [problem for problem in problems if problem.kind in LOST]
    if not used or len(lost) > MOST_LOST * (used + len(lost)):
        first = f"; the first: {lost[0].kind}, {lost[0].where} {lost[0].detail}".rstrip() if lost else ""
        raise InputError(
            f"expected pictures with annotations in {stated.root}, but {len(lost)} of {used + len(lost)} cannot be "
            f"used (at most {MOST_LOST:.0%} may be){first}"
        )
