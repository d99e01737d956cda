"""What He et al. 2015 (arXiv 1512.03385, appendix B) do in testing: box refinement, and several scales."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from reslab.detect.networks import Detector
from reslab.errors import InputError

SUPPRESSED, VOTING, MOST = 0.3, 0.5, 100
"""Overlaps from which on a lower box goes, and has a vote; boxes that are left of a picture."""

Found = dict[str, Tensor]
"""As torchvision has it: boxes (n, 4), scores (n,) and labels (n,), counted from 1."""


@dataclass(frozen=True)
class Looks:
    """How a picture is looked at. The usual is once, at the detector's own size."""

    refine: bool = False
    """classify and regress each box once more from where it came to lie, then suppress and vote over both"""
    scales: tuple[int, ...] = ()
    """short sides to look at, boxes of all together; () is the detector's own"""

    def __post_init__(self) -> None:
        if any(side < 1 for side in self.scales):
            raise InputError(f"--scales takes sizes of the shorter side, 1 or more pixels, got {self.scales}")

    @property
    def plain(self) -> bool:
        """Whether this is a single look."""
        return not self.refine and not self.scales


def look(detector: Detector, picture: Tensor, looks: Looks) -> Found:
    """The boxes in a picture (3, H, W), in 0 to 1; best first."""
    if looks.plain:
        [found] = detector([picture])
        assert isinstance(found, dict)
        return found
    if detector.spec.kind == "localise":
        raise InputError("--refine and --scales are for detectors: a localiser has one box a class")
    made: list[Found] = []
    for side in looks.scales or (None,):
        with _at(detector, side):
            made += _look(detector, picture, refine=looks.refine)
    return voted({name: torch.cat([each[name] for each in made]) for name in ("boxes", "scores", "labels")})


@contextmanager
def _at(detector: Detector, side: int | None) -> Iterator[None]:
    """The detector at another short side, its longest side in proportion."""
    transform = detector.model.transform
    before = transform.min_size, transform.max_size
    if side is not None:
        transform.min_size, transform.max_size = (side,), round(before[1] * side / before[0][-1])
    try:
        yield
    finally:
        transform.min_size, transform.max_size = before


def _look(detector: Detector, picture: Tensor, *, refine: bool) -> list[Found]:
    """What is found from the proposals, and what from the boxes that came of them."""
    model: Any = detector.model
    images, _ = model.transform([picture])
    maps = model.backbone(images.tensors)
    maps = {"0": maps} if isinstance(maps, Tensor) else maps
    proposals, _ = model.rpn(images, maps)
    found, _ = model.roi_heads(maps, proposals, images.image_sizes)
    made = [found]
    if refine and len(found[0]["boxes"]):
        again, _ = model.roi_heads(maps, [found[0]["boxes"]], images.image_sizes)
        made.append(again)
    size = [tuple(picture.shape[-2:])]
    return [model.transform.postprocess(each, images.image_sizes, size)[0] for each in made]


def voted(found: Found) -> Found:
    """Suppresses lower boxes of a class, and moves each that is left to the mean of those at its place.

    The mean is weighted by score, over the boxes of its class with an overlap of 0.5 or more (Gidaris and Komodakis
    2015, arXiv 1505.01749, section 4).
    """
    boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
    kept = batched_nms(boxes, scores, labels, SUPPRESSED)[:MOST]
    votes = (box_iou(boxes[kept], boxes) >= VOTING) & (labels[kept][:, None] == labels[None])
    weights = votes * scores  # (kept, n)
    moved = weights @ boxes / weights.sum(1, keepdim=True).clamp_min(1e-12)
    return {"boxes": moved, "scores": scores[kept], "labels": labels[kept]}
