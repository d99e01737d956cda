"""Divides a folder's images into training and test set; the held-out part is always the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reslab.data.images import a_fifth, held_out
from reslab.data.layouts.found import Found
from reslab.data.stored import Files, Some, Stored
from reslab.errors import InputError

HELD_OUT = "a fixed fifth of each class held out as test set"


@dataclass(frozen=True)
class Parts:
    """The images that are trained on, and those that are tested on; or all of them, as both."""

    train: tuple[Stored, ...]
    test: tuple[Stored, ...]
    source: str
    """where they come from, for people"""

    @property
    def whole(self) -> bool:
        """Whether both are all images."""
        return self.train is self.test

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the labels."""
        return self.train[0].classes if self.train else self.test[0].classes


def parts(found: Found, *, whole: bool = False, called: str | None = None) -> Parts:
    """The two sets of a folder.

    Args:
        found: what the folder holds.
        whole: nothing is held out; both sets are all images.
        called: where it comes from, if not its path.

    Raises:
        InputError: there are no images to train on, or none to hold out.
    """
    everything = tuple(split for split in (found.train, found.test) if split is not None)
    if whole:
        return Parts(everything, everything, _source(found, "all images", called))
    if found.train is None:
        raise InputError(
            f"{found.root}: the images are not in class folders, and there are none to train on; use --split test "
            "or all"
        )
    if found.test is not None:
        return Parts((found.train,), (found.test,), _source(found, found.said, called))
    out = _held_out(found, found.train)
    train, test = Some(found.train, np.flatnonzero(~out)), Some(found.train, np.flatnonzero(out))
    return Parts((train,), (test,), _source(found, HELD_OUT, called))


def _held_out(found: Found, train: Stored) -> "np.typing.NDArray[np.bool_]":
    """Which images are held out: a fifth of each class, told by their paths, or by their rows."""
    labels = train.labels.tolist()
    keys: Sequence[str] = [train.inside(i) if isinstance(train, Files) else str(i) for i in range(len(labels))]
    chosen = np.array(held_out(keys, labels, a_fifth(Counter(labels))), dtype=bool)
    if len(found.classes) > 1 and not chosen.any():
        raise InputError(
            f"{found.root}: expected two images or more in some class, to hold out a fifth as test set, found one "
            "each; add images, or a val/ folder"
        )
    return chosen


def _source(found: Found, said: str, called: str | None) -> str:
    said = ", ".join(text for text in (said, *found.remarks) if text)
    return (str(found.root) if called is None else called) + (f" ({said})" if said else "")
