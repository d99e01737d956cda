"""A detector behind the server."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from reslab.deploy.serve.decoding import How, Pixels
from reslab.deploy.serve.model import Found, address
from reslab.detect.detections import Detections
from reslab.detect.spec import DetectorSpec


class DetectorModel:
    """As `reslab.deploy.serve.model.Detecting`."""

    def __init__(self, spec: DetectorSpec, find: Callable[[Iterable[Tensor]], list[Detections]]) -> None:
        """``find`` is given pictures (3, H, W), uint8."""
        self._find = find
        self.name, self.classes = address(spec.net.name), spec.classes
        self.how = How(channels=3, crop=None, oriented=True)  # the detector resizes by itself

    def detect(self, images: Sequence[Pixels]) -> Sequence[Found]:
        """Of each image (H, W, 3), of any size."""
        found = self._find(torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images)
        return [
            Found(each.boxes, each.scores, each.labels, *image.shape[:2])
            for each, image in zip(found, images, strict=True)
        ]
