"""Encoded images that are read one by one, in any order: more than fit into memory.

A folder of images, tar files in the layout of WebDataset, or Parquet files. None of them is decoded here. What a
million files are called is found once and kept in the cache.
"""

import hashlib
import logging
import os
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reslab.data.cache import default_dir
from reslab.data.folder import SUFFIXES
from reslab.errors import InputError

_log = logging.getLogger("reslab")
_FORMAT = 1
HEADINGS = ("imageid", "image", "file", "filename")
"""First words of a heading over a list of labels."""
OPEN = 64
"""Tar files that are open at a time: ImageNet is often cut into more than a process may open."""


class Stored(Protocol):
    """The images of one split."""

    @property
    def labels(self) -> Tensor:
        """int64 (N,)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the labels."""

    @property
    def blocks(self) -> tuple[int, ...] | None:
        """How many images lie together, where reading one costs the reading of all; None where it does not."""

    def read(self, index: int) -> bytes:
        """The bytes of an image. Raises OSError or `InputError` where there are none."""

    def called(self, index: int) -> str:
        """What an error calls it."""


@dataclass(frozen=True)
class Files:
    """Images in class folders, or flat with a list of labels. A million names take 30 MB, not Python's 100."""

    root: Path
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    """below the root"""
    in_folder: npt.NDArray[np.int32]
    """which of the folders each lies in (N,)"""
    names: npt.NDArray[np.bytes_]
    """of the files (N,)"""
    labels: Tensor
    blocks: None = None

    def _path(self, index: int) -> Path:
        return self.root / self.folders[int(self.in_folder[index])] / os.fsdecode(bytes(self.names[index]))

    def read(self, index: int) -> bytes:
        """The bytes of the file."""
        return self._path(index).read_bytes()

    def called(self, index: int) -> str:
        """Its path."""
        return str(self._path(index))


def files_in_classes(root: Path, *, classes: Sequence[str] | None = None, cache_dir: Path | None = None) -> Files:
    """The images of ``root/<class>/``, sorted by class and name; links to files count.

    Args:
        root: the folder of a split.
        classes: names of the classes in the order of the labels; None: the folders, sorted.
        cache_dir: where the names are kept.

    Raises:
        InputError: no class folders, a folder that is no class, a class without images.
    """
    folders = tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[:1] not in "._"))
    if not folders:
        raise InputError(f"{root}: expected a folder of images for each class, found none")
    known = tuple(classes) if classes is not None else folders
    if strange := [name for name in folders if name not in set(known)]:
        raise InputError(
            f"{root}: expected only classes of the training set, found {', '.join(strange[:4])}; remove or rename them"
        )
    # A folder's own time changes whenever a file comes, goes or is renamed in it.
    times = [os.stat(root / name).st_mtime_ns for name in folders]
    found = kept(cache_dir, "files", (_FORMAT, str(root.resolve()), folders, times), lambda: _listed(root, folders))
    in_folder, names = found["in_folder"].astype(np.int32), found["names"]
    counts = np.bincount(in_folder, minlength=len(folders))
    if not counts.all():
        raise InputError(f"{root}: no images in {folders[int(np.argmin(counts))]}/; add some or remove the folder")
    number = np.array([known.index(name) for name in folders], dtype=np.int64)
    return Files(root, known, folders, in_folder, names, torch.from_numpy(number[in_folder]))


def _listed(root: Path, folders: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    names: list[bytes] = []
    counts = []
    for folder in folders:
        own = sorted(
            os.fsencode(entry.name)
            for entry in os.scandir(root / folder)
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".")
        )
        names += own
        counts.append(len(own))
    return {
        "in_folder": np.repeat(np.arange(len(folders), dtype=np.int32), counts),
        "names": np.array(names) if names else np.empty(0, "S1"),
    }


