"""Pictures with the boxes that were found in them."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from reslab.detect.detections import Detections
from reslab.report.view import LIGHT


def pixels_of(image: Image.Image) -> Tensor:
    """A picture in colour as pixels (3, H, W), uint8."""
    return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())


def draw(image: Image.Image, found: Detections, classes: Sequence[str], *, scores: bool = True) -> Image.Image:
    """The picture with each box, its class and (if wanted) its score in per cent; each class in a colour."""
    pixels = pixels_of(image)
    if len(found.scores):
        pairs = zip(found.labels, found.scores, strict=True)
        labels = [f"{classes[label]} {100 * score:.0f}" if scores else classes[label] for label, score in pairs]
        colors = [LIGHT[label % len(LIGHT)] for label in found.labels]
        pixels = draw_bounding_boxes(pixels, torch.from_numpy(found.boxes), labels, colors, width=2)
    return Image.fromarray(pixels.numpy().transpose(1, 2, 0))
