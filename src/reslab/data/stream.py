"""The images of one split before any is decoded: for an evaluation, which reads each once and in their order."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reslab.data.decode.whole import CHUNK, MOST_BYTES, Chunks, Encoded, Fit
from reslab.data.find import find
from reslab.data.layouts.found import TESTS, Asked
from reslab.data.parts import parts
from reslab.data.stored import Stored, chunks_of
from reslab.errors import InputError

_log = logging.getLogger("reslab")


@dataclass(frozen=True)
class Listing:
    """The images of one split, wherever they lie."""

    name: str
    source: str
    """where they come from, for people"""
    classes: tuple[str, ...]
    labels: Tensor
    """int64 (N,)"""
    chunks: Chunks
    keys: tuple[str, ...]
    """of each image what tells it apart: its name below the folder and its length in bytes, or its row; or one for all,
    of their content"""
    channels: int = 3
    loadable: bool = True
    """whether small ones may be decoded into memory at once"""
    called: Callable[[int], str] | None = None
    """the name of an image by its number: its path below the folder, or its place in a file; None: it has none"""
    stamp: str = ""
    """of the times at which files were last written; empty where the keys are of the content"""

    def too_large(self, fit: Fit) -> bool:
        """Whether the decoded images would not fit into memory."""
        return len(self.labels) * self.channels * fit.crop[0] * fit.crop[1] > MOST_BYTES

    def only(self, chosen: Sequence[bool]) -> "Listing":
        """Some of the images."""
        chunks = self.chunks

        def some() -> Iterator[Sequence[Encoded]]:
            start = 0
            for chunk in chunks():
                yield list(compress(chunk, chosen[start : start + len(chunk)]))
                start += len(chunk)

        labels = self.labels[torch.tensor(chosen, dtype=torch.bool)]
        called, numbers = self.called, np.flatnonzero(np.asarray(chosen, bool)).tolist()
        named = None if called is None else lambda index: called(numbers[index])
        return replace(self, labels=labels, chunks=some, keys=tuple(compress(self.keys, chosen)), called=named)

    def fingerprint(self) -> str:
        """16 hex digits of BLAKE2b over the images in their order, and the class of each; crops and sizes leave it.

        The bytes of files are not read: other images of the same names and lengths are taken for the same, wherever
        they lie. `stamp` tells them apart on one machine.
        """
        digest = hashlib.blake2b(digest_size=8)
        digest.update("\n".join(self.keys).encode("utf-8", "surrogateescape"))
        digest.update(("\n" + "\n".join(self.classes)).encode("utf-8", "surrogateescape"))
        digest.update(self.labels.contiguous().numpy().data.cast("B"))
        return digest.hexdigest()


def in_memory(
    images: Tensor, labels: Tensor, *, name: str, source: str, classes: tuple[str, ...], content: str
) -> Listing:
    """Images uint8 (N, C, H, W) of 1 or 3 channels as a listing; ``content`` is a hash of them."""
    channels = images.shape[1]

    def pixels(image: Tensor) -> Tensor:
        return image[0] if channels == 1 else image.permute(1, 2, 0).contiguous()

    def chunks() -> Iterator[Sequence[Encoded]]:
        for start in range(0, len(images), CHUNK):
            some = images[start : start + CHUNK]
            yield [Encoded(f"{name} image {i}", pixels(image).numpy()) for i, image in enumerate(some, start)]

    return Listing(name, source, classes, labels, chunks, (content,), channels)


def listing(
    source: str, split: str, *, labels: Path | None = None, namings: Sequence[Sequence[str]] = (),
    oriented: bool | None = None,
) -> Listing | None:  # fmt: skip
    """The images of a split of a folder, in any layout of `reslab.data.layouts`; None for what is no folder.

    Args:
        source: its path.
        split: 'test', 'train' or 'all'.
        labels: the list of the classes of flat images, if it has another name or place than is usual.
        namings: names that the network's outputs are known by, for lists that number the classes.
        oriented: whether a camera's orientation is applied; None: as is usual for the layout.

    Raises:
        InputError: no such layout; what was found, and what would do.
    """
    root = Path(source).expanduser()
    if not root.is_dir():
        return None
    only = next((name for name in TESTS if (root / name).is_dir()), None)
    if only and not (root / "train").is_dir() and not any(root.rglob("*.parquet")):
        raise InputError(
            f"{root}: found {only}/ and no train/ beside it; to evaluate on all of {only}/, give {root / only} with "
            "--split all"
        )
    found = find(root, Asked(labels=labels, namings=namings, oriented=oriented))
    if found.train is None:
        if split == "train":
            parts(found)  # says that there are none
        chosen = parts(found, whole=True)
        source = f"{root} ({found.said})"
    else:
        chosen = parts(found, whole=split == "all")
        source = chosen.source
    sets = chosen.train if split == "train" else chosen.test
    if found.unused:
        _log.warning("%s: %s", root, found.unused.said())
    keys = tuple(part.key(i) for part in sets for i in range(len(part.labels)))
    every = torch.cat([part.labels for part in sets])
    return Listing(
        root.resolve().name, source, chosen.classes, every, lambda: chunks_of(*sets), keys,
        loadable=found.files is not None, called=partial(_called, root, sets), stamp=_stamp(sets),
    )  # fmt: skip


def _called(root: Path, sets: Sequence[Stored], index: int) -> str:
    for part in sets:
        if index < len(part.labels):
            return part.called(index).removeprefix(f"{root}{os.sep}")
        index -= len(part.labels)
    raise IndexError(index)


def _stamp(sets: Sequence[Stored]) -> str:
    """16 hex digits over the times at which the files were last written: of an image edited in place it changes."""
    digest = hashlib.blake2b(digest_size=8)
    for part in sets:
        digest.update(np.ascontiguousarray(part.times()).data)
    return digest.hexdigest()
