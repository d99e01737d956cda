"""Training batches of photographs that are decoded as they are needed, by processes beside the training.

Which images a batch holds and what becomes of each is a function of (seed, epoch, index): the number of workers, of
ranks, and how often the run was interrupted change nothing. A resumed run begins at its own batch and reads nothing
of what came before.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from reslab.data import jpeg
from reslab.data.crops import Choose, Draws, Pixels, centre_crop, decoded_crop, resized_crop, scale_crop
from reslab.data.order import Positions, epoch_order
from reslab.data.spec import ResizedCrop, ScaleCrop
from reslab.data.stored import Stored
from reslab.data.transforms import Normalizer
from reslab.errors import InputError

_ORDER = 17
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What bytes that are no whole image make a decoder raise."""
TRIES = 20
"""Images behind a damaged one that are tried in its place before the data is given up."""


@dataclass(frozen=True)
class Wanted:
    """A batch to be made: which images (N,), in which epoch of each, and of which size if not the usual."""

    index: Tensor
    epoch: Tensor
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Made:
    """A batch that was made."""

    images: Tensor
    """uint8 (N, 3, H, W), channels-last"""
    labels: Tensor
    """int64 (N,)"""
    damaged: dict[int, str]
    """images that could not be decoded, and why; the next whole one stands in the place of each"""
    given_up: str = ""
    """why the batch could not be made: a text, since what a process beside raises comes back as a page"""

    def pin_memory(self) -> "Made":
        """In memory that a GPU copies from while the training goes on; the loader's thread calls this."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


@dataclass(frozen=True)
class Maker:
    """Makes batches in whatever process it is called in."""

    stored: Stored
    augment: ScaleCrop | ResizedCrop | None
    """None: the centre of an image whose shorter side is resized to ``resize``"""
    size: tuple[int, int]
    """of a crop; batches of another size see the same parts of the images in fewer pixels"""
    seed: int = 0
    resize: int = 256

    def __getitem__(self, wanted: Wanted) -> Made:
        """Reads, decodes and crops the images of a batch."""
        draws = Draws(wanted.index, self.seed, wanted.epoch)
        pixels = np.empty((len(wanted.index), *(wanted.size or self.size), 3), np.uint8)
        labels = torch.empty(len(wanted.index), dtype=torch.int64)
        damaged: dict[int, str] = {}
        for row, index in enumerate(wanted.index.tolist()):
            used = self._into(pixels[row], index, self._choose(draws, row), damaged)
            if used is None:
                some = "; ".join(list(damaged.values())[:2])
                return Made(torch.empty(0), labels, damaged, f"{TRIES} images in a row cannot be decoded: {some}")
            labels[row] = self.stored.labels[used]
        return Made(torch.from_numpy(pixels).permute(0, 3, 1, 2), labels, damaged)

    def _choose(self, draws: Draws, row: int) -> Choose:
        match self.augment:
            case ScaleCrop():
                return scale_crop(self.augment, self.size, draws.of(row))
            case ResizedCrop():
                return resized_crop(self.augment, draws.of(row))
            case None:
                return centre_crop(self.resize, self.size)

    def _into(self, out: Pixels, index: int, choose: Choose, damaged: dict[int, str]) -> int | None:
        """Writes the crop of an image, or of the next one that is whole; which it was, None if none is."""
        for offset in range(TRIES):
            at = (index + offset) % len(self.stored.labels)
            try:
                data = self.stored.read(at)
            except FileNotFoundError as why:  # any other fault of reading is the machine's, and not passed over
                damaged[at] = _why(self.stored.called(at), why)
                continue
            try:
                decoded_crop(data, choose, (out.shape[0], out.shape[1]), out)
                return at
            except DAMAGED as why:
                damaged[at] = _why(self.stored.called(at), why)
        return None


def _why(name: str, why: Exception) -> str:
    return f"{name} ({(str(why).splitlines() or [type(why).__name__])[0][:100]})"


@dataclass
class Damage:
    """Images that were left out because they could not be decoded."""

    most: int
    found: dict[int, str] = field(default_factory=dict)

    def add(self, damaged: dict[int, str]) -> None:
        """Notes them. Raises `InputError` once there are more than can be borne."""
        self.found.update(damaged)
        if len(self.found) > self.most:
            some = "; ".join(list(self.found.values())[:3])
            raise InputError(
                f"{len(self.found)} images cannot be decoded, more than the {self.most} that are borne: {some}"
            )


class PhotographBatches:
    """The training batches of a run, decoded ahead of the training."""

    def __init__(
        self, stored: Stored, augment: ScaleCrop | ResizedCrop, *, size: tuple[int, int], batch: int, seed: int,
        share: tuple[int, int] = (0, 1), workers: int = 1, ahead: int = 2, most_damaged: int = 0,
        side: Callable[[int], int] | None = None, pinned: bool = False,
    ) -> None:  # fmt: skip
        """``side``: pixels of a square image's side at an iteration, if not those of ``size`` throughout.

        ``pinned``: for a GPU, which then copies them while it works.
        """
        self.n = len(stored.labels)
        self.stored, self.batch, self.seed = stored, batch, seed
        self.rank, self.ranks = share
        self.maker = Maker(stored, augment, size, seed)
        self.workers, self.ahead, self.side, self.pinned = workers, ahead, side, pinned
        self.damage = Damage(most_damaged)
        self._running: Iterator[Made] | None = None
        self._next = -1
        self.positions = Positions(
            self.n, batch, lambda epoch: epoch_order(self.n, seed, epoch, _ORDER, stored.blocks)
        )  # fmt: skip

    def wanted(self, iteration: int) -> Wanted:
        """This rank's share of the batch of an iteration, counted from 0."""
        count = self.batch // self.ranks
        mine = slice(self.rank * count, (self.rank + 1) * count)
        index, epoch = self.positions(iteration)
        size = None if self.side is None else (self.side(iteration),) * 2
        return Wanted(index[mine], epoch[mine], size)

    def _from(self, iteration: int) -> Iterator[Wanted]:
        while True:
            yield self.wanted(iteration)
            iteration += 1

    def __call__(self, iteration: int) -> Made:
        """The batch of an iteration. Batches are asked for one after the other; a jump begins anew from there."""
        if self._running is None or iteration != self._next:
            jpeg.prepare()
            loader: DataLoader[Made] = DataLoader(
                self.maker,  # type: ignore[arg-type]
                batch_size=None,
                sampler=_Endless(self, iteration),
                num_workers=self.workers,
                prefetch_factor=self.ahead if self.workers else None,
                pin_memory=self.pinned,
            )
            self._running = iter(loader)
        made = next(self._running)
        self._next = iteration + 1
        self.damage.add(made.damaged)
        if made.given_up:
            raise InputError(f"{made.given_up}; mend or replace them")
        return made


