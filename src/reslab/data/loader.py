"""Batches of a small data set that lives on the device as uint8."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from reslab.data.draws import permutation
from reslab.data.images import ImageSet
from reslab.data.order import Positions
from reslab.data.spec import Augment, DataInfo, DataSpec
from reslab.data.transforms import Normalizer, OnGpu, augment
from reslab.errors import InputError

_ORDER, _SPLIT = 11, 12


@lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return permutation(n, seed, epoch, _ORDER)


def split(train: ImageSet, holdout: int, seed: int) -> tuple[ImageSet, ImageSet | None]:
    """Sets ``holdout`` images aside for validation, the same share of each class as far as it divides."""
    if holdout == 0:
        return train, None
    if not 0 < holdout < len(train.labels):
        raise InputError(
            f"--holdout takes 1 to {len(train.labels) - 1} of the {len(train.labels)} training images, got {holdout}"
        )
    order = permutation(len(train.labels), seed, _SPLIT)
    labels = train.labels[order]
    # Each class is spread evenly over 0 ... 1, so that the first ones hold the same share of every class.
    rank = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = labels == label
        count = int(members.sum())
        rank[members] = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    chosen = torch.argsort(rank, stable=True)[:holdout]
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[order[chosen]] = True
    return (
        ImageSet(train.images[~held], train.labels[~held]),
        ImageSet(train.images[held], train.labels[held]),
    )


class Batches:
    """The training batches of a run: a pure function of the seed and the iteration."""

    def __init__(self, data: ImageSet, spec: DataSpec, normalizer: Normalizer, *, batch: int, seed: int,
                 device: torch.device) -> None:  # fmt: skip
        self.n = n = len(data.labels)
        # Pixels next to each other: a gather of images then reads and writes channels-last.
        self.images = data.images.to(device).contiguous(memory_format=torch.channels_last)
        self.labels = data.labels.to(device)
        self.normalizer = normalizer.to(device)
        self.spec, self.batch, self.seed, self.device = spec, batch, seed, device
        self.by_kernel: OnGpu | None = None
        if isinstance(spec.augment, Augment):
            self.by_kernel = OnGpu.usable(self.images, self.normalizer, spec.augment, seed)
        # On the device, so that no step has to bring its part there.
        # They do not hold this object, whose memory then goes as soon as it is let go of.
        self.positions = Positions(n, batch, lambda epoch: _order(n, seed, epoch).to(device))

    def __call__(self, iteration: int) -> tuple[Tensor, Tensor]:
        """Input (N, C, H, W), fp32 and channels-last, and labels (N,) of an iteration, counted from 0."""
        return self.at(*self.positions(iteration))

    def at(self, index: Tensor, epoch: Tensor) -> tuple[Tensor, Tensor]:
        """The same for given images (N,) and epochs (N,), as `positions` gives them."""
        shift = self.spec.augment
        assert isinstance(shift, Augment), "photographs have batches of their own"
        if self.by_kernel is not None:
            return self.by_kernel(index, epoch), self.labels[index]
        images = augment(
            # Whole images, which lie in one piece: a general index would go pixel by pixel.
            self.images.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2),
            index,
            normalizer=self.normalizer,
            spec=shift,
            seed=self.seed,
            epoch=epoch,
        )
        return images, self.labels[index]


class Eval:
    """Images in their order, unaugmented, for an evaluation."""

    def __init__(
        self,
        data: ImageSet,
        normalizer: Normalizer,
        *,
        batch: int,
        device: torch.device,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        first, step = part  # of several processes each takes every so many-th image
        self.images = data.images[first::step].to(device).contiguous(memory_format=torch.channels_last)
        self.labels = data.labels[first::step].to(device)
        self.normalizer = normalizer.to(device)
        self.batch = batch

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in zip(self.images.split(self.batch), self.labels.split(self.batch), strict=True):
            yield self.normalizer(images), labels


def check(info: DataInfo, spec: DataSpec) -> None:
    """Raises `InputError` unless the data at hand is what the recipe was written for."""
    if len(info.classes) > spec.num_classes:
        raise InputError(
            f"data '{info.name}' has {len(info.classes)} classes but the network only {spec.num_classes}; "
            f"set num_classes={len(info.classes)}"
        )
    if (info.channels, tuple(info.size)) != (spec.channels, tuple(spec.size)):
        raise InputError(
            f"the recipe expects {spec.channels}-channel images of {spec.size[0]}x{spec.size[1]} ({spec.name}), "
            f"but '{info.name}' has {info.channels}-channel images of {info.size[0]}x{info.size[1]}"
        )