def kept(
    cache_dir: Path | None, kind: str, stamp: object, make: Callable[[], dict[str, npt.NDArray[Any]]]
) -> dict[str, npt.NDArray[Any]]:
    """Arrays from the cache, or made and put there. Whatever goes wrong with the cache costs time alone.

    ``stamp``: what they are found anew for when it has changed; plain values.
    """
    key = hashlib.blake2b(repr(stamp).encode(), digest_size=12).hexdigest()
    path = (cache_dir or default_dir()) / "listings" / f"{kind}-{key}.npz"
    try:
        with path.open("rb") as handle, np.load(handle) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        found = make()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(temporary, **found)  # type: ignore[arg-type]
        temporary.replace(path)
    except OSError as why:
        _log.warning("working without a list of the files: cannot write in %s (%s)", path.parent, why)
        temporary.unlink(missing_ok=True)
    return found


def files_with_labels(root: Path, labels: Path, classes: Sequence[str]) -> Files:
    """The images that lie flat in a folder, with the class of each in a text file.

    A line of the file is a name and a class (``ILSVRC2012_val_00000001.JPEG n01751748``, or the class's number in
    the sorted order), separated by blanks or a comma; what follows is left aside, and so is a heading (Kaggle's
    ``LOC_val_solution.csv`` is read as it is).

    Raises:
        InputError: a line that names a missing file or an unknown class, images without a line.
    """
    here = {entry.name for entry in os.scandir(root) if entry.name.lower().endswith(SUFFIXES)}
    stems = {Path(name).stem: name for name in here}
    number = {name: i for i, name in enumerate(classes)}
    found: dict[str, int] = {}
    for position, words, line in _lines(labels):
        name = words[0] if words[0] in here else stems.get(words[0])
        if name is None:
            raise InputError(f"{labels} line {position} names {words[0]}, which is not in {root}")
        if len(words) < 2:
            raise InputError(f"{labels} line {position}: expected a file and its class, got '{line}'")
        label = number.get(words[1])
        if label is None and words[1].isdigit() and int(words[1]) < len(classes):
            label = int(words[1])
        if label is None:
            raise InputError(f"{labels} line {position}: there is no class '{words[1]}' among the {len(classes)}")
        if found.get(name, label) != label:
            raise InputError(f"{labels} line {position} gives {name} another class than a line before")
        found[name] = label
    if missing := sorted(here - found.keys()):
        raise InputError(f"{labels} has no line for {len(missing)} of the images in {root}, the first {missing[0]}")
    names = sorted(found)
    return Files(
        root, tuple(classes), (".",), np.zeros(len(names), np.int32), np.array([os.fsencode(name) for name in names]),
        torch.tensor([found[name] for name in names]),
    )  # fmt: skip


def _lines(labels: Path) -> Iterator[tuple[int, list[str], str]]:
    """The lines of a list of labels: number, words and text, without empty ones and a heading."""
    for position, line in enumerate(_text(labels).splitlines(), 1):
        words = line.replace(",", " ").split()
        if words and not (position == 1 and words[0].lower() in HEADINGS):
            yield position, words, line.strip()


def _text(labels: Path) -> str:
    try:
        return labels.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as why:
        reason = why.strerror if isinstance(why, OSError) else "it is no text"
        raise InputError(f"{labels}: expected a text file of names and classes, but {reason}") from None


def listed_classes(labels: Path) -> set[str]:
    """The classes that a list of labels names. Raises `InputError` for a file that is no text."""
    return {words[1] for _, words, _ in _lines(labels) if len(words) > 1}


def lists_images(labels: Path) -> bool:
    """Whether a text file says the class of each of many images, rather than a name for each of many classes."""
    first = _text(labels).replace(",", " ").split(maxsplit=1)[:1]
    word = first[0].lower() if first else ""
    return word in HEADINGS or word.endswith(SUFFIXES) or word.startswith("ilsvrc2012_val_")


