"""Pascal VOC: an XML file for each picture (Everingham et al. 2010, IJCV 88:303).

Either ``Annotations/ JPEGImages/ ImageSets/Main/{train,val,trainval,test}.txt``, or the XML files beside the pictures
in folders ``train/ valid/ test/``. Corners are the first and the last pixel of the object, counted from 1.
"""

from pathlib import Path
from xml.etree import ElementTree

from reslab.detect.annotations.files import PICTURES, split_folders, split_of, text_of
from reslab.detect.annotations.stated import Stated, StatedBox, StatedPicture
from reslab.detect.annotations.types import Kind, Problem
from reslab.errors import InputError


def is_voc(root: Path) -> bool:
    """Whether a folder lies as Pascal VOC does."""
    return (root / "Annotations").is_dir() or any(any(f.glob("*.xml")) for f in split_folders(root).values())


def read_voc(root: Path) -> Stated:
    """Reads all that is listed; without lists every XML file, as training pictures."""
    pictures: list[StatedPicture] = []
    problems: list[Problem] = []
    if (root / "Annotations").is_dir():
        folder = root / "JPEGImages" if (root / "JPEGImages").is_dir() else root
        named = {path.stem: path for path in folder.iterdir() if path.suffix.lower() in PICTURES}
        for split, names in _lists(root).items():
            for name in names:
                _one(split, name, root / "Annotations" / f"{name}.xml", named.get(name, folder / f"{name}.jpg"),
                     pictures, problems)  # fmt: skip
    else:
        for split, folder in split_folders(root).items():
            named = {path.stem: path for path in folder.iterdir() if path.suffix.lower() in PICTURES}
            for name in sorted(named.keys() | {path.stem for path in folder.glob("*.xml")}):
                _one(split, name, folder / f"{name}.xml", named.get(name, folder / f"{name}.jpg"), pictures, problems)
    return Stated(root, "voc", "inclusive", tuple(pictures), problems=tuple(problems))


def _lists(root: Path) -> dict[str, list[str]]:
    """Names of pictures by split. ``trainval`` is used where there is no ``train``."""
    folder = root / "ImageSets" / "Main"
    found = {}
    for split in ("train", "val", "test"):
        path = folder / f"{split}.txt"
        if not path.exists() and split == "train":
            path = folder / "trainval.txt"
        if path.exists():
            found[split] = [line.split()[0] for line in text_of(path).splitlines() if line.strip()]
    if not found:
        return {"train": sorted(path.stem for path in (root / "Annotations").glob("*.xml"))}
    return found


def _one(
    split: str, name: str, xml: Path, picture: Path, pictures: list[StatedPicture], problems: list[Problem]
) -> None:
    where = f"{split_of(split)}/{name}"
    try:
        tree = ElementTree.parse(xml).getroot()
        boxes = tuple(_box(each) for each in tree.iter("object"))
        size = _size(tree)
    except FileNotFoundError:
        problems.append(Problem(Kind.UNANNOTATED, where, f"expected {xml.name}"))
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError, OSError) as error:
        problems.append(Problem(Kind.MALFORMED, where, f"{xml.name}: {error}"))
    else:
        pictures.append(StatedPicture(split, name, picture, boxes, size))


def _text(element: ElementTree.Element, path: str) -> str:
    found = element.findtext(path)
    if found is None or not found.strip():
        raise InputError(f"expected <{path.replace('/', '><')}> in each <{element.tag}>")
    return found.strip()


def _box(element: ElementTree.Element) -> StatedBox:
    x1, y1, x2, y2 = (float(_text(element, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    return StatedBox(_text(element, "name"), x1, y1, x2, y2, difficult)


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    """As stated; None where it is not, or is 0, which some tools write for "not known"."""
    height, width = (int(float(tree.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    return (height, width) if height and width else None
