"""A folder for each class: ``train/<class>/...`` beside ``val/<class>/...``, or ``<class>/...`` alone.

Images may lie in folders below their class. The test split is the first of ``test/``, ``val/`` and ``validation/`` that
has class folders, or else ``val/``, ``validation/`` or ``test/`` flat beside a list of labels (ImageNet's ``val.txt``);
the next of them with class folders is for validation, where something is chosen by it.
Without one, and where class folders lie in the root itself, a fifth of each class is held out.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from reslab.data.formats import IMAGES, Unused, is_image, is_nobodys, readable
from reslab.data.layouts.found import FLAT_TESTS, TESTS, Asked, Found
from reslab.data.layouts.label_list import LISTS, files_with_labels
from reslab.data.memo import Arrays, kept
from reslab.data.stored import Files
from reslab.data.walk import is_folder
from reslab.errors import InputError

SMALL = 32
"""Pixels of a side that small images of many sizes become if nothing is said."""
LAYOUT = "train/<class>/<image> and val/<class>/<image>, or <class>/<image>"
MANY = 20_000
"""Images from which on their names are kept: fewer are found as quickly as read."""
_FORMAT = 3


def has_splits(root: Path) -> bool:
    """Whether there are class folders to train on, and a split to test on."""
    return bool(_folders_in(root / "train")) and any((root / name).is_dir() for name in TESTS)


def matches(root: Path) -> bool:
    """Anything that no other layout has taken: what is wrong with it is said by `find`."""
    return True


def find(root: Path, asked: Asked, *, lists_in: Path | None = None) -> Found:
    """The images of class folders.

    Args:
        root: the folder.
        asked: what the caller said.
        lists_in: where a list of labels lies if not beside the splits.

    Raises:
        InputError: no class folders, a class without images, test classes that training does not have, images that
            lie flat without a list of their classes, a list that is not needed.
    """
    tests = [name for name in asked.tests if (root / name).is_dir()]
    if not (root / "train").is_dir():
        if tests and not set(_folders_in(root)) - set(TESTS):
            raise InputError(f"{root}: expected train/ beside {tests[0]}/, found none; the layout is {LAYOUT}")
        if asked.labels is not None:
            raise InputError(f"--labels is for images that are not in class folders, and {root} has folders of classes")
        return _alone(root, root, asked)
    if not tests:
        return _alone(root, root / "train", asked)
    train, unused = files_in_classes(root / "train", asked, base=root)
    name, listed = _test_split(root, tests, asked, lists_in or root)
    others = [other for other in tests if other != name]
    validation = None
    if listed is None:
        if asked.labels is not None:
            raise InputError(
                f"--labels is for images that are not in class folders, and {root / name} has class folders"
            )
        test, left = files_in_classes(root / name, asked, classes=train.classes, base=root)
        unused.join(left)
        said = f"test set: its {name}/"
        if other := next((other for other in others if _folders_in(root / other)), None):
            validation, left = files_in_classes(root / other, asked, classes=train.classes, base=root)
            unused.join(left)
    else:
        test = files_with_labels(root / name, listed, train.classes, asked, base=root)
        said = f"test set: its {name}/ by {listed.name}"
    return Found(
        root, train, test, f"{said}{''.join(f', {other}/ not used' for other in others)}",
        None if listed else partial(_files, train, test), unused, usual_size=SMALL, validation=validation,
    )  # fmt: skip


def _alone(root: Path, inside: Path, asked: Asked) -> Found:
    train, unused = files_in_classes(inside, asked, base=root)
    return Found(root, train, None, "", partial(_files, train), unused, usual_size=SMALL)


def _test_split(root: Path, tests: Sequence[str], asked: Asked, beside: Path) -> tuple[str, Path | None]:
    """Which split is tested on, and the list of its labels if it lies flat."""
    for name in tests:
        if _folders_in(root / name):
            return name, None
    # The lists are of validation images, and ImageNet's own test/, flat beside them, is of images without labels.
    flat = [name for name in FLAT_TESTS if name in tests]
    listed = asked.labels or next((beside / file for file in LISTS if (beside / file).is_file()), None)
    if listed is not None:
        return flat[0], listed
    raise InputError(
        f"{root / flat[0]}: the images are not in class folders and have no list of labels; put a list "
        f"{LISTS[0]} of lines 'FILE CLASS' into {beside}, or move them into a folder for each class"
    )


def _files(*splits: Files) -> dict[str, Path]:
    """The images by their paths below the folder."""
    return {
        split.path(i).relative_to(split.base or split.root).as_posix(): split.path(i)
        for split in splits
        for i in range(len(split.labels))
    }


def _folders_in(root: Path) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if is_folder(entry) and not is_nobodys(entry.name))
    except FileNotFoundError:
        return []
    except OSError as why:
        raise _unreadable(why, root) from why


def files_in_classes(
    root: Path, asked: Asked, *, classes: Sequence[str] | None = None, base: Path | None = None
) -> tuple[Files, Unused]:
    """The images of ``root/<class>/`` and of the folders below, sorted by class and path; links to files count.

    Args:
        root: the folder of a split.
        asked: what the caller said.
        classes: names of the classes in the order of the labels; None: the folders, sorted.
        base: the folder of the data set, which names in keys begin below.

    Returns:
        The images, and what lies beside them and is not used.

    Raises:
        InputError: no class folders, a folder that is no class, a class without images.
    """
    folders = tuple(_folders_in(root))
    if not folders:
        loose = sum(is_image(name) for name in os.listdir(root)) if root.is_dir() else 0
        what = f"{loose} images without class folders" if loose else "neither class folders nor Parquet files"
        raise InputError(f"{root}: expected {LAYOUT}, found {what}; sort the images into a folder for each class")
    known = tuple(classes) if classes is not None else folders
    if strange := [name for name in folders if name not in set(known)]:
        raise InputError(
            f"{root}: expected only classes that are in train/, found {', '.join(strange[:5])}"
            f"{' and more' if len(strange) > 5 else ''}; add them to train/ or remove them"
        )
    try:
        # A folder's own time changes whenever a file comes, goes or is renamed in it.
        times = [os.stat(root / name).st_mtime_ns for name in folders]
        stamp = (_FORMAT, readable(), str(root.resolve()), folders, times, os.stat(root).st_mtime_ns)
        found = kept(
            asked.cache_dir, "files", stamp, lambda: _listed(root, folders),
            fresh=lambda found: _is_fresh(root, found), worth=lambda found: len(found["names"]) >= MANY,
        )  # fmt: skip
    except OSError as why:
        raise _unreadable(why, root) from why
    in_folder, names = found["in_folder"].astype(np.int32), found["names"]
    counts = np.bincount(in_folder, minlength=len(folders))
    unused = Unused().add(os.fsdecode(bytes(name)) for name in found["unused"])
    if not counts.all():
        empty = root / folders[int(np.argmin(counts))]
        beside = f" ({unused.said()})" if unused else ""
        raise InputError(
            f"{empty}: expected images of a class ({', '.join(readable()[:6])}, ...), found none{beside}; add some or "
            "remove the folder"
        )
    number = np.array([known.index(name) for name in folders], dtype=np.int64)
    oriented = True if asked.oriented is None else asked.oriented
    labels = torch.from_numpy(number[in_folder])
    return Files(root, known, folders, in_folder, names, labels, oriented=oriented, base=base), unused


def _listed(root: Path, folders: Sequence[str]) -> Arrays:
    names: list[bytes] = []
    counts: list[int] = []
    unused: list[bytes] = []
    nested: dict[str, int] = {}
    for folder in folders:
        own: list[bytes] = []
        for path, used in _walk(root / folder, "", nested, folder, {_inode(root)}):
            (own if used else unused).append(os.fsencode(path if used else f"{folder}/{path}"))
        names += sorted(own)
        counts.append(len(own))
    with os.scandir(root) as entries:
        loose = [
            e.name for e in entries if not is_folder(e) and e.name.lower().endswith(IMAGES) and not is_nobodys(e.name)
        ]
    unused += [os.fsencode(name) for name in loose]
    return {
        "in_folder": np.repeat(np.arange(len(folders), dtype=np.int32), counts),
        "names": np.array(names) if names else np.empty(0, "S1"),
        "unused": np.array(sorted(unused)) if unused else np.empty(0, "S1"),
        "nested": np.array([os.fsencode(name) for name in nested]) if nested else np.empty(0, "S1"),
        "nested_times": np.array(list(nested.values()), np.int64),
    }


def _walk(
    folder: Path, below: str, nested: dict[str, int], name: str, above: set[tuple[int, int]]
) -> Iterator[tuple[str, bool]]:
    """All files below a folder, each with whether it is an image; a link that leads back up is not followed."""
    here = _inode(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_nobodys(entry.name):
                continue
            if is_folder(entry):
                inside = f"{name}/{below}{entry.name}"
                nested[inside] = os.stat(entry.path).st_mtime_ns
                yield from _walk(Path(entry.path), f"{below}{entry.name}/", nested, name, above | {here})
            else:
                yield f"{below}{entry.name}", is_image(entry.name)


def _unreadable(why: OSError, root: Path) -> InputError:
    return InputError(
        f"{why.filename or root}: expected a readable folder, but {why.strerror or why}; change its permissions or "
        "remove it"
    )


def _inode(folder: Path) -> tuple[int, int]:
    about = os.stat(folder)
    return about.st_dev, about.st_ino


def _is_fresh(root: Path, found: Arrays) -> bool:
    """Whether the folders below the classes', whose times the stamp does not have, are as they were."""
    times = zip(found["nested"], found["nested_times"], strict=True)
    return all(os.stat(root / os.fsdecode(bytes(name))).st_mtime_ns == time for name, time in times)
