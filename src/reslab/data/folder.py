"""A folder of images, one folder for each class: ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from reslab.data.cache import cached
from reslab.data.decode import CHUNK, Encoded, Fit, check_memory, decode, survey
from reslab.data.images import Dataset, Decoded, ImageSet, a_fifth, dataset, decoded, held_out
from reslab.data.stream import Listing
from reslab.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")
DEFAULT_SIZE = 32
_TEST_NAMES = ("test", "val", "validation")  # the first that is there becomes the test set
_LAYOUT = "train/<class>/<image> and val/<class>/<image>, or <class>/<image>"


@dataclass(frozen=True)
class _Layout:
    root: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    said: str
    """where the test set comes from, for people"""
    whole: bool = False
    """both sets are all images"""


def load_folder(path: Path, *, cache_dir: Path | None = None, fit: Fit | None = None, whole: bool = False) -> Dataset:
    """Load a folder of images as RGB.

    The test set is ``test/``, ``val/`` or ``validation/``, the first of them that is there; without any, and
    where class folders lie directly in ``path``, a fixed fifth of each class. Images are resized and cropped by
    ``fit``; without it they keep their size if it is the same for all, and become 32 pixels otherwise. With
    ``whole`` nothing is held out: both sets are all images. Decoded images are cached by content. Raises
    InputError for classes without images, test classes that are not in the training set, damaged images, or more
    than 4 GB.
    """
    layout = _examine(path, whole)
    files = {p.relative_to(path).as_posix(): p for p, _ in (*layout.train, *layout.test)}
    found = cached(
        path.resolve().name,
        files,
        lambda: _decode(layout, fit),
        options=f"folder {fit} {layout.said}",
        cache_dir=cache_dir,
    )
    return dataset(found, name=path.resolve().name, source=f"{path} ({layout.said})")


def _examine(root: Path, whole: bool) -> _Layout:
    tests = [name for name in _TEST_NAMES if (root / name).is_dir()]
    if not (root / "train").is_dir():
        if tests:
            raise InputError(f"{root}: expected train/ beside {tests[0]}/, found none; the layout is {_LAYOUT}")
        classes, images = _class_folders(root)
        return _whole(root, classes, images) if whole else _hold_out(root, classes, images)
    classes, images = _class_folders(root / "train")
    if not tests:
        return _whole(root, classes, images) if whole else _hold_out(root, classes, images)
    test_root = root / tests[0]
    test_classes, test_images = _class_folders(test_root)
    if unknown := sorted(set(test_classes) - set(classes)):
        raise InputError(
            f"{test_root}: expected only classes that are in train/, found {', '.join(unknown[:5])}"
            f"{' and more' if len(unknown) > 5 else ''}; add them to train/ or remove them"
        )
    number = {name: i for i, name in enumerate(classes)}
    test = [(file, number[test_classes[label]]) for file, label in test_images]
    if whole:
        return _whole(root, classes, [*images, *test])
    unused = f", {', '.join(f'{name}/' for name in tests[1:])} not used" if tests[1:] else ""
    return _Layout(
        root,
        classes,
        tuple(images),
        tuple(test),
        f"test set: its {tests[0]}/{unused}",
    )


def _class_folders(root: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """The classes, sorted, and their images, sorted, with the number of the class."""
    try:
        folders = sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith((".", "__")))
        if not folders:
            loose = sum(f.suffix.lower() in SUFFIXES for f in root.iterdir())
            what = f"{loose} images without class folders" if loose else "neither class folders nor Parquet files"
            raise InputError(f"{root}: expected {_LAYOUT}, found {what}; sort the images into a folder for each class")
        images: list[tuple[Path, int]] = []
        for label, folder in enumerate(folders):
            inside = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.is_dir())
            if not inside:
                raise InputError(
                    f"{folder}: expected images of a class ({', '.join(SUFFIXES)}), found none; "
                    f"add some or remove the folder"
                )
            images.extend((file, label) for file in inside)
    except OSError as why:
        raise InputError(f"{why.filename or root}: expected a readable folder, but {why.strerror or why}") from why
    return tuple(folder.name for folder in folders), images


def _whole(root: Path, classes: tuple[str, ...], images: Sequence[tuple[Path, int]]) -> _Layout:
    return _Layout(root, classes, (), tuple(images), "all images", whole=True)


def _hold_out(root: Path, classes: tuple[str, ...], images: Sequence[tuple[Path, int]]) -> _Layout:
    base = images[0][0].parent.parent
    labels = [label for _, label in images]
    chosen = held_out([f.relative_to(base).as_posix() for f, _ in images], labels, a_fifth(Counter(labels)))
    if len(classes) > 1 and not any(chosen):
        raise InputError(
            f"{root}: expected two images or more in some class, to hold out a fifth as test set, "
            f"found one each; add images, or a val/ folder"
        )
    return _Layout(
        root,
        classes,
        tuple(item for item, out in zip(images, chosen, strict=True) if not out),
        tuple(item for item, out in zip(images, chosen, strict=True) if out),
        "a fixed fifth of each class held out as test set",
    )


def list_folder(path: Path, split: str) -> Listing:
    """The images of a split ('test', 'train', 'all') of a folder, none of them read yet."""
    layout = _examine(path, split == "all")
    items = layout.train if split == "train" else layout.test
    return Listing(
        path.resolve().name,
        f"{path} ({layout.said})",
        layout.classes,
        torch.tensor([label for _, label in items]),
        lambda: _chunks(items),
        tuple(f"{file.relative_to(path).as_posix()} {_length(file)}" for file, _ in items),
    )


def _length(file: Path) -> int:
    """In bytes; of a file that cannot be read it is 0, and reading it will say why."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _chunks(items: Sequence[tuple[Path, int]]) -> Iterator[list[Encoded]]:
    for start in range(0, len(items), CHUNK):
        yield [Encoded(str(file), file) for file, _ in items[start : start + CHUNK]]


def _decode(layout: _Layout, fit: Fit | None) -> Decoded:
    items = (*layout.train, *layout.test)
    where = str(layout.root)
    if len(layout.classes) < 2:
        raise InputError(
            f"{where}: expected at least two classes to tell apart, found one, '{layout.classes[0]}'; "
            f"add a folder with images of another class"
        )

    def chunks() -> Iterator[list[Encoded]]:
        return _chunks(items)

    if fit is not None:
        check_memory(len(items), 3, fit.crop, where=where)
    headers = survey(chunks)
    if fit is None:
        fit = Fit(next(iter(headers.sizes)) if len(headers.sizes) == 1 else (DEFAULT_SIZE, DEFAULT_SIZE))
    check_memory(len(items), 3, fit.crop, where=where)
    images = decode(chunks, len(items), channels=3, fit=fit, what=f"decoding {layout.root.name}")
    labels = torch.tensor([label for _, label in items])
    n = len(layout.train)
    if layout.whole:
        everything = ImageSet(images, labels)
        return decoded(everything, everything, layout.classes, where=where)
    return decoded(ImageSet(images[:n], labels[:n]), ImageSet(images[n:], labels[n:]), layout.classes, where=where)
