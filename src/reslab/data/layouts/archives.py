"""ImageNet as it is handed out: three archives, read where they lie, without unpacking 150 GB.

ILSVRC2012_img_train.tar        an archive for each class inside: n01440764.tar, ...
ILSVRC2012_img_val.tar          50,000 photographs, flat
ILSVRC2012_devkit_t12.tar.gz    which class each of those is of
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch

from reslab.data.formats import is_nobodys, readable
from reslab.data.layouts.found import Asked, Found
from reslab.data.memo import Arrays, kept
from reslab.data.stored import Tars
from reslab.errors import InputError

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
_TRUTH, _META = "data/ILSVRC2012_validation_ground_truth.txt", "data/meta.mat"
_FORMAT = 1

Member = tuple[str, int, int]
"""Name, offset and size."""


def matches(root: Path) -> bool:
    """Whether one of the archives of images is there."""
    return (root / TRAIN).is_file() or (root / VAL).is_file()


def find(root: Path, asked: Asked) -> Found:
    """The images of the challenge. Orientations are left as stored, as published figures have them."""
    if asked.labels is not None:
        raise InputError(f"--labels is for images that are not in class folders, and {root} has archives")
    train, test = archives(root, cache_dir=asked.cache_dir, oriented=bool(asked.oriented))
    return Found(root, train, test, "test set: the challenge's validation images")


def archives(root: Path, *, cache_dir: Path | None = None, oriented: bool = False) -> tuple[Tars, Tars]:
    """The images of a folder with the three archives: to train on, and to validate with.

    Raises `InputError` where one is missing, cut short, or does not go with the others.
    """
    for name in (TRAIN, VAL, DEVKIT):
        if not (root / name).is_file():
            raise InputError(f"{root}: expected {TRAIN}, {VAL} and {DEVKIT} beside each other, {name} is missing")
    train = _found(root / TRAIN, "train", cache_dir)
    names = tuple(str(name) for name in train["classes"])
    ids, truth = _devkit(root / DEVKIT)
    number = {name: label for label, name in enumerate(names)}
    val = _found(root / VAL, "val", cache_dir)
    if len(truth) != len(val["offsets"]):
        raise InputError(f"{root}: {VAL} has {len(val['offsets'])} images, but {DEVKIT} the classes of {len(truth)}")
    if strange := sorted({ids[i] for i in truth} - number.keys()):
        raise InputError(f"{root}: {TRAIN} has no images of {strange[0]}, which {DEVKIT} names; fetch the whole of it")
    labels = torch.tensor([number[ids[i]] for i in truth])
    return (
        _tars(root / TRAIN, train, names, torch.from_numpy(train["labels"].astype(np.int64)), oriented),
        _tars(root / VAL, val, names, labels, oriented),
    )


def _tars(path: Path, found: Arrays, names: tuple[str, ...], labels: torch.Tensor, oriented: bool) -> Tars:
    where = np.zeros(len(labels), np.int32)
    return Tars((path,), names, where, found["offsets"], found["sizes"], labels, oriented=oriented)


def _found(path: Path, what: str, cache_dir: Path | None) -> Arrays:
    """Positions of the images in an archive, ordered by class and name."""
    about = path.stat()
    stamp = (_FORMAT, readable(), what, str(path.resolve()), about.st_size, about.st_mtime_ns)

    def read() -> Arrays:
        try:
            with path.open("rb") as raw:
                return _classes(raw) if what == "train" else _flat(raw)
        except (tarfile.TarError, OSError, EOFError) as why:
            raise InputError(
                f"{path}: expected a whole tar file, found one that is cut short or damaged ({why})"
            ) from None

    return kept(cache_dir, "ilsvrc", stamp, read)


def _flat(raw: IO[bytes]) -> Arrays:
    images = sorted(_members(raw, readable()))
    return {"offsets": _column(images, 1), "sizes": _column(images, 2)}


def _classes(raw: IO[bytes]) -> Arrays:
    inner = sorted(_members(raw, (".tar",)))
    if not inner:
        raise InputError(f"{raw.name}: expected an archive for each class in it, found none")
    images: list[Member] = []
    labels: list[int] = []
    for label, (name, start, size) in enumerate(inner):
        own = sorted(_members(io.BufferedReader(_Part(raw, start, size)), readable()))
        if not own:
            raise InputError(f"{raw.name}: {name} in it has no images")
        images += [(member, start + offset, length) for member, offset, length in own]
        labels += [label] * len(own)
    return {
        "classes": np.array([name.removesuffix(".tar") for name, _, _ in inner]),
        "labels": np.array(labels, np.int32),
        "offsets": _column(images, 1),
        "sizes": _column(images, 2),
    }


def _column(images: list[Member], which: int) -> npt.NDArray[np.int64]:
    return np.array([image[which] for image in images], np.int64)


def _members(raw: IO[bytes], suffixes: tuple[str, ...]) -> Iterator[Member]:
    with tarfile.open(fileobj=raw, mode="r:") as tar:
        for member in tar:
            name = member.name.rpartition("/")[2]
            if member.isfile() and name.lower().endswith(suffixes) and not is_nobodys(name):
                yield name, member.offset_data, member.size
        # An archive ends with zeros; one that was cut between two members ends without.
        raw.seek(tar.offset)
        if raw.read(512) != bytes(512):
            raise tarfile.ReadError("no end of the archive")


class _Part(io.RawIOBase):
    """An archive inside another one, as a file."""

    def __init__(self, raw: IO[bytes], start: int, size: int) -> None:
        self.raw, self.start, self.size, self.at = raw, start, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        self.raw.seek(self.start + self.at)
        data = self.raw.read(max(0, min(len(buffer), self.size - self.at)))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)


def _devkit(path: Path) -> tuple[dict[int, str], list[int]]:
    """The WordNet id of each of the challenge's own numbers, and the number of each validation image."""
    from scipy.io import loadmat

    try:
        with tarfile.open(path) as tar:
            inside = {member.name: member for member in tar}
            read = {}
            for wanted in (_TRUTH, _META):
                name = next((name for name in inside if name.endswith(wanted)), None)
                handle = tar.extractfile(inside[name]) if name else None
                if handle is None:
                    raise InputError(f"{path}: expected {wanted} in it, found none")
                read[wanted] = handle.read()
        synsets = loadmat(io.BytesIO(read[_META]), squeeze_me=True)["synsets"]
        # Number, WordNet id, ..., children: those without children are the classes.
        ids = {int(row[0]): str(row[1]) for row in synsets if int(row[4]) == 0}
        truth = [int(line) for line in read[_TRUTH].split()]
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError, TypeError, IndexError) as why:
        raise InputError(f"{path}: expected the challenge's development kit, found something else ({why})") from None
    if strange := [i for i in truth if i not in ids]:
        raise InputError(f"{path}: the validation images are of class {strange[0]}, which its meta.mat does not know")
    return ids, truth
