"""Encoded images that are read one by one, in any order: files, members of tar files, rows of Parquet files.

None of them is decoded here; `reslab.data.layouts` says where they are found.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reslab.data.decode.whole import CHUNK, Encoded

OPEN = 64
"""Tar files that are open at a time: ImageNet is often cut into more than a process may open."""


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class Stored(Protocol):
    """The images of one split, wherever they lie."""

    @property
    def labels(self) -> Tensor:
        """int64 (N,)."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the labels."""

    @property
    def blocks(self) -> tuple[int, ...] | None:
        """How many images lie together, where reading one costs the reading of all; None where it does not."""

    @property
    def oriented(self) -> bool:
        """Whether the orientation that a camera notes beside the pixels (EXIF) is to be applied."""

    def read(self, index: int) -> bytes:
        """The bytes of an image. Raises OSError or `InputError` where there are none."""

    def called(self, index: int) -> str:
        """The name of an image in error messages."""

    def key(self, index: int) -> str:
        """What tells it from the others wherever the data set lies: its name below the folder and its length."""

    def times(self) -> npt.NDArray[np.int64]:
        """When the files were last written, in nanoseconds; 0 for one that is not there."""


@dataclass(frozen=True)
class Files:
    """Images in folders. A million names take 30 MB, not Python's 100."""

    root: Path
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    """below the root"""
    in_folder: npt.NDArray[np.int32]
    """which of the folders each lies in (N,)"""
    names: npt.NDArray[np.bytes_]
    """of the files, below their folder (N,)"""
    labels: Tensor
    blocks: None = None
    oriented: bool = True
    base: Path | None = None
    """what keys are below, if not the root"""

    def path(self, index: int) -> Path:
        """Where the file is."""
        return self.root / self.folders[int(self.in_folder[index])] / os.fsdecode(bytes(self.names[index]))

    def read(self, index: int) -> bytes:
        """The bytes of the file."""
        return self.path(index).read_bytes()

    def called(self, index: int) -> str:
        """Its path."""
        return str(self.path(index))

    def inside(self, index: int) -> str:
        """Its path below the root: what decides which images are held out."""
        return self.path(index).relative_to(self.root).as_posix()

    def key(self, index: int) -> str:
        """Its path below the base, and its length; of a file that cannot be read 0, and reading it will say why."""
        path = self.path(index)
        try:
            size = path.stat().st_size
        except OSError:
            size = 0
        return f"{path.relative_to(self.base or self.root).as_posix()} {size}"

    def times(self) -> npt.NDArray[np.int64]:
        """When each was last written."""
        return np.array([_time(self.path(i)) for i in range(len(self.labels))], np.int64)


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
    oriented: bool = False
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

    def key(self, index: int) -> str:
        """Its file, its place and its length."""
        return (
            f"{self.paths[int(self.in_file[index])].name} at byte {int(self.offsets[index])} {int(self.sizes[index])}"
        )

    def times(self) -> npt.NDArray[np.int64]:
        """When each tar file was last written."""
        return np.array([_time(path) for path in self.paths], np.int64)


@dataclass(frozen=True)
class Rows:
    """Images in Parquet files, read a row group at a time; the last few groups are kept."""

    paths: tuple[Path, ...]
    column: str
    classes: tuple[str, ...]
    groups: tuple[tuple[int, int, int], ...]
    """of each row group: which file, which group in it, how many rows"""
    labels: Tensor
    root: Path = Path()
    """what keys are below"""
    oriented: bool = True
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
        file = self.groups[self._place(index)[0]][0]
        return f"{self.paths[file]} row {index - self._first_of_file[file]}"

    def key(self, index: int) -> str:
        """Its file, the length of that, and its row."""
        group, _ = self._place(index)
        file = self.groups[group][0]
        path = self.paths[file]
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name
        return f"{name} {self._sizes[file]} row {index - self._first_of_file[file]}"

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(path.stat().st_size for path in self.paths)

    def times(self) -> npt.NDArray[np.int64]:
        """When each Parquet file was last written."""
        return np.array([_time(path) for path in self.paths], np.int64)

    @cached_property
    def _first_of_file(self) -> dict[int, int]:
        """The first row of each file."""
        first: dict[int, int] = {}
        for (file, _, _), start in zip(self.groups, self._starts.tolist(), strict=False):
            first.setdefault(file, start)
        return first


@dataclass(frozen=True)
class Some:
    """Some of the images, in their order."""

    whole: Stored
    index: npt.NDArray[np.int64]
    """ascending (n,)"""

    @property
    def labels(self) -> Tensor:
        """int64 (n,)."""
        return self.whole.labels[torch.from_numpy(self.index)]

    @property
    def classes(self) -> tuple[str, ...]:
        """Of all."""
        return self.whole.classes

    @property
    def oriented(self) -> bool:
        """As of all."""
        return self.whole.oriented

    @cached_property
    def blocks(self) -> tuple[int, ...] | None:
        """How many of each block there are."""
        if self.whole.blocks is None:
            return None
        ends = np.cumsum(self.whole.blocks)
        return tuple(n for n in np.bincount(np.searchsorted(ends, self.index, side="right")).tolist() if n)

    def read(self, index: int) -> bytes:
        """The bytes of an image."""
        return self.whole.read(int(self.index[index]))

    def called(self, index: int) -> str:
        """The name of an image in error messages."""
        return self.whole.called(int(self.index[index]))

    def key(self, index: int) -> str:
        """What tells it from the others."""
        return self.whole.key(int(self.index[index]))

    def times(self) -> npt.NDArray[np.int64]:
        """Of all."""
        return self.whole.times()


def encoded(images: Stored, index: int) -> Encoded:
    """An image for a decoder; one that cannot be read is without data, and its decoder says so by name."""
    whole, at = (images.whole, int(images.index[index])) if isinstance(images, Some) else (images, index)
    if isinstance(whole, Files):
        return Encoded(whole.called(at), whole.path(at), whole.oriented)
    try:
        return Encoded(whole.called(at), whole.read(at), whole.oriented)
    except OSError:
        return Encoded(whole.called(at), None)


def chunks_of(*parts: Stored, size: int = CHUNK) -> Iterator[Sequence[Encoded]]:
    """The images of these splits in their order, ``size`` at a time."""
    for part in parts:
        for start in range(0, len(part.labels), size):
            yield [encoded(part, i) for i in range(start, min(start + size, len(part.labels)))]
