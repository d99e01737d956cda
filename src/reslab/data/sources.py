"""Loads a data set by a known name or a path.

Small images are decoded at once and live in memory, later on the device (`load`). Photographs stay where they are and
are decoded as they are needed (`load_photographs`). Which of the two a training takes follows from its recipe: images
that are shifted have one fixed size and fit into memory; those that are cropped do not.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reslab.data.cache import cached
from reslab.data.decode.whole import Encoded, Fit, check_memory, decode, fitted, survey
from reslab.data.embedded import digits, synthetic
from reslab.data.find import find
from reslab.data.images import Dataset, Decoded, ImageSet, dataset, decoded
from reslab.data.layouts.found import TESTS, Asked, Found
from reslab.data.names import KNOWN, existing
from reslab.data.parts import Parts, parts
from reslab.data.spec import Augment, DataInfo, ScaleCrop
from reslab.data.stored import Files, Rows, Some, Stored, Tars, chunks_of
from reslab.errors import InputError

__all__ = [
    "AnyDataset",
    "Dataset",
    "ImageSet",
    "Photographs",
    "fingerprint_of",
    "load",
    "load_found",
    "load_photographs",
    "of_one_size",
]
_log = logging.getLogger("reslab")
CIFAR_AUGMENT = Augment(pad=4, flip=True)

Photographs = Dataset[Stored]
"""A data set on disk."""
AnyDataset = Dataset[ImageSet] | Dataset[Stored]


def load(
    source: str, *, cache_dir: Path | None = None, size: int | Fit | None = None, whole: bool = False,
    oriented: bool | None = None,
) -> Dataset[ImageSet]:  # fmt: skip
    """Load a data set by a name in ``KNOWN`` or by the path of a folder, into memory.

    Args:
        source: the name or path. A folder whose name is a known name is meant by ``./name``.
        cache_dir: where decoded images are kept (default: ``$RESLAB_CACHE``, else the platform's cache folder).
        size: pixels, or a `Fit`: resizes the shorter side of a folder's images and crops the centre. Without it images
            of one size keep it, and class folders of many sizes come to 32 pixels. Known names take a `Fit` alone.
        whole: nothing is held out: both sets are all images.
        oriented: whether a camera's orientation is applied; by default as is usual for the layout.

    Raises:
        InputError: an unknown name, or a path that is missing, empty, damaged, or has fewer than two classes.
    """
    fit = Fit((size, size)) if isinstance(size, int) else size
    if source in KNOWN:
        if isinstance(size, int):
            raise InputError(f"'{source}' has images of one fixed size; leave out the size, which is for folders")
        known = _load_known(source, cache_dir)
        known = _both(known) if whole else known
        return known if fit is None else _refitted(known, fit)
    found = find(existing(source), Asked(oriented=oriented, cache_dir=cache_dir))
    return load_found(found, cache_dir=cache_dir, fit=fit, whole=whole)


def of_one_size(source: str) -> bool:
    """Whether all images of a data set have the same size, as stored; reads their headers only."""
    if source in KNOWN:
        return True
    split = parts(find(existing(source), Asked()), whole=True)
    return len(survey(lambda: chunks_of(*split.test)).sizes) == 1


def load_found(
    found: Found,
    *,
    cache_dir: Path | None = None,
    fit: Fit | None = None,
    whole: bool = False,
    called: str | None = None,
) -> Dataset[ImageSet]:
    """The images of a folder, decoded; by content from the cache if they were before. Arguments and errors: `load`."""
    split = parts(found, whole=whole, called=called)
    name = found.root.resolve().name
    if len(split.classes) < 2:
        raise InputError(
            f"{found.root}: expected at least two classes to tell apart, found one, '{split.classes[0]}'; "
            "add a folder with images of another class"
        )
    oriented = split.test[0].oriented

    def build() -> Decoded:
        return _decoded(found, split, fit)

    if found.files is None:
        made = build()
    else:
        options = f"{fit} {'whole' if whole else ''} {'oriented' if oriented else 'as stored'} {found.usual_size}"
        made = cached(name, found.files(), build, options=options, cache_dir=cache_dir)
    known = _known_name(found, made)
    data = dataset(made, name=known or name, source=split.source, augment=CIFAR_AUGMENT if known else None)
    _say(found)
    return replace(data, info=data.info.model_copy(update={"oriented": oriented, "unused": found.unused.said()}))


def _say(found: Found) -> None:
    """Prints which files are not used, before training or evaluation."""
    if found.unused:
        _log.warning("%s: %s", found.root, found.unused.said())


def _decoded(found: Found, split: Parts, fit: Fit | None) -> Decoded:
    where = str(found.root)
    sets = split.test if split.whole else (*split.train, *split.test)
    count = sum(len(each.labels) for each in sets)
    if fit is not None:
        check_memory(count, 3, fit.crop, where=where)

    def chunks() -> Iterator[Sequence[Encoded]]:
        return chunks_of(*sets)

    headers = survey(chunks)
    if fit is None and len(headers.sizes) > 1 and found.usual_size is None:
        (one, first), (other, second) = list(headers.sizes.items())[:2]
        raise InputError(
            f"{where}: expected images of one size, found {one[1]}x{one[0]} ({Path(first).name}) and "
            f"{other[1]}x{other[0]} ({Path(second).name}); give a size to resize them to"
        )
    if fit is None:
        usual = (found.usual_size or 1,) * 2
        fit = Fit(next(iter(headers.sizes)) if len(headers.sizes) == 1 else (usual[0], usual[1]))
    channels = 1 if headers.grey and found.grey else 3
    check_memory(count, channels, fit.crop, where=where)
    images = decode(chunks, count, channels=channels, fit=fit, what=f"decoding {found.root.name}")
    labels = torch.cat([each.labels for each in sets])
    if split.whole:
        everything = ImageSet(images, labels)
        return decoded(everything, everything, split.classes, where=where)
    n = sum(len(each.labels) for each in split.train)
    return decoded(ImageSet(images[:n], labels[:n]), ImageSet(images[n:], labels[n:]), split.classes, where=where)


def _known_name(found: Found, made: Decoded) -> str | None:
    if not isinstance(found.train, Rows):
        return None
    from reslab.data.layouts.parquet import known_name

    return known_name(found.root, made.classes, tuple(made.train.images.shape[1:]))


def load_photographs(
    root: Path, size: tuple[int, int], *, labels: Path | None = None, cache_dir: Path | None = None,
    oriented: bool | None = None, tests: Sequence[str] = TESTS,
) -> Photographs:  # fmt: skip
    """The images of a folder, which stay where they are; none of them is read.

    Args:
        root: the folder, in a layout of `reslab.data.layouts`.
        size: height and width of the crops that a network will see.
        labels: the list of labels of flat validation images, if it has another name or place.
        cache_dir: where the names of many files are kept.
        oriented: whether a camera's orientation is applied; by default as is usual for the layout.
        tests: names of the split that is tested on, the first that is there with its classes.

    Raises:
        InputError: no such layout, a test class that training does not have, a damaged shard.
    """
    if not root.is_dir() and not root.is_file():
        raise InputError(f"expected a folder of images at {root}, found nothing there")
    found = find(root, Asked(labels=labels, tests=tests, oriented=oriented, cache_dir=cache_dir))
    split = parts(found)
    (train,), (test,) = split.train, split.test
    info = DataInfo(
        name=root.resolve().name,
        source=split.source,
        fingerprint=fingerprint_of(train, test),
        classes=train.classes,
        channels=3,
        size=size,
        n_train=len(train.labels),
        n_test=len(test.labels),
        augment=ScaleCrop(),
        oriented=train.oriented,
        unused=found.unused.said(),
    )
    _say(found)
    return Dataset(info, train, test)


def fingerprint_of(*splits: Stored) -> str:
    """16 hex digits over labels, names (of files) or lengths (in shards), and how images lie together.

    Their bytes are not read: other images of the same names, or lengths, are taken for the same.
    """
    digest = hashlib.blake2b(digest_size=8)
    for split in splits:
        digest.update(repr(split.classes).encode())
        digest.update(np.ascontiguousarray(split.labels.numpy()).data)
        _feed(digest, split)
    return digest.hexdigest()


def _feed(digest: "hashlib.blake2b", split: Stored) -> None:
    match split:
        case Some():
            digest.update(np.ascontiguousarray(split.index).data)
            _feed(digest, split.whole)
        case Files():
            digest.update(np.ascontiguousarray(split.names).data)
        case Tars():
            digest.update(np.ascontiguousarray(split.sizes).data)
        case Rows():
            digest.update(repr(split.blocks).encode())
            digest.update(repr([path.stat().st_size for path in split.paths]).encode())
        case _:
            raise AssertionError(f"{type(split).__name__} has no fingerprint")


def _both(data: Dataset[ImageSet]) -> Dataset[ImageSet]:
    images = torch.cat((data.train.images, data.test.images))
    everything = ImageSet(images, torch.cat((data.train.labels, data.test.labels)))
    info = data.info.model_copy(update={"n_train": len(images), "n_test": len(images)})
    return Dataset(info, everything, everything)


def _refitted(data: Dataset[ImageSet], fit: Fit) -> Dataset[ImageSet]:
    sets = {id(split): len(split) for split in (data.train, data.test)}
    check_memory(sum(sets.values()), data.info.channels, fit.crop, where=data.info.name)
    test = ImageSet(fitted(data.test.images, fit), data.test.labels)
    train = test
    if data.train is not data.test:
        train = ImageSet(fitted(data.train.images, fit), data.train.labels)
    found = decoded(train, test, data.info.classes, where=data.info.name)
    return dataset(found, name=data.info.name, source=data.info.source)


def _load_known(name: str, cache_dir: Path | None) -> Dataset[ImageSet]:
    if name == "digits":
        return digits()
    if name == "synthetic":
        return synthetic()
    from reslab.data.download import CIFAR, load_remote

    where = load_remote(CIFAR[name], cache_dir=cache_dir)
    if isinstance(where, Dataset):
        return where
    return load_found(find(where.folder), cache_dir=cache_dir, called=where.called)
