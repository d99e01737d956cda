"""Data sets that need no download: scanned digits that come with scikit-learn, and images made of random numbers."""

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from reslab.data.images import Dataset, ImageSet, dataset, decoded, held_out
from reslab.data.spec import Augment

DIGITS_TEST = 360
SYNTHETIC = (2048, 512)  # images to train on and to test on


DIGITS_FILE = "datasets/data/digits.csv.gz"
"""Within scikit-learn: a line an image, 64 pixels and the label."""


def _rows_of_digits() -> npt.NDArray[np.float64]:
    """Scikit-learn's digits (1797, 65), read from its file: to import it, and SciPy with it, takes a second or more."""
    found = importlib.util.find_spec("sklearn")
    file = Path(found.origin).parent / DIGITS_FILE if found and found.origin else None
    if file is not None and file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([np.asarray(bunch.data), np.asarray(bunch.target)])


def digits() -> Dataset:
    """Scikit-learn's 8x8 digits, 0..16 stretched to 0..255; a fixed 1,437 to train on, 360 to test on."""
    rows = _rows_of_digits()
    pixels = np.rint(rows[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = torch.from_numpy(pixels).unsqueeze(1)  # (N, H, W) -> (N, 1, H, W)
    labels = torch.from_numpy(rows[:, 64].astype(np.int64))
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


def synthetic() -> Dataset:
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
