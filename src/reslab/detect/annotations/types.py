"""What all layouts are read into: pictures with boxes in pixels, and what was wrong with what the files say."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from reslab.errors import InputError

Layout = Literal["voc", "coco", "yolo"]
SPLITS = ("train", "val", "test")
EXAMPLES = 3
"""Places that are named of each kind of problem."""


class Kind(StrEnum):
    """What can be wrong with annotations, or worth knowing of them."""

    MALFORMED = "malformed annotation"
    UNANNOTATED = "picture without an annotation file"
    ABSENT = "absent picture"
    UNREADABLE = "picture that cannot be read"
    DUPLICATE = "duplicate picture"
    BOTH = "picture in more than one split"
    SIZE = "picture of another size than stated"
    NO_BOXES = "picture without boxes"
    SWAPPED = "box with swapped corners"
    OUTSIDE = "box outside the picture"
    OVERHANGING = "box partly outside the picture"
    NO_SIZE = "box of no size"
    REPEATED = "repeated box"
    UNKNOWN = "box of an unknown class"
    UNTAUGHT = "box of a class without training boxes"


RULES: Mapping[Kind, str] = {
    Kind.MALFORMED: "left out",
    Kind.UNANNOTATED: "left out: it is not known what it shows",
    Kind.ABSENT: "left out",
    Kind.UNREADABLE: "left out",
    Kind.DUPLICATE: "the first is kept",
    Kind.BOTH: "left out of the earlier of train, val, test",
    Kind.SIZE: "the picture's own size counts",
    Kind.NO_BOXES: "kept: all of it is background",
    Kind.SWAPPED: "its corners are put in order",
    Kind.OUTSIDE: "left out",
    Kind.OVERHANGING: "clipped to the picture",
    Kind.NO_SIZE: "left out",
    Kind.REPEATED: "one is kept",
    Kind.UNKNOWN: "left out",
    Kind.UNTAUGHT: "left out: no figure covers it",
}
"""How each is treated."""

LOST = frozenset({Kind.MALFORMED, Kind.UNANNOTATED, Kind.ABSENT, Kind.UNREADABLE})
"""Kinds by which a picture is lost that was meant to be there."""
MOST_LOST = 0.1
"""Share of the pictures that may be lost; beyond it the data set is refused."""


class Problem(NamedTuple):
    """One thing found by the look."""

    kind: Kind
    where: str
    """the picture, or the file and the entry in it"""
    detail: str = ""


class Box(NamedTuple):
    """A box in pixels: x from ``x1`` to ``x2`` and y from ``y1`` to ``y2``, with the picture's corner at (0, 0).

    Edges lie between pixels: a box over the first pixel alone is (0, 0, 1, 1).
    """

    label: int
    """its class, a place in `Annotations.classes`"""
    x1: float
    y1: float
    x2: float
    y2: float
    difficult: bool = False
    """Pascal VOC's flag: not learnt from, and neither right nor wrong to find"""
    crowd: bool = False
    """COCO's flag: many objects in one box; treated as `difficult`, and it excuses any number of detections"""


@dataclass(frozen=True)
class Picture:
    """A picture that can be read, with its boxes."""

    name: str
    """unique within its split"""
    path: Path
    height: int
    width: int
    boxes: tuple[Box, ...]

    def corners(self) -> npt.NDArray[np.float64]:
        """All boxes (n, 4) as x1, y1, x2, y2."""
        return np.array([box[1:5] for box in self.boxes], np.float64).reshape(-1, 4)

    def labels(self) -> npt.NDArray[np.int64]:
        """Their classes (n,)."""
        return np.array([box.label for box in self.boxes], np.int64)

    def ignored(self) -> npt.NDArray[np.bool_]:
        """Which of them are difficult or crowds (n,)."""
        return np.array([box.difficult or box.crowd for box in self.boxes], bool)


@dataclass(frozen=True)
class Annotations:
    """A data set for detection as it turned out to be. `reslab.detect.annotations.read` makes it."""

    root: Path
    layout: Layout
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Picture, ...]]
    """pictures by ``train``, ``val`` and ``test``, as far as there are any"""
    problems: tuple[Problem, ...]

    def counts(self, split: str) -> dict[str, int]:
        """Boxes of each class in a split."""
        found = Counter(box.label for picture in self.splits.get(split, ()) for box in picture.boxes)
        return {name: found[label] for label, name in enumerate(self.classes)}

    def said(self) -> list[str]:
        """A line for each kind of problem: how many, how they are treated, and where the first are."""
        lines = []
        for kind in Kind:
            found = [problem for problem in self.problems if problem.kind is kind]
            if found:
                shown = "; ".join(f"{p.where}{': ' if p.detail else ''}{p.detail}" for p in found[:EXAMPLES])
                more = "; ..." if len(found) > EXAMPLES else ""
                lines.append(f"{len(found)} x {kind} ({RULES[kind]}): {shown}{more}")
        return lines

    def pictures(self, split: str) -> tuple[Picture, ...]:
        """The pictures of a split; `InputError` where it has none."""
        if not self.splits.get(split):
            there = ", ".join(name for name, pictures in self.splits.items() if pictures) or "none"
            raise InputError(f"expected pictures of the split '{split}' in {self.root}; the splits there: {there}")
        return self.splits[split]
