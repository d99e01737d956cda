"""Images of a collection that show one picture: the same bytes, or re-encoded, resized, made a little brighter.

A picture that is among the training images and among the test images makes a test look better than it is. Of CIFAR-10's
test images 3.25 % have a twin among the training images (Barz, Denzler 2020, arXiv 1902.00423, "ciFAIR"), judged by
people, who took other shots of one scene for twins too; what is found here is the clear part of it, 0.86 %.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

SIDE = 32
"""Pixels of a thumbnail's side, which all is told by."""
LOWEST = 8
"""Frequencies a side that are compared first: as a perceptual hash does, but their values rather than their signs."""
MAYBE, ALIKE = 0.9, 0.95
"""Correlation of lowest frequencies from which on thumbnails are compared, and of thumbnails that are of one picture.

Of 200 photographs, saved anew as JPEG of quality 30 or at 64 pixels, all come to 0.994 or more; brightened by a fifth,
19 in 20 to 0.98; two different ones to 0.82 at the most. Cut at the border by a twentieth they mostly stay below.
"""
FLAT = 2.0
"""Standard deviation in grey levels up to which a thumbnail shows nothing that could be told apart."""
ROWS = 1024
"""Images that are compared with all others at a time."""

Thumbnails = npt.NDArray[np.uint8]
"""Grey thumbnails (N, 32, 32)."""
Floats = npt.NDArray[np.float32]


def thumbnail(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The image in grey, squeezed to (32, 32) by averages."""
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def twins(thumbnails: Thumbnails) -> list[tuple[int, ...]]:
    """The images that show one picture, in groups of two or more by their numbers, ascending; groups by their first.

    Two images are of one picture if their thumbnails correlate by 0.95 or more; of flat ones nothing is said. Twins of
    twins are in one group. All images are compared with all, in memory for 1,024 rows at a time: 60,000 take seconds.
    """
    clear = np.flatnonzero(thumbnails.std(axis=(1, 2)) > FLAT)
    if len(clear) < 2:
        return []
    some = thumbnails[clear].astype(np.float32)
    low = _unit(dctn(some, axes=(1, 2), norm="ortho")[:, :LOWEST, :LOWEST].reshape(len(some), -1)[:, 1:])
    whole = _unit((some - some.mean(axis=(1, 2), keepdims=True)).reshape(len(some), -1))
    leader = list(range(len(some)))
    for left, right in _maybe(low):
        alike = np.einsum("ij,ij->i", whole[left], whole[right]) >= ALIKE
        for a, b in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
            first, second = sorted((_lead(leader, a), _lead(leader, b)))
            leader[second] = first
    groups: dict[int, list[int]] = {}
    for image in range(len(some)):
        groups.setdefault(_lead(leader, image), []).append(int(clear[image]))
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _unit(rows: Floats) -> Floats:
    found: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return found


def _maybe(low: Floats) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Pairs (a, b), a < b, that correlate by `MAYBE` or more, a few at a time."""
    for start in range(0, len(low), ROWS):
        a, b = np.nonzero(low[start : start + ROWS] @ low[start:].T >= MAYBE)
        later = b > a
        pairs = a[later] + start, b[later] + start
        for first in range(0, len(pairs[0]), ROWS):
            yield pairs[0][first : first + ROWS], pairs[1][first : first + ROWS]


def _lead(leader: list[int], image: int) -> int:
    while leader[image] != image:
        leader[image] = leader[leader[image]]
        image = leader[image]
    return image


def across(groups: Sequence[tuple[int, ...]], parts: Sequence[str]) -> list[tuple[int, ...]]:
    """The groups with images of more than one part; ``parts`` says for each image which (``"train"``, ``"test"``)."""
    return [group for group in groups if len({parts[image] for image in group}) > 1]
