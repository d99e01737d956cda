"""Whether a training is of a sensible length and batch for its number of images, and what would be.

Rules of thumb, not a paper's: the paper's own 64,000 iterations are 164 epochs of CIFAR-10, its 600,000 are 120 of
ImageNet; nothing in `reslab.recipes` needs more than 300 on the data that it was made for. Under fifty steps even a
small network on easy images stays near guessing.
"""

import math

from reslab.report.words import plural

LONGEST = 500
"""Epochs above which a training is long for its data: three times the paper's."""
USUAL = 180
"""Epochs that are proposed instead: about the paper's."""
FEWEST = 50
"""Steps below which a training is too short to learn."""
ENOUGH = 200
"""Steps that are proposed instead."""


def iterations_of(epochs: float, images: int, batch: int) -> int:
    """Steps (mini-batches) of so many passes over the images; 1 at least."""
    return max(1, round(epochs * images / max(batch, 1)))


def batch_within(batch: int, images: int, parts: int = 1) -> int:
    """The batch, or the most images that there are, as a multiple of the parts that it is worked through in."""
    return batch if batch <= images else max(2, images // parts * parts)


def proposed(images: int, batch: int) -> int:
    """Epochs that suit so many images: about the paper's where they are long, enough steps where they are few."""
    return max(1, math.ceil(ENOUGH * batch / images))


def doubts(iterations: int, batch: int, images: int) -> str:
    """A warning about a training length that is too short or too long, with a better one; empty if it is sensible."""
    epochs = iterations * batch / images
    if iterations < FEWEST:
        return (
            f"the training has only {plural(iterations, 'step')}, and the network may learn nothing: it needs {FEWEST} "
            f"at least; --epochs {proposed(images, batch)} would be {ENOUGH} steps"
        )
    if epochs > LONGEST:
        instead = max(USUAL, proposed(images, batch))
        return (
            f"{epochs:,.0f} epochs show each of the {images:,} images {epochs:,.0f} times, far more than usual "
            f"(the paper trains for 120 to 182 epochs); --epochs {instead} would be "
            f"{iterations_of(instead, images, batch):,} steps"
        )
    return ""
