"""Evaluation of more images than fit into memory: decoded as they are needed, and forgotten."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import torch
from torch import Tensor

from reslab.data.decode import MOST_BYTES, Chunks, Encoded, Fit, decoded_chunks
from reslab.data.transforms import Normalizer


@dataclass(frozen=True)
class Listing:
    """The images of one split of a folder, before any is decoded."""

    name: str
    source: str
    """where they come from, for people"""
    classes: tuple[str, ...]
    labels: Tensor
    """int64 (N,)"""
    chunks: Chunks
    channels: int = 3

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

        return replace(self, labels=self.labels[torch.tensor(chosen, dtype=torch.bool)], chunks=some)


def listing(source: str, split: str) -> Listing | None:
    """The images of a split ('test', 'train', 'all') of a folder or of Parquet files; None for other sources.

    Raises `InputError` as `reslab.data.sources.load` does.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        return None
    if any(path.rglob("*.parquet")):
        from reslab.data.parquet import list_parquet

        return list_parquet(path, split)
    from reslab.data.folder import list_folder

    return list_folder(path, split)


class Streamed:
    """Images in their order, unaugmented, decoded by threads while the network works on the ones before."""

    def __init__(
        self, images: Listing, labels: Tensor, fit: Fit, normalizer: Normalizer, *, batch: int, device: torch.device
    ) -> None:
        self.images, self.fit, self.batch = images, fit, batch
        self.labels = labels.to(device)
        self.normalizer = normalizer.to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        start = 0
        for part in decoded_chunks(self.images.chunks, len(self), self.images.channels, self.fit, self.images.name):
            for pixels in torch.from_numpy(part).split(self.batch):
                x = pixels.to(self.labels.device).contiguous(memory_format=torch.channels_last)
                yield self.normalizer(x), self.labels[start : start + len(pixels)]
                start += len(pixels)
        assert start == len(self), f"{start} images decoded of {len(self)}"
