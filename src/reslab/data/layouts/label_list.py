"""Images that lie flat in a folder, with the class of each in a text file: ``val/*.JPEG`` and ``val.txt``."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from reslab.data.formats import is_image, is_nobodys
from reslab.data.layouts.found import Asked, Found
from reslab.data.stored import Files
from reslab.errors import InputError

LISTS = ("val.txt", "val_labels.txt", "validation.txt", "LOC_val_solution.csv", "labels.txt")
"""Names of a list of labels beside flat images, the first that is there."""
HEADINGS = ("imageid", "image", "file", "filename")
"""First words of a heading over a list of labels."""


def matches(root: Path) -> bool:
    """Whether images lie in the folder itself, and no folders of classes."""
    with os.scandir(root) as entries:
        kinds = {entry.is_dir() for entry in entries if not is_nobodys(entry.name) and _counts(entry)}
    return kinds == {False}


def _counts(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir() or is_image(entry.name)


def find(root: Path, asked: Asked) -> Found:
    """The images, all of them to be evaluated on.

    The list may keep to any of the names that the outputs of the network are known by, or count the classes from 0.
    Otherwise the classes are the words of the list, sorted. Raises `InputError` where there is no list.
    """
    places = [folder / file for folder in (root, root.parent) for file in LISTS]
    listed = asked.labels or next((place for place in places if place.is_file()), None)
    if listed is None:
        raise InputError(
            f"{root}: the images are not in class folders and have no list of labels; give a list by --labels, "
            "of lines 'FILE CLASS', or move them into a folder for each class"
        )
    words = listed_classes(listed)
    known = next((tuple(names) for names in asked.namings if words <= set(names)), tuple(sorted(words)))
    if asked.namings and all(word.isdigit() for word in words):
        known = tuple(asked.namings[0])
    return Found(root, None, files_with_labels(root, listed, known, asked), f"classes by {listed.name}")


def files_with_labels(
    root: Path, labels: Path, classes: Sequence[str], asked: Asked, *, base: Path | None = None
) -> Files:
    """The images that are not in class folders, with the class of each in a text file.

    A line of the file is a name and a class (``ILSVRC2012_val_00000001.JPEG n01751748``, or the class's number in
    the sorted order), separated by blanks or a comma; what follows is left aside, and so is a heading (Kaggle's
    ``LOC_val_solution.csv`` is read as it is).

    Raises:
        InputError: a line that names a missing file or an unknown class, images without a line.
    """
    with os.scandir(root) as entries:
        here = {entry.name for entry in entries if is_image(entry.name)}
    stems = {Path(name).stem: name for name in here}
    number = {name: i for i, name in enumerate(classes)}
    found: dict[str, int] = {}
    for position, words, line in _lines(labels):
        name = words[0] if words[0] in here else stems.get(words[0])
        if name is None:
            raise InputError(f"{labels} line {position} names {words[0]}, which is not in {root}")
        if len(words) < 2:
            raise InputError(f"{labels} line {position}: expected a file and its class, got '{line}'")
        label = number.get(words[1])
        if label is None and words[1].isdigit() and int(words[1]) < len(classes):
            label = int(words[1])
        if label is None:
            raise InputError(f"{labels} line {position}: there is no class '{words[1]}' among the {len(classes)}")
        if found.get(name, label) != label:
            raise InputError(f"{labels} line {position} gives {name} another class than a line before")
        found[name] = label
    if missing := sorted(here - found.keys()):
        raise InputError(f"{labels} has no line for {len(missing)} of the images in {root}, the first {missing[0]}")
    names = sorted(found)
    return Files(
        root, tuple(classes), (".",), np.zeros(len(names), np.int32), np.array([os.fsencode(name) for name in names]),
        torch.tensor([found[name] for name in names]), oriented=True if asked.oriented is None else asked.oriented,
        base=base,
    )  # fmt: skip


def _lines(labels: Path) -> Iterator[tuple[int, list[str], str]]:
    """The lines of a list of labels: number, words and text, without empty ones and a heading."""
    for position, line in enumerate(_text(labels).splitlines(), 1):
        words = line.replace(",", " ").split()
        if words and not (position == 1 and words[0].lower() in HEADINGS):
            yield position, words, line.strip()


def _text(labels: Path) -> str:
    try:
        return labels.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as why:
        reason = why.strerror if isinstance(why, OSError) else "it is no text"
        raise InputError(f"{labels}: expected a text file of names and classes, but {reason}") from None


def listed_classes(labels: Path) -> set[str]:
    """The classes that a list of labels names. Raises `InputError` for a file that is no text."""
    return {words[1] for _, words, _ in _lines(labels) if len(words) > 1}


def lists_images(labels: Path) -> bool:
    """Whether a text file says the class of each of many images, rather than a name for each of many classes."""
    first = _text(labels).replace(",", " ").split(maxsplit=1)[:1]
    word = first[0].lower() if first else ""
    return word in HEADINGS or is_image(word) or word.startswith("ilsvrc2012_val_")