class PhotographEval:
    """Photographs in their order, each once, the centre of each: for an evaluation. Damaged ones are left out."""

    def __init__(
        self, stored: Stored, normalizer: Normalizer, *, size: tuple[int, int], resize: int, batch: int,
        device: torch.device, part: tuple[int, int] = (0, 1), workers: int = 1,
    ) -> None:  # fmt: skip
        first, step = part  # of several processes each takes every so many-th image
        self.index = torch.arange(first, len(stored.labels), step)
        self.labels = stored.labels[self.index].to(device)
        self.maker = Maker(stored, None, size, resize=resize)
        self.normalizer = normalizer.to(device)
        self.batch, self.workers = batch, workers
        self.damaged: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        jpeg.prepare()
        parts = [Wanted(part, torch.zeros_like(part)) for part in self.index.split(self.batch)]
        loader: DataLoader[Made] = DataLoader(
            self.maker,  # type: ignore[arg-type]
            batch_size=None,
            sampler=parts,
            num_workers=self.workers,
        )
        for wanted, made in zip(parts, loader, strict=True):
            self.damaged.update(made.damaged)
            if made.given_up:
                raise InputError(f"{made.given_up}; mend or replace them")
            whole = torch.tensor([int(index) not in made.damaged for index in wanted.index])
            labels = made.labels[whole].to(self.labels.device)
            yield self.normalizer(made.images[whole].to(self.labels.device)), labels


class _Endless:
    """The batches from an iteration on, for a loader's workers."""

    def __init__(self, batches: PhotographBatches, iteration: int) -> None:
        self.batches, self.iteration = batches, iteration

    def __iter__(self) -> Iterator[Wanted]:
        return self.batches._from(self.iteration)
