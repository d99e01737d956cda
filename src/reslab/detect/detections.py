"""What a detector finds, and the same as COCO JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reslab.detect.annotations.types import Picture

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Detections:
    """The boxes found in one picture."""

    boxes: Floats
    """(n, 4) as x1, y1, x2, y2, in pixels of the picture"""
    scores: Floats
    """(n,)"""
    labels: npt.NDArray[np.int64]
    """(n,), places in the list of classes"""

    def __post_init__(self) -> None:
        n = len(self.scores)
        assert self.boxes.shape == (n, 4), "one box a score"
        assert self.labels.shape == (n,), "one class a score"

    def above(self, score: float) -> "Detections":
        """Those with at least this score."""
        kept = self.scores >= score
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept])


NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


def as_coco_results(detections: Sequence[Detections], images: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """COCO's list of results; boxes as x, y, width, height; categories are numbered from 1, pictures too by default."""
    return [
        {
            "image_id": number,
            "category_id": int(label) + 1,
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "score": float(score),
        }
        for number, found in zip(images or range(1, len(detections) + 1), detections, strict=True)
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]


def as_coco(pictures: Sequence[Picture], classes: Sequence[str]) -> dict[str, Any]:
    """Pictures and their boxes as COCO JSON has them, numbered from 1. Difficult boxes become crowds."""
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, 1):
        for box in picture.boxes:
            width, height = box.x2 - box.x1, box.y2 - box.y1
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": box.label + 1,
                    "bbox": [box.x1, box.y1, width, height], "area": width * height,
                    "iscrowd": int(box.crowd or box.difficult),
                }
            )  # fmt: skip
    return {
        "info": {},
        "images": [
            {"id": number, "file_name": picture.name, "height": picture.height, "width": picture.width}
            for number, picture in enumerate(pictures, 1)
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes, 1)],
        "annotations": annotations,
    }
