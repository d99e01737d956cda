"""Where images come from: a known name or a path, to two splits of uint8 images in memory."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from reslab.data.decode import Fit, check_memory, fitted
from reslab.data.images import Dataset, ImageSet, dataset, decoded, held_out
from reslab.data.names import KNOWN, existing
from reslab.data.spec import Augment
from reslab.errors import InputError

__all__ = ["Dataset", "ImageSet", "load"]

DIGITS_TEST = 360
SYNTHETIC = (2048, 512)  # images to train on and to test on


def load(source: str, *, cache_dir: Path | None = None, size: int | Fit | None = None, whole: bool = False) -> Dataset:
    """Load a data set by a name in ``KNOWN`` or by the path of a folder.

    A folder that holds Parquet files is read in the layout of the Hugging Face hub, any other as a folder of
    images with one folder for each class. ``size`` (pixels, or a `Fit`) resizes the shorter side of a folder's
    images and crops the centre; known names take a `Fit` alone. With ``whole`` nothing is held out: both sets are
    all images. Decoded images are cached in ``cache_dir`` (default: ``$RESLAB_CACHE``, else the platform's cache
    folder). A folder whose name is a known name is meant by ``./name``.

    Raises InputError for an unknown name, or a path that is missing, empty, damaged, or has fewer than two
    classes.
    """
    fit = Fit((size, size)) if isinstance(size, int) else size
    if source in KNOWN:
        if isinstance(size, int):
            raise InputError(f"'{source}' has images of one fixed size; leave out the size, which is for folders")
        known = _load_known(source, cache_dir)
        known = _both(known) if whole else known
        return known if fit is None else _refitted(known, fit)
    path = existing(source)
    try:
        parquet = any(path.rglob("*.parquet"))
        empty = not any(path.iterdir())
    except OSError as why:
        raise InputError(f"{path}: expected a readable folder, but {why.strerror or why}; mend its rights") from why
    if empty:
        raise InputError(f"{path}: expected Parquet files or a folder of images for each class, found an empty folder")
    if parquet:
        from reslab.data.parquet import load_parquet  # pyarrow takes a while to import

        return load_parquet(path, cache_dir=cache_dir, fit=fit, whole=whole)
    from reslab.data.folder import load_folder

    return load_folder(path, cache_dir=cache_dir, fit=fit, whole=whole)


def _both(data: Dataset) -> Dataset:
    images = torch.cat((data.train.images, data.test.images))
    everything = ImageSet(images, torch.cat((data.train.labels, data.test.labels)))
    info = data.info.model_copy(update={"n_train": len(images), "n_test": len(images)})
    return Dataset(info, everything, everything)


def _refitted(data: Dataset, fit: Fit) -> Dataset:
    sets = {id(split): len(split) for split in (data.train, data.test)}
    check_memory(sum(sets.values()), data.info.channels, fit.crop, where=data.info.name)
    test = ImageSet(fitted(data.test.images, fit), data.test.labels)
    train = test
    if data.train is not data.test:
        train = ImageSet(fitted(data.train.images, fit), data.train.labels)
    found = decoded(train, test, data.info.classes, where=data.info.name)
    return dataset(found, name=data.info.name, source=data.info.source)


def _load_known(name: str, cache_dir: Path | None) -> Dataset:
    if name == "digits":
        return _digits()
    if name == "synthetic":
        return _synthetic()
    from reslab.data.download import CIFAR, load_remote

    return load_remote(CIFAR[name], cache_dir=cache_dir)


def _digits() -> Dataset:
    """Scikit-learn's 8x8 digits, 0..16 stretched to 0..255; a fixed 1,437 to train on, 360 to test on."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(np.asarray(bunch.images) * (255 / 16)).astype(np.uint8)
    images = torch.from_numpy(pixels).unsqueeze(1)  # (N, H, W) -> (N, 1, H, W)
    labels = torch.from_numpy(np.asarray(bunch.target).astype(np.int64))
    listed = [int(label) for label in labels]
    keys = [f"digits {i}" for i in range(len(listed))]
    test = torch.tensor(held_out(keys, listed, _in_proportion(Counter(listed), DIGITS_TEST)), dtype=torch.bool)
    found = decoded(
        ImageSet(images[~test], labels[~test]),
        ImageSet(images[test], labels[test]),
        tuple(str(i) for i in range(10)),
        where="digits",
    )
    # digits are never flipped, and at 8 pixels a shift by one is as much as they bear
    return dataset(found, name="digits", source="scikit-learn", augment=Augment(pad=1, flip=False))


def _in_proportion(counts: dict[int, int], total: int) -> dict[int, int]:
    """Share ``total`` among the classes in proportion to their size, by largest remainders."""
    everything = sum(counts.values())
    shares = {label: divmod(n * total, everything) for label, n in sorted(counts.items())}
    left = total - sum(whole for whole, _ in shares.values())
    favoured = sorted(shares, key=lambda label: (-shares[label][1], label))[:left]
    return {label: whole + (label in favoured) for label, (whole, _) in shares.items()}


def _synthetic() -> Dataset:
    """A smooth picture for each of 10 classes, mirror-symmetric since flips are on, under strong noise."""
    draw = torch.Generator().manual_seed(20151210)
    coarse = torch.randn(10, 3, 4, 4, generator=draw)
    coarse = coarse + coarse.flip(3)
    pictures = F.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=False)
    splits = []
    for count in SYNTHETIC:
        labels = torch.arange(count) % 10
        noise = torch.randn(count, 3, 32, 32, generator=draw)
        images = (128 + 24 * pictures[labels] + 48 * noise).round().clamp(0, 255).to(torch.uint8)
        splits.append(ImageSet(images, labels))
    found = decoded(splits[0], splits[1], tuple(f"class {i}" for i in range(10)), where="synthetic")
    return dataset(found, name="synthetic", source="random numbers, always the same", augment=Augment(pad=4, flip=True))
