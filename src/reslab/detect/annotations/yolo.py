"""YOLO text: a line for each box, ``class x y width height`` (centre and size, in shares of the picture).

Either ``data.yaml`` says where the pictures of each split lie, or they lie in ``images/train`` or ``train/images``. The
text of ``images/train/a.jpg`` is ``labels/train/a.txt``; one that is not there means a picture without boxes.
"""

from pathlib import Path
from typing import Any

from reslab.detect.annotations.files import NAMES, PICTURES, split_folders, text_of
from reslab.detect.annotations.stated import Stated, StatedBox, StatedPicture
from reslab.detect.annotations.types import Kind, Problem
from reslab.errors import InputError


def is_yolo(root: Path) -> bool:
    """Whether a folder lies as YOLO's do."""
    return _description(root) is not None or (root / "labels").is_dir() or (root / "train" / "labels").is_dir()


def read_yolo(root: Path) -> Stated:
    """Reads all splits. A picture whose text is malformed is left out; a list of names that is, is refused."""
    described = _description(root)
    content = {} if described is None else _yaml(described)
    classes = _names(root, content, described)
    pictures: list[StatedPicture] = []
    problems: list[Problem] = []
    for split, folder in _folders(root, content).items():
        for path in sorted(each for each in folder.rglob("*") if each.suffix.lower() in PICTURES):
            name = path.relative_to(folder).as_posix()
            try:
                boxes = _boxes(_label(path), classes)
            except InputError as error:
                problems.append(Problem(Kind.MALFORMED, f"{split}/{name}", str(error)))
                continue
            pictures.append(StatedPicture(split, name, path, boxes))
    return Stated(root, "yolo", "relative", tuple(pictures), classes, tuple(problems))


def _description(root: Path) -> Path | None:
    return next(
        (path for path in (root / "data.yaml", root / "dataset.yaml", root / "data.yml") if path.exists()), None
    )


def _yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise InputError(f"reading {path} needs the library pyyaml: pip install 'reslab[detect]'") from None
    try:
        content = yaml.safe_load(text_of(path))
    except yaml.YAMLError as error:
        raise InputError(f"expected YAML in {path}, but it is malformed: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"expected 'names' and the folders of the splits in {path}, got {content!r:.60}")
    return content


def _names(root: Path, content: dict[str, Any], described: Path | None) -> tuple[str, ...] | None:
    names = content.get("names")
    if isinstance(names, list):
        return tuple(map(str, names))
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise InputError(f"expected 'names' numbered from 0 without a gap in {described}, got {list(names)[:8]}")
        return tuple(str(names[number]) for number in range(len(names)))
    for path in (root / "classes.txt", root / "labels" / "classes.txt", root / "obj.names"):
        if path.exists():
            return tuple(line.strip() for line in text_of(path).splitlines() if line.strip())
    return None


def _folders(root: Path, content: dict[str, Any]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    base = root / str(content.get("path", "."))
    for key, split in NAMES.items():
        if isinstance(said := content.get(key), str):
            # Exports write ../train/images and mean train/images.
            likely = (base / said, root / said, root / said.removeprefix("../"))
            there = next((folder for folder in likely if folder.is_dir()), None)
            if there is None:
                raise InputError(
                    f"expected the pictures of '{key}' in {base / said}, as data.yaml says; no such folder"
                )
            found.setdefault(split, there)
    if not found and (root / "images").is_dir():
        found = split_folders(root / "images")
    return found or {
        split: folder / "images" if (folder / "images").is_dir() else folder
        for split, folder in split_folders(root).items()
    }


def _label(picture: Path) -> Path:
    """The text of a picture: the last folder called ``images`` on its way becomes ``labels``."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            return Path(*parts).with_suffix(".txt")
    return picture.with_suffix(".txt")


def _boxes(path: Path, classes: tuple[str, ...] | None) -> tuple[StatedBox, ...]:
    if not path.exists():
        return ()
    boxes = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, *numbers = int(words[0]), *map(float, words[1:])
        except ValueError:
            raise InputError(f"{path.name}, line {number}: expected five numbers, got '{line[:40]}'") from None
        if len(numbers) >= 6 and len(numbers) % 2 == 0:  # a polygon: its box
            xs, ys = numbers[::2], numbers[1::2]
            corners = (min(xs), min(ys), max(xs), max(ys))
        elif len(numbers) == 4:
            x, y, width, height = numbers
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        else:
            raise InputError(
                f"{path.name}, line {number}: expected 'class x y width height', or a class and a polygon, got "
                f"{len(words)} numbers"
            )
        known = classes is None or 0 <= label < len(classes)
        boxes.append(StatedBox(classes[label] if classes and known else f"{label}", *corners))
    return tuple(boxes)
