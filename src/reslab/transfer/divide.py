"""Which images are learnt from, which choose, and which are only tested on: told before anything is trained.

Images of one picture come to lie on one side. A test split of the data set's own stays as it is, and its twins among
the training images are left out; without one, a fifth of each class is held out, the same at every call. The validation
images choose the weights and the temperature: those of a validation split of its own, or a part of what is left to
train on. The test images choose nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reslab.data.stored import Some, Stored
from reslab.errors import InputError
from reslab.transfer.look import SPLITS, TEST, VALIDATION, Look

Indices = npt.NDArray[np.int64]
MOST_VALIDATION = 2000
"""Images for validation at the most; more would tell little more."""
FEW = 100
"""Training images a class below which none is set aside by default (docs/fine-tuning.md)."""


@dataclass(frozen=True)
class Division:
    """Numbers of images as in `Look`, ascending; none is damaged."""

    train: Indices
    validation: Indices
    test: Indices
    left_out: Indices
    """images that show a picture of a later split, of training, validation and test"""
    held_out: bool
    """whether test images were taken from the training images"""


def usual_validation(look: Look) -> float:
    """The share that is set aside: of few images none, since learning from them helps more than choosing by them."""
    each = int(look.counts[:, 0].sum()) / len(look.classes)
    return 0.0 if each < FEW else 0.1


def divide(look: Look, *, test: float = 0.2, validation: float | None = None, seed: int = 0) -> Division:
    """The three parts.

    Args:
        look: the images.
        test: share of each class that is held out to be tested on, where there is no test split.
        validation: share of each class of the training images that is for validation; by default the validation split,
            or without one the `usual_validation`.
        seed: random seed of the choice; the same for the same names, wherever the folder lies.

    Raises:
        InputError: a class has no image to train on, none is left to test on, or a share is asked for where there is
            a validation split.
    """
    whole = look.whole
    group = grouped(look)
    kept = once(look, whole)
    chosen_test = look.of(TEST) & whole
    if not look.has_test:
        chosen_test = _share(look, kept, group, test, f"test {seed}")
    rest = kept & ~chosen_test
    chosen = set_aside(look, rest, validation, seed=seed)
    train = rest & ~chosen
    _check(look, train, chosen_test)
    return Division(
        train=np.flatnonzero(train),
        validation=np.flatnonzero(chosen),
        test=np.flatnonzero(chosen_test),
        left_out=np.flatnonzero(whole & ~kept),
        held_out=not look.has_test,
    )


def once(look: Look, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Those of some images whose picture is in no later split of the data set's own."""
    order = np.array([SPLITS.index(split) for split in look.splits.tolist()])
    group = grouped(look)
    latest = np.zeros_like(order)
    np.maximum.at(latest, group[among], order[among])
    found: npt.NDArray[np.bool_] = among & (order == latest[group])
    return found


def set_aside(
    look: Look, among: npt.NDArray[np.bool_], share: float | None, *, seed: int = 0
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Which of some images are for validation: the validation split, or a share of each class,
    `MOST_VALIDATION` at the most.

    Raises:
        InputError: a share is asked for where there is a validation split.
    """
    if look.has_validation:
        if share is not None:
            raise InputError(
                f"--validation sets a share of the training images aside, and {look.root} has a validation split; "
                "leave out --validation, or move that split's images to those to train on"
            )
        return among & look.of(VALIDATION)
    share = usual_validation(look) if share is None else share
    share = min(share, MOST_VALIDATION / max(int(among.sum()), 1))
    return _share(look, among, grouped(look), share, f"validation {seed}")


def grouped(look: Look) -> Indices:
    """For each image the first of its twins, or itself (N,)."""
    group = np.arange(len(look.labels))
    for twins in look.twins:
        group[list(twins)] = twins[0]
    return group


def _share(look: Look, among: npt.NDArray[np.bool_], group: Indices, share: float, salt: str) -> npt.NDArray[np.bool_]:
    """About so large a share of each class, by whole groups of one picture; never all of a class.

    A class of one picture keeps it; of one with two or more, one goes at least.
    """
    chosen = np.zeros_like(among)
    leaders = {int(leader): _rank(look, int(leader), salt) for leader in np.unique(group[among])}
    for label in range(len(look.classes)):
        members = np.flatnonzero(among & (look.labels == label))
        found = sorted({int(group[i]) for i in members}, key=lambda leader: leaders[leader])
        wanted = max(1, round(share * len(members))) if share > 0 else 0
        size = {leader: int((group[members] == leader).sum()) for leader in found}
        for leader in found[:-1]:
            if wanted <= 0:
                break
            chosen |= among & (group == leader)
            wanted -= size[leader]
    return chosen


def _rank(look: Look, index: int, salt: str) -> bytes:
    """Chance that hangs on the name alone, so that another image more leaves the others where they were."""
    name = look.names[index].removeprefix(str(look.root))
    return hashlib.blake2b(f"{salt} {name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _check(look: Look, train: npt.NDArray[np.bool_], test: npt.NDArray[np.bool_]) -> None:
    counts = np.bincount(look.labels[train], minlength=len(look.classes))
    if empty := [name for name, n in zip(look.classes, counts.tolist(), strict=True) if not n]:
        raise InputError(
            f"{look.root}: expected an image to train on in each class, found none in {_listed(empty)}; add readable "
            "images, or remove the folder"
        )
    if not test.any():
        raise InputError(
            f"{look.root}: expected images to test on, found one image per class; add images, or a test/ folder"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")


def taken(sets: Sequence[Stored], index: Indices) -> Stored:
    """Images by their numbers over several splits; all of one split, as divisions leave them."""
    start = 0
    for split in sets:
        end = start + len(split.labels)
        if len(index) and start <= index[0] and index[-1] < end:
            return Some(split, index - start)
        start = end
    if not len(index):
        return Some(sets[0], index)
    raise AssertionError("images of a part lie in two splits")
