"""The order of an epoch's images: a pure function of seed, epoch and storage."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from reslab.data.draws import bits, permutation

_BLOCKS, _WITHIN = 13, 14
WINDOW = 16
"""Blocks that are mixed with each other, where images are stored in blocks."""


def epoch_order(n: int, seed: int, epoch: int, key: int, blocks: Sequence[int] | None = None) -> Tensor:
    """A permutation of 0 ... n-1 (int64).

    Args:
        n: number of images.
        seed: of the run.
        epoch: counted from 0.
        key: which random number it is.
        blocks: how many images lie together, block after block, where reading one of them costs the reading of all
            (the row groups of Parquet files). Blocks come in random order, and the images of `WINDOW` blocks at a
            time are mixed: one reader that keeps so many reads each block once. None: any order costs the same.
    """
    if blocks is None:
        return permutation(n, seed, epoch, key)
    lengths = torch.tensor(list(blocks), dtype=torch.int64)
    assert int(lengths.sum()) == n
    order = permutation(len(lengths), seed, epoch, key, _BLOCKS)
    window = torch.empty(len(lengths), dtype=torch.int64)
    window[order] = torch.arange(len(lengths)) // WINDOW  # of each block
    of_image = torch.repeat_interleave(window, lengths)
    index = torch.arange(n)
    mixed = torch.argsort(bits(index, seed, epoch, key, _WITHIN), stable=True)
    return mixed[torch.argsort(of_image[mixed], stable=True)]


AHEAD = 100_000
"""From so many images on, the order of the next epoch is made beside the training: a million take a third of a second,
as long as some clusters take for a third of the epoch."""


class Positions:
    """Which images each batch holds, and in which epoch: one epoch follows the other, and every batch is full."""

    def __init__(self, n: int, batch: int, order: Callable[[int], Tensor]) -> None:
        self.n, self.batch, self._make = n, batch, order
        self._orders: dict[int, Tensor] = {}
        self._beside = ThreadPoolExecutor(1) if n >= AHEAD else None
        self._coming: dict[int, Future[Tensor]] = {}

    def __call__(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Images (N,) of the batch of an iteration, counted from 0, and the epoch of each (N,)."""
        start = iteration * self.batch
        index, epochs = [], []
        while start < (iteration + 1) * self.batch:
            epoch, offset = divmod(start, self.n)
            part = self._order(epoch)[offset : offset + (iteration + 1) * self.batch - start]
            index.append(part)
            epochs.append(torch.full_like(part, epoch))
            start += len(part)
        return torch.cat(index), torch.cat(epochs)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            coming = self._coming.pop(epoch, None)
            self._orders[epoch] = self._make(epoch) if coming is None else coming.result()
            if self._beside is not None:
                self._coming = {epoch + 1: self._beside.submit(self._make, epoch + 1)}
        return self._orders[epoch]
