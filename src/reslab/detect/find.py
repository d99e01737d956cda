"""A detector at work: the boxes that it finds."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from reslab.detect.annotations.types import Picture
from reslab.detect.detections import Detections
from reslab.detect.feed import decoded
from reslab.detect.networks import Detector
from reslab.evaluate.metrics import autocast


def find(
    detector: Detector,
    pictures: Iterable[torch.Tensor],
    *,
    precision: str = "fp32",
    told: Callable[[int], None] | None = None,
) -> list[Detections]:
    """Finds boxes in pictures, one at a time.

    Args:
        detector: left in the mode that it was in.
        pictures: each (3, H, W), uint8.
        precision: of the forward pass.
        told: called with the number of pictures that are done.

    Returns:
        Detections of each, in its own pixels, best first; classes counted from 0, without background.
    """
    device = next(detector.parameters()).device
    training = detector.training
    detector.eval()
    found = []
    try:
        with torch.no_grad(), autocast(device, precision):
            for number, pixels in enumerate(pictures, 1):
                [each] = detector([pixels.to(device).float() / 255])
                assert isinstance(each, dict)
                found.append(
                    Detections(
                        each["boxes"].double().cpu().numpy(),
                        each["scores"].double().cpu().numpy(),
                        (each["labels"].cpu().numpy() - 1).astype(np.int64),
                    )
                )
                if told is not None:
                    told(number)
    finally:
        detector.train(training)
    return found


def find_in(
    detector: Detector, pictures: Sequence[Picture], *, precision: str = "fp32",
    told: Callable[[int], None] | None = None,
) -> list[Detections]:  # fmt: skip
    """As `find`, in pictures of a data set."""
    return find(detector, map(decoded, pictures), precision=precision, told=told)
