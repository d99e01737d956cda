"""What a detector is worth: all figures of a split, as plain data."""

import math
from collections.abc import Sequence
from typing import Any

from reslab.detect import average_precision as ap
from reslab.detect.annotations.types import Picture
from reslab.detect.average_precision import Figure
from reslab.detect.detections import Detections
from reslab.detect.localisation import localisation
from reslab.detect.mistakes import counted
from reslab.errors import InputError

SCORE = 0.5
"""From which on a detection counts where errors are told apart by kind."""


def _plain(figure: Figure, classes: Sequence[str]) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    of_classes = {name: number(value) for name, value in zip(classes, figure.classes, strict=True)}
    return {"map": number(figure.value), "interval": [number(figure.low), number(figure.high)], "classes": of_classes}


def worth(
    pictures: Sequence[Picture], detections: Sequence[Detections], classes: Sequence[str], *,
    resamples: int = ap.RESAMPLES, score: float = SCORE, kind: str = "fpn",
) -> dict[str, Any]:  # fmt: skip
    """Mean average precision by all three rules, shares 0 to 1 with their 95 % intervals, and the kinds of error.

    ``coco`` is null where faster-coco-eval is not installed. Of a detector of kind ``localise`` the localisation errors
    come with them.
    """
    n = len(classes)
    found: dict[str, Any] = {}
    if kind == "localise":
        found["localisation"] = localisation(pictures, detections, resamples=resamples)
    found |= {
        "voc07": _plain(ap.voc(pictures, detections, n, "voc07", resamples=resamples), classes),
        "voc10": _plain(ap.voc(pictures, detections, n, "voc10", resamples=resamples), classes),
    }
    try:
        found["coco"] = _plain(ap.coco(pictures, detections, classes, resamples=resamples), classes)
    except InputError:
        found["coco"] = None
    errors = {str(kind): number for kind, number in counted(pictures, detections, score).items()}
    boxes = sum(int((~picture.ignored()).sum()) for picture in pictures)
    return {**found, "errors": errors, "errors_score": score, "pictures": len(pictures), "boxes": boxes,
            "resamples": resamples}  # fmt: skip
