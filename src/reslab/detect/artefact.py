"""A detector as it leaves the lab: the same sealed folder as that of a classifier, computed by ONNX Runtime."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor

from reslab.deploy.artefact import KIND, Sealed, Speed, contents, understood
from reslab.deploy.libraries import library
from reslab.detect.detections import Detections
from reslab.detect.spec import DetectorSpec
from reslab.errors import InputError, first_line
from reslab.nets.spec import Spec

INPUT, OUTPUTS = "image", ("boxes", "scores", "labels")


class CheckedBoxes(Spec):
    """What the gate found."""

    images: int
    boxes: int = Field(description="of both, that are sure enough to be compared")
    agreement: float = Field(description="per cent of them that the other finds too, at the same place")
    largest_difference: float = Field(description="of a score, among these")
    speed: Speed | None = None
    refused: str = Field("", description="why it did not pass; empty: it passed")


class DetectorAbout(Sealed):
    """What the artefact of a detector is.

    The model takes ``image``, uint8 (H, W, 3), RGB, upright, of any size, and gives ``boxes`` (n, 4) in its pixels,
    ``scores`` (n,) and ``labels`` (n,), counted from 0; the surest first.
    """

    kind: Literal["detector"] = "detector"
    detector: DetectorSpec
    gate: CheckedBoxes | None = Field(None, description="null: nobody compared it")


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


class OnnxDetector:
    """A model file, opened by ONNX Runtime. For one thread at a time."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Raises `InputError` where the library is missing, or does not take the file."""
        ort = library("onnxruntime")
        settings = ort.SessionOptions()
        settings.log_severity_level = 3  # errors alone: it warns of what it does not optimise
        if threads is not None:
            settings.intra_op_num_threads = threads
        try:
            self._session: Any = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        except Exception as why:  # of another library, of any kind
            raise InputError(f"{path} cannot be opened by onnxruntime: {first_line(why)}") from None

    def one(self, image: npt.NDArray[np.uint8]) -> Detections:
        """The boxes in a picture (H, W, 3)."""
        boxes, scores, labels = self._session.run(list(OUTPUTS), {INPUT: image})
        return Detections(boxes.astype(np.float64), scores.astype(np.float64), labels.astype(np.int64))

    def find(self, pictures: Iterable[Tensor]) -> list[Detections]:
        """The boxes in pictures (3, H, W), uint8."""
        return [self.one(np.ascontiguousarray(each.numpy().transpose(1, 2, 0))) for each in pictures]
