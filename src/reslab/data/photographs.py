"""Training batches of photographs that are decoded as they are needed, by processes beside the training.

Which images a batch holds and what becomes of each is a function of (seed, epoch, index): the number of workers, of
ranks, and how often the run was interrupted change nothing. A resumed run begins at its own batch and reads nothing
of what came before.
"""

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader

from reslab.data.crops import Choose, Draws, Pixels, centre_crop, resized_crop, scale_crop
from reslab.data.decode import jpeg
from reslab.data.decode.part import decoded_crop
from reslab.data.draws import bits
from reslab.data.order import Positions, epoch_order
from reslab.data.spec import ResizedCrop, ScaleCrop
from reslab.data.stored import Stored
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.processes import ending_with_this

_ORDER, _INSTEAD = 17, 18
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
"""What bytes that are no whole image make a decoder raise."""
TRIES = 20
"""Images that are tried in the place of a damaged one before the data is given up."""
OVERLOADED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Faults of the machine rather than of an image."""


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
    wanted: Wanted
    damaged: dict[int, str]
    """images that could not be read or decoded, and why; others stand in their places, or nothing in an evaluation"""
    given_up: str = ""
    """why the batch could not be made: a text, since what a process beside raises comes back as a page"""

    def pin_memory(self) -> "Made":
        """Copies the batch to pinned memory, for transfers during training; called by the loader's thread."""
        wanted = replace(self.wanted, index=self.wanted.index.pin_memory(), epoch=self.wanted.epoch.pin_memory())
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory(), wanted=wanted)


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
        """Reads, decodes and crops the images of a batch. In an evaluation, none stands in for a damaged one."""
        draws = Draws(wanted.index, self.seed, wanted.epoch)
        pixels = np.empty((len(wanted.index), *(wanted.size or self.size), 3), np.uint8)
        labels = torch.empty(len(wanted.index), dtype=torch.int64)
        damaged: dict[int, str] = {}
        whole = [True] * len(pixels)
        for row, index in enumerate(wanted.index.tolist()):
            try:
                used = self._into(pixels[row], wanted, row, self._choose(draws, row), damaged)
            except _Unreadable as why:
                return Made(torch.empty(0), labels, wanted, damaged, str(why))
            if used is not None:
                labels[row] = self.stored.labels[used]
            elif self.augment is None:
                whole[row] = False
            else:
                some = "; ".join(list(damaged.values())[:2])
                given_up = (
                    f"{TRIES} images tried in place of {self.stored.called(index)} cannot be decoded either: {some}"
                )
                return Made(torch.empty(0), labels, wanted, damaged, given_up)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        if not all(whole):
            images, labels = images[torch.tensor(whole)], labels[torch.tensor(whole)]
        return Made(images, labels, wanted, damaged)

    def _choose(self, draws: Draws, row: int) -> Choose:
        match self.augment:
            case ScaleCrop():
                return scale_crop(self.augment, self.size, draws.of(row))
            case ResizedCrop():
                return resized_crop(self.augment, draws.of(row))
            case None:
                return centre_crop(self.resize, self.size)

    def _into(self, out: Pixels, wanted: Wanted, row: int, choose: Choose, damaged: dict[int, str]) -> int | None:
        """Writes the crop of an image, or of one that stands in for it; which it was, None if none can be decoded."""
        index, n = wanted.index[row : row + 1], len(self.stored.labels)
        for attempt in range(1 if self.augment is None else 1 + TRIES):
            at = int(index)
            if attempt:  # any other: damaged ones often lie together
                at = int(bits(index, self.seed, wanted.epoch[row : row + 1], _INSTEAD, attempt)) % n
            try:
                data = self.stored.read(at)
            except OSError as why:
                if why.errno in OVERLOADED:
                    raise _Unreadable(f"{self.stored.called(at)} cannot be read: {why.strerror}") from None
                damaged[at] = _why(self.stored.called(at), why)
                continue
            try:
                decoded_crop(data, choose, (out.shape[0], out.shape[1]), out, oriented=self.stored.oriented)
                return at
            except DAMAGED as why:
                damaged[at] = _why(self.stored.called(at), why)
        return None


class _Unreadable(Exception):
    """Not the image's fault."""


def _why(name: str, why: Exception) -> str:
    if isinstance(why, UnidentifiedImageError):
        return f"{name} (no image)"  # Pillow names the place in memory that it looked at
    return f"{name} ({(str(why).splitlines() or [type(why).__name__])[0][:100]})"


