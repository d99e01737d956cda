"""The images below a folder, at any depth, for whoever takes them without classes."""

import os
from collections.abc import Iterator
from pathlib import Path

from reslab.data.formats import Unused, is_image, is_nobodys


def images_below(folder: Path, unused: Unused, unreadable: list[str]) -> Iterator[Path]:
    """Yields images in the order of their names, those of a folder before those of the folders in it.

    Links to folders are followed, but never in a circle.

    Args:
        folder: where to look.
        unused: other files are counted here.
        unreadable: folders that may not be listed are named here.
    """
    yield from _below(folder, unused, unreadable, frozenset())


def _below(folder: Path, unused: Unused, unreadable: list[str], above: frozenset[str]) -> Iterator[Path]:
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not is_nobodys(entry.name)), key=lambda entry: entry.name)
    except OSError as why:
        unreadable.append(f"{folder}: {why.strerror or why}")
        return
    folders = [entry for entry in entries if is_folder(entry)]
    others = [entry.path for entry in entries if not is_folder(entry)]
    unused.add(path for path in others if not is_image(os.path.basename(path)))
    yield from (Path(path) for path in others if is_image(os.path.basename(path)))
    for entry in folders:
        yield from _below(Path(entry.path), unused, unreadable, above | {here})


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link that leads to itself is neither."""
    try:
        return entry.is_dir()
    except OSError:
        return False
