"""A detector as it leaves the lab: the same sealed folder as that of a classifier."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from reslab.deploy.artefact import KIND, Precision, RuntimeName, Sealed, Speed, contents, understood
from reslab.detect.spec import DetectorSpec
from reslab.errors import InputError
from reslab.nets.spec import Spec

INPUT, OUTPUTS = "image", ("boxes", "scores", "labels")


class Gain(Spec):
    """By how much its mAP@[.5:.95] is above the original's, on images with boxes."""

    points: float
    low: float
    high: float = Field(description="with low, a 95 % interval by paired bootstrap over the images")


class CheckedBoxes(Spec):
    """What the gate found, of a runtime in a precision."""

    runtime: RuntimeName = "onnxruntime"
    precision: Precision = "fp32"
    images: int
    boxes: int = Field(description="of both, that are sure enough to be compared")
    agreement: float = Field(description="per cent of them that the other finds too, at the same place")
    largest_difference: float = Field(description="of a score, among these")
    gain: Gain | None = Field(None, description="null: the images have no boxes to compare with, or it is fp32")
    speed: Speed | None = None
    refused: str = Field("", description="why it did not pass; empty: it passed")


class DetectorAbout(Sealed):
    """What the artefact of a detector is.

    The model takes ``image``, uint8 (H, W, 3), RGB, upright, of any size, and gives ``boxes`` (n, 4) in its pixels,
    ``scores`` (n,) and ``labels`` (n,), counted from 0; the surest first.
    """

    kind: Literal["detector"] = "detector"
    detector: DetectorSpec
    gate: tuple[CheckedBoxes, ...] = Field((), description="empty: nobody compared it")


def is_detector_artefact(folder: str | Path) -> bool:
    """Whether a folder is one, whole or not."""
    try:
        return contents(folder)[1].get(KIND) == "detector"
    except InputError:
        return False


def read_detector_artefact(folder: str | Path) -> tuple[Path, DetectorAbout]:
    """Its folder and what it is, all bytes compared with their checksums. Raises `InputError`."""
    place, values = contents(folder)
    return place, understood(place, values, DetectorAbout)
