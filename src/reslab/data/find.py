"""Finds the images of a folder in any known layout.

A layout is a module of `reslab.data.layouts` with two functions: ``matches(root)`` says whether a folder is of that
kind, and ``find(root, asked)`` says where its images are (`reslab.data.layouts.found.Found`). A new one is a file there
and a word in `layouts` here.
"""

import os
from pathlib import Path
from typing import Protocol

from reslab.data.layouts import archives, class_folders, kaggle, label_list, shards, table
from reslab.data.layouts.found import Asked, Found
from reslab.errors import InputError


class Layout(Protocol):
    """A module of `reslab.data.layouts`."""

    def matches(self, root: Path) -> bool:
        """Whether the folder is of this kind."""

    def find(self, root: Path, asked: Asked) -> Found:
        """Its images. Raises `InputError` for what is wrong with them."""


class _WithSplits:
    """Class folders with a split to test on come first: the archives that they were unpacked from often lie beside."""

    def matches(self, root: Path) -> bool:
        return class_folders.has_splits(root)

    def find(self, root: Path, asked: Asked) -> Found:
        return class_folders.find(root, asked)


def layouts() -> tuple[Layout, ...]:
    """The first that matches is taken; the last one takes anything, to say what is wrong."""
    from reslab.data.layouts import parquet  # pyarrow takes a while to import

    return (_WithSplits(), kaggle, archives, shards, table, parquet, label_list, class_folders)


def find(root: Path, asked: Asked = Asked()) -> Found:  # noqa: B008 (frozen)
    """The images of a folder, in whatever layout they lie.

    Raises:
        InputError: no folder, an empty one, no known layout, or something wrong in it.
    """
    if root.is_file():
        if not table.matches(root):
            raise InputError(f"{root}: expected a folder of images, or a table of paths and labels (.csv, .parquet)")
        return table.find(root, asked)
    try:
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
        if empty:
            raise InputError(
                f"{root}: expected Parquet files or a folder of images for each class, found an empty folder"
            )
        layout = next(layout for layout in layouts() if layout.matches(root))
    except OSError as why:
        raise InputError(
            f"{root}: expected a readable folder, but {why.strerror or why}; change its permissions"
        ) from why
    return layout.find(root, asked)
