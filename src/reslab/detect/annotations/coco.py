"""COCO JSON: ``images``, ``categories`` and ``annotations`` in a file (Lin et al. 2014, arXiv 1405.0312).

As COCO lies (``annotations/instances_train2017.json`` and pictures in ``train2017/``), as exports do
(``train/_annotations.coco.json`` beside the pictures), or a single file. A box is x, y, width, height in pixels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reslab.detect.annotations.files import json_of, split_folders, split_of
from reslab.detect.annotations.stated import Stated, StatedBox, StatedPicture
from reslab.detect.annotations.types import Kind, Problem
from reslab.errors import InputError


def files_of(root: Path) -> list[tuple[str, Path]]:
    """The JSON files of a data set, each with its split."""
    if root.is_file():
        return [(split_of(root.stem), root)]
    for folder in (root / "annotations", root):
        found = sorted(folder.glob("instances*.json")) or sorted(folder.glob("*.json"))
        if found:
            return [(split_of(path.stem), path) for path in found]
    return [
        (split, path) for split, folder in split_folders(root).items() for path in sorted(folder.glob("*.json"))[:1]
    ]


def read_coco(root: Path) -> Stated:
    """Reads all files of a data set. Raises `InputError` for one that is no COCO JSON."""
    pictures: list[StatedPicture] = []
    problems: list[Problem] = []
    classes: dict[str, None] = {}
    for split, path in files_of(root):
        content = json_of(path)
        names = _categories(content, path)
        classes |= dict.fromkeys(names.values())
        pictures += _pictures(content, split, path, names, problems)
    return Stated(root, "coco", "pixels", tuple(pictures), tuple(classes), tuple(problems))


def _entries(content: Any, key: str, path: Path) -> list[Any]:
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise InputError(f"expected COCO JSON, an object with the list '{key}', in {path}; it has none")
    return list(content[key])


def _categories(content: Any, path: Path) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for entry in _entries(content, "categories", path):
        try:
            number, name = entry["id"], str(entry["name"])
        except (TypeError, KeyError):
            raise InputError(f"expected categories with 'id' and 'name' in {path}, got {entry!r:.60}") from None
        if names.setdefault(number, name) != name:
            raise InputError(f"{path}: two categories have the id {number}: '{names[number]}' and '{name}'")
    return dict(sorted(names.items(), key=lambda item: str(item[0]).zfill(9)))


def _pictures(
    content: Any, split: str, path: Path, names: dict[Any, str], problems: list[Problem]
) -> Iterator[StatedPicture]:
    boxes: dict[Any, list[StatedBox]] = {}
    entries = _entries(content, "images", path)
    known: dict[Any, Any] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
            problems.append(Problem(Kind.MALFORMED, path.name, f"expected 'id' and 'file_name', got {entry!r:.60}"))
        elif entry["id"] in known:
            problems.append(Problem(Kind.DUPLICATE, f"{path.name}, image id {entry['id']}", str(entry["file_name"])))
        else:
            known[entry["id"]] = entry
    for number, entry in enumerate(_entries(content, "annotations", path)):
        try:
            x, y, width, height = map(float, entry["bbox"])
            image, category = entry["image_id"], entry["category_id"]
            crowd = bool(entry.get("iscrowd", 0))
        except (TypeError, KeyError, ValueError, AttributeError):
            # Its picture cannot be trusted to be complete: what is not annotated would be learnt as background.
            image = entry.get("image_id") if isinstance(entry, dict) else None
            problems.append(Problem(Kind.MALFORMED, f"{path.name}, annotation {number}", f"{entry!r:.60}"))
            known.pop(image, None)
            continue
        if image not in known:
            problems.append(Problem(Kind.ABSENT, f"{path.name}, annotation {number}", f"no image has the id {image}"))
            continue
        name = names.get(category, f"category id {category}")
        boxes.setdefault(image, []).append(StatedBox(name, x, y, x + width, y + height, False, crowd))
    folder = _folder(path, split, known)
    for number, entry in known.items():
        name, size = entry["file_name"], (entry.get("height"), entry.get("width"))
        whole = (int(size[0]), int(size[1])) if isinstance(size[0], int) and isinstance(size[1], int) else None
        yield StatedPicture(split, name, folder / name, tuple(boxes.get(number, ())), whole)


def _folder(path: Path, split: str, pictures: dict[Any, Any]) -> Path:
    """Where the pictures of a file lie: the first likely folder that has one of the first."""
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    name = path.stem.split("_")[-1]
    likely = (path.parent, root / name, root / split, root / "images" / name, root / "images" / split, root / "images",
              root)  # fmt: skip
    few = [entry["file_name"] for entry in list(pictures.values())[:20]]
    return next((folder for folder in likely if any((folder / each).is_file() for each in few)), likely[0])