@dataclass
class Damage:
    """Images that were left out because they could not be decoded."""

    most: int
    found: dict[int, str] = field(default_factory=dict)

    def add(self, damaged: dict[int, str]) -> None:
        """Records damaged images. Raises `InputError` once there are more than allowed."""
        self.found.update(damaged)
        if len(self.found) > self.most:
            some = "; ".join(list(self.found.values())[:3])
            raise InputError(
                f"{len(self.found)} images cannot be decoded; at most {self.most} may be damaged (--damaged says which "
                f"share): {some}"
            )


@dataclass(frozen=True)
class _Wanting:
    """Which images each batch of a run holds.

    Apart from the batches themselves, so that a loader which has it holds no object that holds the loader: of such a
    circle the processes beside would be waited for, five seconds each, whenever it came to be found.
    """

    positions: Positions
    batch: int
    rank: int
    ranks: int
    side: Callable[[int], int] | None

    def __call__(self, iteration: int) -> Wanted:
        share = self.batch // self.ranks
        mine = slice(self.rank * share, (self.rank + 1) * share)
        index, epoch = self.positions(iteration)
        size = None if self.side is None else (self.side(iteration),) * 2
        return Wanted(index[mine], epoch[mine], size)


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
        self.n = n = len(stored.labels)
        self.maker = Maker(stored, augment, size, seed)
        self.workers, self.ahead, self.pinned = workers, ahead, pinned
        self.damage = Damage(most_damaged)
        self._running: Iterator[Made] | None = None
        self._next = -1
        positions = Positions(n, batch, lambda epoch: epoch_order(n, seed, epoch, _ORDER, stored.blocks))
        self.wanted = _Wanting(positions, batch, *share, side)
        """this rank's share of the batch of an iteration, counted from 0"""

    @property
    def ready(self) -> int:
        """Batches that lie ready at most, where they are made more quickly than they are taken."""
        return self.workers * self.ahead

    def __call__(self, iteration: int) -> Made:
        """The batch of an iteration. Batches are asked for one after the other; a jump begins anew from there."""
        if self._running is None or iteration != self._next:
            jpeg.prepare()
            loader: DataLoader[Made] = DataLoader(
                self.maker,  # type: ignore[arg-type]
                batch_size=None,
                sampler=_Endless(self.wanted, iteration),
                num_workers=self.workers,
                prefetch_factor=self.ahead if self.workers else None,
                pin_memory=self.pinned,
                worker_init_fn=ending_with_this(),
            )
            self._running = iter(loader)
        made = next(self._running)
        self._next = iteration + 1
        self.damage.add(made.damaged)
        if made.given_up:
            raise InputError(made.given_up)
        return made

    def close(self) -> None:
        """Ends the processes beside the training."""
        self._running = None


KEPT = 2**29
"""Bytes of decoded images that an evaluation keeps."""


class PhotographEval:
    """Photographs in their order, each once, the centre of each: for an evaluation. Damaged ones are left out."""

    def __init__(
        self, stored: Stored, normalizer: Normalizer, *, size: tuple[int, int], resize: int, batch: int,
        device: torch.device, part: tuple[int, int] = (0, 1), workers: int = 1, most_damaged: int = 0,
        keep: bool = False,
    ) -> None:  # fmt: skip
        """``keep``: what was decoded stays in memory for the next time, where it takes no more than `KEPT` bytes."""
        first, step = part  # of several processes each takes every so many-th image
        self.index = torch.arange(first, len(stored.labels), step)
        self.labels = stored.labels[self.index].to(device)
        self.maker = Maker(stored, None, size, resize=resize)
        self.normalizer = normalizer.to(device)
        self.batch, self.workers = batch, workers
        self.damage = Damage(most_damaged)
        self.keeps = keep and len(self.index) * 3 * size[0] * size[1] <= KEPT
        self._kept: list[Made] = []

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for made in self._kept or self._made():
            yield self.normalizer(made.images.to(self.labels.device)), made.labels.to(self.labels.device)

    def _made(self) -> Iterator[Made]:
        jpeg.prepare()
        kept = []
        parts = [Wanted(part, torch.zeros_like(part)) for part in self.index.split(self.batch)]
        loader: DataLoader[Made] = DataLoader(
            self.maker,  # type: ignore[arg-type]
            batch_size=None,
            sampler=parts,
            num_workers=self.workers,
            worker_init_fn=ending_with_this(),
        )
        for made in loader:
            self.damage.add(made.damaged)
            if made.given_up:
                raise InputError(made.given_up)
            if self.keeps:
                kept.append(made)
            yield made
        self._kept = kept


class _Endless:
    """An endless sampler that starts at an iteration, for a loader's workers."""

    def __init__(self, wanted: _Wanting, iteration: int) -> None:
        self.wanted, self.iteration = wanted, iteration

    def __iter__(self) -> Iterator[Wanted]:
        return map(self.wanted, count(self.iteration))
