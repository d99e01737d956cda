"""Tar files in the layout of WebDataset: ``train-*.tar`` and ``val-*.tar``, KEY.jpg beside KEY.cls in each."""

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from reslab.data.formats import is_nobodys, readable
from reslab.data.layouts.found import TESTS, Asked, Found
from reslab.data.memo import Arrays, kept
from reslab.data.stored import Tars
from reslab.errors import InputError

_FORMAT = 2


def matches(root: Path) -> bool:
    """Whether there are shards to train on."""
    return any(root.glob("train*.tar"))


def find(root: Path, asked: Asked) -> Found:
    """The images of the shards. The names of the classes are the lines of ``classes.txt``, or else their numbers.

    Raises `InputError` for a damaged shard, and images without a class.
    """
    if asked.labels is not None:
        raise InputError(f"--labels is for images that are not in class folders, and {root} has tar files")
    train = tar_files(
        _named(root, "train"), classes=_names(root), cache_dir=asked.cache_dir, oriented=bool(asked.oriented)
    )
    name = next((name for name in TESTS if _named(root, name)), None)
    shards = f"{len(train.paths)} shards"
    if name is None:
        return Found(root, train, None, "", remarks=(shards,))
    test = tar_files(
        _named(root, name), classes=train.classes, cache_dir=asked.cache_dir, oriented=bool(asked.oriented)
    )
    return Found(root, train, test, f"test set: its {name} shards", remarks=(shards,))


def _named(root: Path, split: str) -> list[Path]:
    found = sorted(root.glob(f"{split}-*.tar")) + sorted(root.glob(f"{split}.tar"))
    if split == "train" and not found:
        raise InputError(f"{root}: expected tar files named train-*.tar and val-*.tar")
    return found


def _names(root: Path) -> Sequence[str] | None:
    """The names of the classes in ``classes.txt``, a line each, if there is one."""
    file = root / "classes.txt"
    return file.read_text("utf-8").splitlines() if file.is_file() else None


def tar_files(
    paths: Sequence[Path], *, classes: Sequence[str] | None = None, cache_dir: Path | None = None,
    oriented: bool = False,
) -> Tars:  # fmt: skip
    """The images of tar files in the layout of WebDataset: ``KEY.jpg`` beside ``KEY.cls``, the number of its class.

    Raises:
        InputError: a file that is cut short or no tar file, an image without a class, a class that is no number.
    """
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"expected the tar file {missing[0]}, but there is none")
    stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    found = kept(cache_dir, "tars", (_FORMAT, readable(), stamps), lambda: _members(paths))
    labels = torch.from_numpy(found["labels"].astype(np.int64))
    count = int(labels.max()) + 1
    if classes is not None and count > len(classes):
        raise InputError(f"{paths[0].parent}: expected classes 0 to {len(classes) - 1}, found {count - 1}")
    names = tuple(classes) if classes is not None else tuple(map(str, range(count)))
    where = found["in_file"].astype(np.int32)
    return Tars(tuple(paths), names, where, found["offsets"], found["sizes"], labels, oriented=oriented)


def _members(paths: Sequence[Path]) -> Arrays:
    rows: list[tuple[int, int, int, int]] = []
    for number, path in enumerate(paths):
        images: dict[str, tuple[int, int]] = {}
        classes: dict[str, int] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if not member.isfile():
                        continue
                    key, _, kind = member.name.rpartition("/")[2].partition(".")
                    key = member.name[: len(member.name) - len(kind)]
                    if is_nobodys(member.name.rpartition("/")[2]):
                        continue
                    if f".{kind.lower()}" in readable():
                        if key in images:
                            raise InputError(f"{path}: {key}* has two images; expected one")
                        images[key] = (member.offset_data, member.size)
                    elif kind == "cls":
                        handle = tar.extractfile(member)
                        assert handle is not None
                        classes[key] = int(handle.read())
                        if classes[key] < 0:
                            raise ValueError
            with path.open("rb") as raw:  # a cut between two members is seen by the missing end alone
                raw.seek(-min(1024, path.stat().st_size), os.SEEK_END)
                if raw.read().strip(b"\0"):
                    raise tarfile.ReadError("no end of the archive")
        except (tarfile.TarError, OSError, EOFError) as why:
            raise InputError(
                f"{path}: expected a whole tar file, found one that is cut short or damaged ({why})"
            ) from None
        except ValueError:
            raise InputError(f"{path}: expected the number of a class in each .cls file; number them from 0") from None
        if lonely := sorted(images.keys() - classes.keys()):
            raise InputError(f"{path}: {lonely[0]}* has no class beside it; expected {lonely[0]}cls")
        if not images:
            raise InputError(f"{path}: expected images ({', '.join(readable()[:3])}, ...), found none")
        rows += [(number, *images[key], classes[key]) for key in images]
    table = np.array(rows, dtype=np.int64)
    return {"in_file": table[:, 0], "offsets": table[:, 1], "sizes": table[:, 2], "labels": table[:, 3]}
