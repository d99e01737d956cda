"""Images and labels in memory, as every source yields them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from typing_extensions import TypeVar

from reslab.data.spec import Augment, DataInfo
from reslab.errors import InputError


@dataclass(frozen=True)
class ImageSet:
    """One split, in memory. Neither tensor is ever written to: they may be views of a cache file."""

    images: torch.Tensor
    """uint8 (N, C, H, W)"""
    labels: torch.Tensor
    """int64 (N,), each in 0 .. classes - 1"""

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """Without the pixels."""
        return f"ImageSet({len(self):,} images of {'x'.join(map(str, self.images.shape[1:]))})"


@dataclass(frozen=True)
class Decoded:
    """Both splits and the names of the classes: what a source holds, wherever it lies."""

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    fingerprint: str


Images = TypeVar("Images", default=ImageSet)


@dataclass(frozen=True)
class Dataset(Generic[Images]):
    """A data set ready to train on: in memory, or where its images lie (`reslab.data.stored.Stored`)."""

    info: DataInfo
    train: Images
    test: Images
    validation: Images | None = None
    """training images that were set aside already; None: whoever trains may set some aside"""

    def __repr__(self) -> str:
        """Its size, in a line."""
        return self.info.outline()


def decoded(train: ImageSet, test: ImageSet, classes: Sequence[str], *, where: str) -> Decoded:
    """Check the two splits against the classes, and fingerprint them.

    Raises InputError if a split is empty, a label is not one of the classes, or the training images are all
    of one class. ``where`` is what an error calls the source.
    """
    for split, images in (("training", train), ("test", test)):
        if not len(images):
            raise InputError(f"{where}: the {split} split holds no images; at least one is needed")
        low, high = int(images.labels.min()), int(images.labels.max())
        if low < 0 or high >= len(classes):
            raise InputError(
                f"{where}: expected {split} labels from 0 to {len(classes) - 1} ({len(classes)} classes), "
                f"found {low if low < 0 else high}; correct the label or the list of classes"
            )
    present = torch.unique(train.labels).tolist()
    if len(present) < 2:
        raise InputError(
            f"{where}: expected at least two classes to tell apart, found one, '{classes[present[0]]}'; "
            f"add images of another class"
        )
    return Decoded(train, test, tuple(classes), fingerprint(train, test))


def fingerprint(train: ImageSet, test: ImageSet) -> str:
    """16 hex digits of BLAKE2b over shapes, images and labels of both splits."""
    digest = hashlib.blake2b(digest_size=8)
    for split in (train, test):
        for tensor in (split.images, split.labels):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.contiguous().numpy().data.cast("B"))
    return digest.hexdigest()


def held_out(keys: Sequence[str], labels: Sequence[int], per_class: Mapping[int, int]) -> list[bool]:
    """Mark ``per_class[label]`` items of each class for the test set: a fixed choice, the same everywhere.

    Items are ranked by a hash of their key and not by a library's shuffle, whose order may change between
    versions; and adding an item leaves the ranks of the others as they were.
    """
    ranked: dict[int, list[tuple[bytes, int]]] = {}
    for index, (key, label) in enumerate(zip(keys, labels, strict=True)):
        rank = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        ranked.setdefault(label, []).append((rank, index))
    chosen = [False] * len(keys)
    for label, items in ranked.items():
        for _, index in sorted(items)[: per_class.get(label, 0)]:
            chosen[index] = True
    return chosen


def a_fifth(counts: Mapping[int, int]) -> dict[int, int]:
    """How many of each class to hold out: a fifth, at least one, but never the only one."""
    return {label: min(max(1, round(n / 5)), n - 1) for label, n in counts.items()}


def suited_augment(channels: int, size: tuple[int, int]) -> Augment:
    """The augmentation of He 2015 (section 4.2: 4 pixels at 32, and mirroring) in proportion to the size.

    Grey images are not mirrored, since they are mostly of characters or scans, whose handedness matters.
    """
    return Augment(pad=min(size) // 8, flip=channels == 3)


def dataset(found: Decoded, *, name: str, source: str, augment: Augment | None = None) -> Dataset:
    """Attach what people call the data, and the augmentation (None: the one that suits the images)."""
    _, channels, height, width = found.train.images.shape
    info = DataInfo(
        name=name,
        source=source,
        fingerprint=found.fingerprint,
        classes=found.classes,
        channels=channels,
        size=(height, width),
        n_train=len(found.train),
        n_test=len(found.test),
        augment=augment if augment is not None else suited_augment(channels, (height, width)),
    )
    return Dataset(info, found.train, found.test)
