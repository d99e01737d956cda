"""The images of one split before any is decoded: for an evaluation, which reads each once and in their order."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import torch
from torch import Tensor

from reslab.data.decode import CHUNK, MOST_BYTES, Chunks, Encoded, Fit
from reslab.errors import InputError


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
    """whether `reslab.data.sources.load` knows the layout too"""

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
        return replace(self, labels=labels, chunks=some, keys=tuple(compress(self.keys, chosen)))

    def fingerprint(self) -> str:
        """16 hex digits of BLAKE2b over the images in their order, and the class of each; crops and sizes leave it.

        The bytes of files are not read: other images of the same names and lengths are taken for the same.
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
    source: str, split: str, *, labels: Path | None = None, namings: Sequence[Sequence[str]] = ()
) -> Listing | None:
    """The images of a split of a folder; None for what is no folder.

    Understood are the layouts of `reslab.data.sources.load` and `reslab.data.large`, and images that lie flat beside a
    list of their classes, without any to train on.

    Args:
        source: its path.
        split: 'test', 'train' or 'all'.
        labels: the list of the classes of flat images, if it has another name or place than is usual.
        namings: names that the network's outputs are known by, for lists that number the classes.

    Raises:
        InputError: no such layout; what was found, and what would do.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        return None
    from reslab.data import large

    try:
        flat, stored = large.is_flat(path), large.is_stored(path)
    except OSError as why:
        raise InputError(f"{why.filename or path}: expected a readable folder, but {why.strerror or why}") from None
    if flat:
        return large.list_flat(path, split, labels, namings)
    if stored or labels is not None:
        return large.list_stored(path, split, labels)
    if any(path.rglob("*.parquet")):
        from reslab.data.parquet import list_parquet

        return list_parquet(path, split)
    from reslab.data.folder import list_folder

    if not (path / "train").is_dir() and (only := next((t for t in large.TESTS if (path / t).is_dir()), None)):
        raise InputError(
            f"{path}: found {only}/ and no train/ beside it; to evaluate on all of {only}/, give {path / only} with "
            "--split all"
        )
    return list_folder(path, split)
