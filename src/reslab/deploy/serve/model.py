"""What a server needs of a network: images in, probabilities or boxes out. Imports without torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from reslab.deploy.serve.decoding import How, Pixels

Probabilities = npt.NDArray[np.floating]
"""(classes,), of one image."""


def address(name: str) -> str:
    """A name as it can stand in an address."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:64] or "model"


class Named(Protocol):
    """A network, whoever computes it: torch, or a runtime for which it was exported. For one thread at a time."""

    @property
    def name(self) -> str:
        """What it is called in addresses: letters, digits, dots, hyphens and underscores."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs."""

    @property
    def how(self) -> How:
        """How a file becomes the pixels that it takes."""


@runtime_checkable
class Model(Named, Protocol):
    """A classifier."""

    def probabilities(self, images: Sequence[Pixels]) -> Sequence[Probabilities]:
        """Of each image (H, W, C)."""


@runtime_checkable
class Explaining(Protocol):
    """A classifier that can also say where it looked."""

    def heat(self, pixels: Pixels, output: int | None) -> tuple[Probabilities, int, bytes]:
        """The probabilities of an image, the output asked for (None: the likeliest), and a PNG of where it was seen."""


@dataclass(frozen=True)
class Found:
    """The boxes found in an image, the likeliest first."""

    boxes: npt.NDArray[np.floating]
    """(n, 4) as left, top, right, bottom, in pixels of the image as it is seen"""
    scores: npt.NDArray[np.floating]
    """(n,), 0 to 1"""
    labels: npt.NDArray[np.integer]
    """(n,), places among the classes"""
    height: int
    width: int


@runtime_checkable
class Detecting(Named, Protocol):
    """A detector."""

    def detect(self, images: Sequence[Pixels]) -> Sequence[Found]:
        """Of each image (H, W, 3), of any size."""
