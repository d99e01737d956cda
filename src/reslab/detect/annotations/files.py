"""What the readers of the layouts share: folders of splits, text, and JSON, each refused in a line."""

import json
from pathlib import Path
from typing import Any

from reslab.errors import InputError

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What splits are called, and what we call them."""


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of splits below a folder; where there is none, the folder itself as ``train``."""
    found = {}
    for name, split in NAMES.items():
        if (root / name).is_dir() and split not in found:
            found[split] = root / name
    return found or {"train": root}


def split_of(name: str) -> str:
    """``instances_val2017`` -> ``val``; what has no split in its name is for training."""
    lowered = name.lower()
    return next((split for word, split in NAMES.items() if word in lowered), "train")


def text_of(path: Path) -> str:
    """A text file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"expected text in UTF-8 in {path}, but it cannot be read: {error}") from None


def json_of(path: Path) -> Any:
    """A JSON file."""
    try:
        return json.loads(text_of(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"expected JSON in {path}, but it is malformed: {error}; write the file anew") from None
