"""ImageNet as Kaggle has it: ``ILSVRC/Data/CLS-LOC/`` with train/ and val/, beside ``LOC_val_solution.csv``."""

from dataclasses import replace
from pathlib import Path

from reslab.data.layouts import class_folders
from reslab.data.layouts.found import Asked, Found

INSIDE = "ILSVRC/Data/CLS-LOC"


def matches(root: Path) -> bool:
    """Whether the folders of the competition are there."""
    return (root / INSIDE).is_dir()


def find(root: Path, asked: Asked) -> Found:
    """The images. Orientations are left as stored, as published figures have them."""
    found = class_folders.find(root / INSIDE, replace(asked, oriented=bool(asked.oriented)), lists_in=root)
    return replace(found, root=root)