@dataclass(frozen=True)
class Tars:
    """Images inside tar files, read where they lie."""

    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    in_file: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    labels: Tensor
    blocks: None = None
    _open: "OrderedDict[tuple[int, int], int]" = field(default_factory=OrderedDict, compare=False, repr=False)

    def read(self, index: int) -> bytes:
        """The bytes of the member."""
        number = int(self.in_file[index])
        key = (os.getpid(), number)  # a process that was forked must not share a handle's position
        if key not in self._open:
            self._open[key] = os.open(self.paths[number], os.O_RDONLY)
            while len(self._open) > OPEN:
                (pid, _), handle = self._open.popitem(last=False)
                if pid == os.getpid():
                    os.close(handle)
        self._open.move_to_end(key)
        data = os.pread(self._open[key], int(self.sizes[index]), int(self.offsets[index]))
        if len(data) < self.sizes[index]:
            raise OSError(f"{self.called(index)} is cut short")
        return data

    def called(self, index: int) -> str:
        """Its place."""
        return f"{self.paths[int(self.in_file[index])]} at byte {int(self.offsets[index])}"


def tar_files(paths: Sequence[Path], *, classes: Sequence[str] | None = None, cache_dir: Path | None = None) -> Tars:
    """The images of tar files in the layout of WebDataset: ``KEY.jpg`` beside ``KEY.cls``, the number of its class.

    Raises:
        InputError: a file that is cut short or no tar file, an image without a class, a class that is no number.
    """
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"expected the tar file {missing[0]}, but there is none")
    stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    found = kept(cache_dir, "tars", (_FORMAT, stamps), lambda: _members(paths))
    labels = torch.from_numpy(found["labels"].astype(np.int64))
    count = int(labels.max()) + 1
    if classes is not None and count > len(classes):
        raise InputError(f"{paths[0].parent}: expected classes 0 to {len(classes) - 1}, found {count - 1}")
    names = tuple(classes) if classes is not None else tuple(map(str, range(count)))
    return Tars(tuple(paths), names, found["in_file"].astype(np.int32), found["offsets"], found["sizes"], labels)


def _members(paths: Sequence[Path]) -> dict[str, npt.NDArray[Any]]:
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
                    if f".{kind.lower()}" in SUFFIXES:
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
            raise InputError(f"{path}: expected images ({', '.join(SUFFIXES[:3])}, ...), found none")
        rows += [(number, *images[key], classes[key]) for key in images]
    table = np.array(rows, dtype=np.int64)
    return {"in_file": table[:, 0], "offsets": table[:, 1], "sizes": table[:, 2], "labels": table[:, 3]}


@dataclass(frozen=True)
class Rows:
    """Images in Parquet files, read a row group at a time; the last few groups are kept."""

    paths: tuple[Path, ...]
    column: str
    classes: tuple[str, ...]
    groups: tuple[tuple[int, int, int], ...]
    """of each row group: which file, which group in it, how many rows"""
    labels: Tensor
    keep: int = 32
    _groups: "OrderedDict[tuple[int, int], Any]" = field(default_factory=OrderedDict, compare=False, repr=False)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Rows of each group."""
        return tuple(rows for _, _, rows in self.groups)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """The first row of each group, and the end."""
        return np.cumsum([0, *self.blocks])

    def _place(self, index: int) -> tuple[int, int]:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        return group, index - int(self._starts[group])

    def read(self, index: int) -> bytes:
        """The bytes of the cell."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        group, row = self._place(index)
        key = (os.getpid(), group)
        if key not in self._groups:
            file, number, _ = self.groups[group]
            try:
                with pq.ParquetFile(self.paths[file]) as opened:
                    cells = opened.read_row_group(number, columns=[self.column]).column(0).combine_chunks()
            except pa.ArrowException as why:
                raise OSError(f"{self.paths[file]} is damaged ({str(why).splitlines()[0][:80]})") from None
            if pa.types.is_struct(cells.type):
                cells = cells.field("bytes")
            self._groups[key] = cells
            while len(self._groups) > self.keep:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        data = self._groups[key][row].as_py()
        if data is None:
            raise OSError(f"{self.called(index)} is empty")
        return bytes(data)

    def called(self, index: int) -> str:
        """Its place."""
        group, row = self._place(index)
        file, number, _ = self.groups[group]
        return f"{self.paths[file]} row {row} of group {number}"
