"""A look at a user's own images before anything is learnt from them: what there is, what is damaged, what comes twice.

Each image is decoded once, to a grey thumbnail; JPEG files at the smallest scale that their own coding offers. What was
seen is kept in the cache until a file changes.
"""

import os
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from reslab.data.decode.modes import in_mode, is_turned, seen_size, upright
from reslab.data.decode.whole import Encoded, in_threads, late_bar, opened
from reslab.data.layouts.found import Found
from reslab.data.memo import Arrays, kept
from reslab.data.stored import Stored, chunks_of
from reslab.errors import InputError
from reslab.report.words import plural
from reslab.transfer.duplicates import SIDE, Thumbnails, across, thumbnail, twins

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
CHUNK = 32
"""Images that a thread is given at a time."""
RARE = 10
"""Times as many images in the most frequent class as in the rarest, from which on it is said."""
EXAMPLES = 3
"""Names that a warning gives."""
SMALL = 32
"""Pixels with a shorter side below which a photograph has little to show."""


@dataclass(frozen=True)
class Look:
    """What the images of a data set turned out to be. Images are numbered over its splits in the order of `Found`."""

    root: Path
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    """(N,)"""
    splits: npt.NDArray[np.str_]
    """which of the data set's own splits each is of: "train", "validation" or "test" (N,)"""
    names: tuple[str, ...]
    """what each is called (N,)"""
    sizes: npt.NDArray[np.int32]
    """height and width in pixels as it is seen, 0 of a damaged one (N, 2)"""
    modes: tuple[str, ...]
    """Pillow's word for how its colours are stored (N,)"""
    turned: npt.NDArray[np.bool_]
    """whether the camera's orientation (EXIF) says that it is stored another way round (N,)"""
    damaged: dict[int, str]
    """those that cannot be decoded, and why"""
    twins: tuple[tuple[int, ...], ...]
    """those that show one picture, in groups"""
    unused: str = ""
    """files that are there and not used, for people"""

    @property
    def has_test(self) -> bool:
        """Whether the data set has a split of its own to test on."""
        return bool(self.of(TEST).any())

    @property
    def has_validation(self) -> bool:
        """Whether it has one to choose by as well."""
        return bool(self.of(VALIDATION).any())

    def of(self, split: str) -> npt.NDArray[np.bool_]:
        """Whether each image is of that split (N,)."""
        found: npt.NDArray[np.bool_] = self.splits == split
        return found

    @cached_property
    def whole(self) -> npt.NDArray[np.bool_]:
        """Which images can be decoded (N,)."""
        found = np.ones(len(self.labels), bool)
        found[list(self.damaged)] = False
        return found

    @property
    def shorter(self) -> npt.NDArray[np.int32]:
        """Pixels of the shorter side of each image that can be decoded (at least one can)."""
        shorter: npt.NDArray[np.int32] = self.sizes[self.sizes[:, 0] > 0].min(axis=1)
        return shorter

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Images that can be read, by class, and by split in the order of `SPLITS` (classes, 3)."""
        counts = [
            np.bincount(self.labels[self.whole & self.of(split)], minlength=len(self.classes)) for split in SPLITS
        ]
        return np.stack(counts, axis=1)

    @property
    def across(self) -> list[tuple[int, ...]]:
        """The groups of one picture with images on both sides of the data set's own splits."""
        return across(self.twins, self.splits.tolist())

    @property
    def contradicting(self) -> list[tuple[int, ...]]:
        """The groups of one picture that stand under more than one class."""
        return [group for group in self.twins if len({int(self.labels[i]) for i in group}) > 1]

    def warnings(self, examples: int = EXAMPLES) -> list[str]:
        """What a person should know before these images are learnt from, with so many images of each kind named."""
        said = [self.unused] if self.unused else []
        if self.damaged:
            names = [f"{self.called(i)} ({why})" for i, why in list(self.damaged.items())[:examples]]
            what = plural(len(self.damaged), "image")
            said.append(f"{what} cannot be decoded and will be left out: {_some(names, len(self.damaged))}")
        if found := self.contradicting:
            said.append(f"{plural(len(found), 'picture')} in more than one class: {self._pairs(found, examples)}")
        if found := self.across:
            what = plural(len(found), "picture")
            pairs = self._pairs(found, examples)
            said.append(f"{what} in more than one split, kept only in the last of them: {pairs}")
        known = {*self.across, *self.contradicting}
        if found := [group for group in self.twins if group not in known]:
            pairs = self._pairs(found, examples)
            said.append(f"{plural(len(found), 'picture')} in more than one file, kept in one part: {pairs}")
        each = self.counts.sum(1)
        if each.min() and each.max() >= RARE * each.min():
            rare, much = self.classes[int(each.argmin())], self.classes[int(each.argmax())]
            times = each.max() / each.min()
            said.append(f"{much} has {times:.0f} times as many images as {rare}; --balanced may help")
        small = int((self.shorter < SMALL).sum())
        if 0 < small < len(self.labels):
            said.append(f"{plural(small, 'image')} with a shorter side below {SMALL} pixels")
        return said

    def _pairs(self, groups: Sequence[tuple[int, ...]], examples: int) -> str:
        named = [" = ".join(self.called(i) for i in group[:2]) for group in groups[:examples]]
        return _some(named, len(groups))

    def called(self, index: int) -> str:
        """What an image is called, below the folder where it lies there."""
        return below(self.names[index], self.root)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: figures, and the names of the images that something is wrong with."""
        shorter = self.shorter

        def named(groups: Sequence[tuple[int, ...]]) -> list[list[str]]:
            return [[self.names[i] for i in group] for group in groups]

        return {
            "images": len(self.labels),
            "classes": {
                name: dict(zip(SPLITS, counts, strict=True))
                for name, counts in zip(self.classes, self.counts.tolist(), strict=True)
            },
            "own_test_split": self.has_test,
            "shorter_side": {
                "least": int(shorter.min()), "median": int(np.median(shorter)), "most": int(shorter.max()),
            },
            "modes": dict(Counter(mode for mode in self.modes if mode).most_common()),
            "turned": int(self.turned.sum()),
            "damaged": {self.names[i]: why for i, why in self.damaged.items()},
            "unused": self.unused,
            "same_picture": named(self.twins),
            "same_picture_across_splits": named(self.across),
            "same_picture_of_other_class": named(self.contradicting),
        }  # fmt: skip


def look(found: Found, *, cache_dir: Path | None = None) -> Look:
    """Looks at all images of a folder. A progress bar appears after two seconds.

    Raises:
        InputError: there are fewer than two classes, or no image can be decoded.
    """
    sets = found.splits
    count = sum(len(split.labels) for split in sets)
    if len(found.classes) < 2:
        raise InputError(
            f"{found.root}: expected at least two classes to tell apart, found one, '{found.classes[0]}'; "
            "add a folder with images of another class"
        )
    names = tuple(split.called(i) for split in sets for i in range(len(split.labels)))
    stamp = (2, names, [split.times().tobytes() for split in sets], [split.oriented for split in sets])
    arrays = kept(cache_dir, "look", stamp, lambda: _seen(sets, count, found.root.name), worth=lambda _: count > 50)
    reasons = [str(text) for text in arrays["reasons"]]
    damaged = dict(zip(arrays["damaged"].tolist(), reasons, strict=True))
    if len(damaged) == count:
        raise InputError(
            f"{found.root}: expected images, but none of its {plural(count, 'file')} can be decoded; of {names[0]}: "
            f"{damaged[0]}"
        )
    thumbnails: Thumbnails = arrays["thumbnails"]
    return Look(
        root=found.root,
        classes=found.classes,
        labels=np.concatenate([split.labels.numpy() for split in sets]),
        splits=np.concatenate(
            [
                np.full(len(split.labels), name)
                for name, split in zip(SPLITS, (found.train, found.validation, found.test), strict=True)
                if split is not None
            ]
        ),
        names=names,
        sizes=arrays["sizes"],
        modes=tuple(str(mode) for mode in arrays["modes"]),
        turned=arrays["turned"],
        damaged=damaged,
        twins=tuple(twins(thumbnails)),
        unused=found.unused.said(),
    )


@dataclass(frozen=True)
class _Seen:
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    turned: bool = False
    thumbnail: npt.NDArray[np.uint8] | None = None
    why: str = ""


def _seen(sets: Sequence[Stored], count: int, what: str) -> Arrays:
    """What `Look` is made of, as arrays for the cache."""
    thumbnails = np.zeros((count, SIDE, SIDE), np.uint8)
    sizes, turned, modes = np.zeros((count, 2), np.int32), np.zeros(count, bool), [""] * count
    damaged: dict[int, str] = {}
    bar = late_bar(f"looking at {what}", count)
    row = 0
    try:
        for part in in_threads(lambda some: [_one(item) for item in some], chunks_of(*sets, size=CHUNK)):
            for each in part:
                sizes[row], modes[row], turned[row] = each.size, each.mode, each.turned
                if each.thumbnail is None:
                    damaged[row] = each.why
                else:
                    thumbnails[row] = each.thumbnail
                row += 1
            bar(row)
    finally:
        bar(None)
    numbers = np.array(sorted(damaged), np.int64)
    reasons = np.array([damaged[i] for i in numbers.tolist()], dtype=np.str_)
    return {
        "thumbnails": thumbnails, "sizes": sizes, "turned": turned, "modes": np.array(modes, dtype=np.str_),
        "damaged": numbers, "reasons": reasons,
    }  # fmt: skip


def _one(item: Encoded) -> _Seen:
    try:
        with opened(item) as image:
            mode, turned = image.mode, item.oriented and is_turned(image)
            size = seen_size(image) if turned else (image.height, image.width)
            image.draft("L", (2 * SIDE, 2 * SIDE))
            image.load()
            small = thumbnail(in_mode(upright(image) if turned else image, "L"))
            return _Seen(size, mode, turned, small)
    except InputError as why:
        return _Seen(why=str(why).removeprefix(f"{item.name}: "))
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as why:
        return _Seen(why=(str(why).splitlines() or [type(why).__name__])[0])


def below(name: str, root: Path) -> str:
    """A name as it is below a folder; what is no path of a file stays as it is."""
    return os.path.relpath(name, root) if os.path.isabs(name) and Path(name).is_relative_to(root) else name


def _some(named: Sequence[str], count: int) -> str:
    return "; ".join(named) + (f"; and {count - len(named):,} more" if count > len(named) else "")
