"""Data sets of photographs that stay on disk: where their images lie, found without decoding any of them.

folder/train/<class>/*.JPEG, folder/val/<class>/*.JPEG          class folders, as ImageNet is mostly kept
folder/train/<class>/*.JPEG, folder/val/*.JPEG, folder/val.txt  flat validation images beside a list of labels
folder/train-*.tar, folder/val-*.tar                            WebDataset: KEY.jpg beside KEY.cls
folder/train-*.parquet, folder/validation-*.parquet             as on the Hugging Face hub
folder/ILSVRC2012_img_train.tar, ..._val.tar, ..._devkit_t12.tar.gz   ImageNet as it is handed out
folder/ILSVRC/Data/CLS-LOC/train/, val/, LOC_val_solution.csv   ImageNet as Kaggle has it
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reslab.data import ilsvrc
from reslab.data.decode import CHUNK, Encoded
from reslab.data.folder import SUFFIXES
from reslab.data.spec import DataInfo, ScaleCrop
from reslab.data.stored import Files, Rows, Stored, Tars, files_in_classes, files_with_labels, listed_classes, tar_files
from reslab.data.stream import Listing
from reslab.errors import InputError

KAGGLE = "ILSVRC/Data/CLS-LOC"
TESTS = ("val", "validation", "test")
"""Names of the validation split, the first that is there."""
LISTS = ("val.txt", "val_labels.txt", "validation.txt", "LOC_val_solution.csv", "labels.txt")
"""Names of a list of labels beside flat validation images, the first that is there."""


@dataclass(frozen=True)
class Photographs:
    """A data set on disk."""

    info: DataInfo
    train: Stored
    test: Stored


def load_photographs(
    root: Path, size: tuple[int, int], *, labels: Path | None = None, cache_dir: Path | None = None
) -> Photographs:
    """Finds the images of a data set.

    Args:
        root: its folder, in one of the layouts above.
        size: height and width of the crops that a network will see.
        labels: the list of labels of flat validation images, if it has another name or place.
        cache_dir: where the names of many files are kept.

    Raises:
        InputError: no such layout, no validation images, a class that training does not have, a damaged shard.
    """
    if not root.is_dir():
        raise InputError(f"expected a folder of images at {root}, found nothing there")
    found: tuple[Files, Files, str] | tuple[Tars, Tars, str] | tuple[Rows, Rows, str]
    # Nothing looks into the folders of classes here: a million files take their time. Folders come first: the archives
    # that they were unpacked from often still lie beside them.
    if _validation(root) and (root / "train").is_dir() and any(entry.is_dir() for entry in (root / "train").iterdir()):
        found = _folders(root, labels, cache_dir)
    elif (root / KAGGLE).is_dir():
        found = _folders(root / KAGGLE, labels, cache_dir, lists_in=root)
    elif labels is not None:
        raise InputError(f"--labels is for validation images that lie flat in a folder, and {root} has none")
    elif (root / ilsvrc.TRAIN).is_file() or (root / ilsvrc.VAL).is_file():
        found = (*ilsvrc.archives(root, cache_dir=cache_dir), "validation: of the challenge")
    elif any(root.glob("train*.tar")):
        found = _shards(root, cache_dir)
    elif any(root.glob("*.parquet")) or any(root.glob("*/*.parquet")):
        from reslab.data.parquet import stored_rows

        found = stored_rows(root)
    else:
        found = _folders(root, labels, cache_dir)
    train, test, said = found
    info = DataInfo(
        name=root.resolve().name,
        source=f"{root} ({said})",
        fingerprint=_fingerprint(train, test),
        classes=train.classes,
        channels=3,
        size=size,
        n_train=len(train.labels),
        n_test=len(test.labels),
        augment=ScaleCrop(),
    )
    return Photographs(info, train, test)


def _validation(root: Path) -> str | None:
    return next((name for name in TESTS if (root / name).is_dir()), None)


def _folders(
    root: Path, labels: Path | None, cache_dir: Path | None, *, lists_in: Path | None = None
) -> tuple[Files, Files, str]:
    """``lists_in``: where a list of labels lies if not beside the images."""
    name = _validation(root)
    if not (root / "train").is_dir() or name is None:
        raise InputError(f"{root}: expected train/<class>/ and val/ with images, or shards; see `reslab train --help`")
    train = files_in_classes(root / "train", cache_dir=cache_dir)
    if any(entry.is_dir() for entry in (root / name).iterdir()):
        if labels is not None:
            raise InputError(f"--labels is for validation images that lie flat, and {root / name} has class folders")
        test = files_in_classes(root / name, classes=train.classes, cache_dir=cache_dir)
        return train, test, f"validation: its {name}/"
    beside = lists_in or root
    listed = labels or next((beside / file for file in LISTS if (beside / file).is_file()), None)
    if listed is None:
        raise InputError(
            f"{root / name}: the images lie flat, and nothing says their classes; put a list {LISTS[0]} of lines "
            f"'FILE CLASS' into {beside}, or move them into a folder for each class"
        )
    return train, files_with_labels(root / name, listed, train.classes), f"validation: its {name}/ by {listed.name}"


def _shards(root: Path, cache_dir: Path | None) -> tuple[Tars, Tars, str]:
    def named(split: str) -> list[Path]:
        return sorted(root.glob(f"{split}-*.tar")) + sorted(root.glob(f"{split}.tar"))

    name = next((name for name in TESTS if named(name)), None)
    if not named("train") or name is None:
        raise InputError(f"{root}: expected tar files named train-*.tar and val-*.tar")
    train = tar_files(named("train"), classes=_names(root), cache_dir=cache_dir)
    test = tar_files(named(name), classes=train.classes, cache_dir=cache_dir)
    return train, test, f"{len(train.paths)} shards; validation: {name}"


def _names(root: Path) -> Sequence[str] | None:
    """The names of the classes in ``classes.txt``, a line each, if there is one."""
    file = root / "classes.txt"
    return file.read_text("utf-8").splitlines() if file.is_file() else None


def _fingerprint(*splits: Files | Tars | Rows) -> str:
    """16 hex digits over labels, names (of files) or lengths (in shards), and how images lie together.

    Their bytes are not read: other images of the same names, or lengths, are taken for the same.
    """
    digest = hashlib.blake2b(digest_size=8)
    for split in splits:
        digest.update(repr(split.classes).encode())
        digest.update(np.ascontiguousarray(split.labels.numpy()).data)
        if isinstance(split, Files):
            digest.update(np.ascontiguousarray(split.names).data)
        elif isinstance(split, Tars):
            digest.update(np.ascontiguousarray(split.sizes).data)
        else:
            digest.update(repr(split.blocks).encode())
            digest.update(repr([path.stat().st_size for path in split.paths]).encode())
    return digest.hexdigest()


def is_flat(path: Path) -> bool:
    """Whether images lie in a folder itself, and no folders of classes."""
    with os.scandir(path) as entries:
        kinds = {entry.is_dir() for entry in entries if entry.name[:1] not in "._" and _is_folder_or_image(entry)}
    return kinds == {False}


def _is_folder_or_image(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir() or entry.name.lower().endswith(SUFFIXES)


def is_stored(root: Path) -> bool:
    """Whether a folder has images to train on and to validate with in a layout that only `load_photographs` knows."""
    train, name = root / "train", _validation(root)
    if train.is_dir() and name is not None and any(entry.is_dir() for entry in train.iterdir()):
        return is_flat(root / name)
    archives = (root / ilsvrc.TRAIN).is_file() or (root / ilsvrc.VAL).is_file()
    return not train.is_dir() and ((root / KAGGLE).is_dir() or archives or any(root.glob("train*.tar")))


def list_flat(root: Path, split: str, labels: Path | None, namings: Sequence[Sequence[str]] = ()) -> Listing:
    """Images that lie flat, all of them to be evaluated on, with the class of each in a list.

    ``namings`` are names that the outputs of the network are known by, the likeliest first: the list may keep to any of
    them, or count the classes from 0. Otherwise the classes are the words of the list, sorted.
    """
    if split == "train":
        raise InputError(f"{root}: the images lie flat, none of them to train on; --split takes test or all here")
    places = [folder / file for folder in (root, root.parent) for file in LISTS]
    listed = labels or next((place for place in places if place.is_file()), None)
    if listed is None:
        raise InputError(
            f"{root}: the images lie flat, and nothing says their classes; give a list by --labels, of lines 'FILE "
            "CLASS', or move them into a folder for each class"
        )
    words = listed_classes(listed)
    known = next((tuple(names) for names in namings if words <= set(names)), tuple(sorted(words)))
    if namings and all(word.isdigit() for word in words):
        known = tuple(namings[0])
    return _listing([files_with_labels(root, listed, known)], root, f"{root} (classes by {listed.name})")


def list_stored(root: Path, split: str, labels: Path | None) -> Listing:
    """The images of a split ('test', 'train', 'all') of any layout of `load_photographs`."""
    found = load_photographs(root, (1, 1), labels=labels)
    parts = {"test": [found.test], "train": [found.train], "all": [found.train, found.test]}[split]
    return _listing(parts, root, found.info.source)


def _listing(parts: Sequence[Stored], root: Path, source: str) -> Listing:
    def chunks() -> Iterator[list[Encoded]]:
        for part in parts:
            for start in range(0, len(part.labels), CHUNK):
                yield [_encoded(part, i) for i in range(start, min(start + CHUNK, len(part.labels)))]

    keys = (_key(part, i, root) for part in parts for i in range(len(part.labels)))
    labels = torch.cat([part.labels for part in parts])
    return Listing(root.resolve().name, source, parts[0].classes, labels, chunks, tuple(keys), loadable=False)


def _encoded(part: Stored, index: int) -> Encoded:
    if isinstance(part, Files):
        return Encoded(part.called(index), Path(part.called(index)))
    try:
        return Encoded(part.called(index), part.read(index))
    except OSError:
        return Encoded(part.called(index), None)


def _key(part: Stored, index: int, root: Path) -> str:
    called = part.called(index)
    size = part.sizes[index] if isinstance(part, Tars) else 0
    if isinstance(part, Files) and os.path.exists(called):
        size = os.stat(called).st_size
    return f"{called.removeprefix(str(root)).lstrip('/')} {size}"
