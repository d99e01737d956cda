"""A detector at work: the boxes that it finds."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from reslab.detect.annotations.types import Picture
from reslab.detect.detections import Detections
from reslab.detect.feed import decoded
from reslab.detect.looks import Looks, look, voted
from reslab.detect.networks import Detector
from reslab.evaluate.metrics import autocast

ONCE = Looks()


def find(
    detector: Detector,
    pictures: Iterable[torch.Tensor],
    *,
    precision: str = "fp32",
    looks: Looks = ONCE,
) -> list[Detections]:
    """Finds boxes in pictures, one at a time.

    Args:
        detector: left in the mode that it was in.
        pictures: each (3, H, W), uint8.
        precision: of the forward pass.
        looks: how each is looked at.

    Returns:
        Detections of each, in its own pixels, best first; classes counted from 0, without background.
    """
    device = next(detector.parameters()).device
    training = detector.training
    detector.eval()
    found = []
    try:
        with torch.no_grad(), autocast(device, precision):
            for pixels in pictures:
                each = look(detector, pixels.to(device).float() / 255, looks)
                found.append(
                    Detections(
                        each["boxes"].double().cpu().numpy(),
                        each["scores"].double().cpu().numpy(),
                        (each["labels"].cpu().numpy() - 1).astype(np.int64),
                    )
                )
    finally:
        detector.train(training)
    return found


def find_in(
    detector: Detector, pictures: Sequence[Picture], *, precision: str = "fp32", looks: Looks = ONCE
) -> list[Detections]:
    """As `find`, in pictures of a data set."""
    return find(detector, map(decoded, pictures), precision=precision, looks=looks)


def together(found: Sequence[Detections]) -> Detections:
    """What several detectors found in a picture, as one: their boxes are suppressed and voted over (`looks.voted`).

    He et al. 2015, appendix B, unite proposals too, and average the scores of each region.
    """
    made = voted(
        {
            "boxes": torch.from_numpy(np.concatenate([each.boxes for each in found])),
            "scores": torch.from_numpy(np.concatenate([each.scores for each in found])),
            "labels": torch.from_numpy(np.concatenate([each.labels for each in found])),
        }
    )
    return Detections(made["boxes"].numpy(), made["scores"].numpy(), made["labels"].numpy())
