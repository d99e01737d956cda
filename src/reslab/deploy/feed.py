"""From decoded images to what an artefact takes, and from its logits to probabilities."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from reslab.data.decode.modes import pixels_of
from reslab.data.decode.whole import Fit, fitted_image
from reslab.deploy.artefact import About
from reslab.deploy.runtimes import Batch, Logits, Runtime

Row = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""An image as an artefact takes it: (H, W, C) or (C, H, W)."""
MOST_WAITING = 512 * 2**20
"""Bytes of photographs that wait for others of their size."""


def row(image: Image.Image, about: About) -> Row:
    """A decoded image, upright and in the artefact's number of channels, as the artefact takes it."""
    return normalised(shown_pixels(image, about), about)


def shown_pixels(image: Image.Image, about: About) -> npt.NDArray[np.uint8]:
    """Its pixels (H, W, C), resized and cropped unless that is done inside."""
    if about.input != "photographs":
        how = about.preprocessing
        image = fitted_image(image, Fit(how.crop, how.resize, how.interpolation))
    return pixels_of(image)


def normalised(pixels: npt.NDArray[np.uint8], about: About) -> Row:
    """Pixels (H, W, C) as the artefact takes them: as they are, unless it leaves normalising to the caller."""
    if about.input != "tensors":
        return pixels
    mean, std = (np.asarray(values, np.float32) for values in (about.preprocessing.mean, about.preprocessing.std))
    mean = mean if mean.ndim == 3 else mean[:, None, None]
    x = pixels.astype(np.float32).transpose(2, 0, 1) / np.float32(255)  # (H, W, C) -> (C, H, W)
    found: Row = (x - mean) / std[:, None, None]
    return found


def in_batches(rows: Iterable[Row], size: int) -> Iterator[tuple[list[int], Batch]]:
    """Images of one size together, up to ``size`` of them, as they come: their numbers, and the batch.

    Each comes once; those whose size is rare come last.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, Row]]] = {}
    held = 0
    for number, each in enumerate(rows):
        lot = waiting.setdefault(each.shape, [])
        lot.append((number, each))
        held += each.nbytes
        if len(lot) == size:
            held -= sum(row.nbytes for _, row in lot)
            yield _together(waiting.pop(each.shape))
        while held > MOST_WAITING:
            largest = max(waiting, key=lambda shape: sum(row.nbytes for _, row in waiting[shape]))
            lot = waiting.pop(largest)
            held -= sum(row.nbytes for _, row in lot)
            yield _together(lot)
    for lot in waiting.values():
        yield _together(lot)


def _together(lot: Sequence[tuple[int, Row]]) -> tuple[list[int], Batch]:
    return [number for number, _ in lot], stacked([row for _, row in lot])


def stacked(rows: Sequence[Row]) -> Batch:
    """Images of one size as a batch."""
    return cast(Batch, np.stack(rows))


def logits_of(runtime: Runtime, rows: Iterable[Row], size: int) -> Logits:
    """Logits (n, classes) of images of any sizes, in their order."""
    numbers: list[int] = []
    found: list[Logits] = []
    for some, batch in in_batches(rows, size):
        numbers += some
        found.append(runtime.logits(batch))
    every = np.concatenate(found)
    ordered = np.empty_like(every)
    ordered[numbers] = every
    return ordered


def probabilities(logits: Logits, temperature: float) -> Logits:
    """softmax(logits / temperature), (n, classes)."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    found: Logits = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return found
