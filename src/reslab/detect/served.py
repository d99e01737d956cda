"""A detector behind the server."""

from collections.abc import Sequence

import torch

from reslab.deploy.serve.decoding import How, Pixels
from reslab.deploy.serve.model import Found, address
from reslab.detect.find import find
from reslab.detect.networks import Detector
from reslab.train.recipe import Precision


class DetectorModel:
    """As `reslab.deploy.serve.model.Detecting`."""

    def __init__(self, detector: Detector, precision: Precision) -> None:
        self._detector, self._precision = detector, precision
        self.name, self.classes = address(detector.spec.net.name), detector.spec.classes
        self.how = How(channels=3, crop=None, oriented=True)  # the detector resizes by itself

    def detect(self, images: Sequence[Pixels]) -> Sequence[Found]:
        """Of each image (H, W, 3), of any size."""
        pixels = (torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images)
        found = find(self._detector, pixels, precision=self._precision)
        return [
            Found(each.boxes, each.scores, each.labels, *image.shape[:2])
            for each, image in zip(found, images, strict=True)
        ]
