"""The gate for a detector: does its export find the same boxes, and is it no slower?"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from reslab.bench.paired import ratio, take_turns
from reslab.deploy.artefact import Speed
from reslab.deploy.gate import ROUNDS, SLOWER
from reslab.deploy.runtimes import Way
from reslab.detect.annotations.types import Picture
from reslab.detect.artefact import CheckedBoxes, Gain
from reslab.detect.average_precision import OVERLAPS, gain, matched_classes
from reslab.detect.detections import Detections

SURE = 0.1
"""Boxes with at least this score are looked for in what the other found; those near its threshold come and go."""
SAME_PLACE, SAME_SCORE = 0.9, 0.05
"""Overlap from which on, and difference of scores up to which, two boxes of a class are the same."""
AGREEMENT = 99.0
"""Per cent of the boxes that both have to find."""
POINTS = 0.5
"""In bf16 it will do instead that mAP@[.5:.95] falls by no more points than this at the lower end of its interval."""
FP32 = Way("onnxruntime", "fp32")

Find = Callable[[Sequence[Tensor]], list[Detections]]


def check(
    original: Find, export: Find, pictures: Sequence[Tensor], *, way: Way = FP32, truth: Sequence[Picture] = (),
    rival: Find | None = None, speed: bool = True,
) -> CheckedBoxes:  # fmt: skip
    """Shows both the same pictures, and says whether the export may go out.

    Args:
        original: finds boxes in fp32.
        export: finds boxes in the exported file.
        pictures: each (3, H, W), uint8; one or more.
        way: how the export is computed.
        truth: the pictures with their boxes, by which average precisions are compared; or none.
        rival: the original in the precision that its speed is compared in; by default ``original``.
        speed: whether speed is compared, too.
    """
    before, after = original(pictures), export(pictures)
    found = [
        _differences(*pair) for one, other in zip(before, after, strict=True) for pair in ((one, other), (other, one))
    ]
    differences = np.concatenate(found)
    same = differences <= SAME_SCORE
    seen = CheckedBoxes(
        runtime=way.name, precision=way.precision, images=len(pictures), boxes=len(differences),
        agreement=100 * float(same.mean()) if len(same) else 100.0,
        largest_difference=float(differences[same].max()) if same.any() else 0.0,
        gain=_gain(truth, before, after) if way.precision != "fp32" else None,
        speed=_speed(rival or original, export, pictures) if speed else None,
    )  # fmt: skip
    return seen.model_copy(update={"refused": why_refused(seen)})


def _gain(truth: Sequence[Picture], before: Sequence[Detections], after: Sequence[Detections]) -> Gain | None:
    """Of mAP@[.5:.95]; None without boxes to be found."""
    classes = 1 + max((int(label) for picture in truth for label in picture.labels()), default=-1)
    if not classes:
        return None
    sets = [
        [matched_classes(truth, found, classes, overlap, "coco") for overlap in OVERLAPS] for found in (before, after)
    ]
    points, low, high = (100 * value for value in gain(sets[0], sets[1], "coco"))
    return None if np.isnan(points) else Gain(points=points, low=low, high=high)


def why_refused(seen: CheckedBoxes) -> str:
    """Why an export may not go out; empty where it may."""
    if not seen.boxes:
        return f"no boxes were found in {seen.images} images, so there is nothing to compare; name images with objects"
    if seen.agreement < AGREEMENT and (seen.gain is None or seen.gain.low < -POINTS):
        why = f"{seen.agreement:.1f} % of the boxes are the same, {AGREEMENT:g} % are required"
        if seen.precision == "fp32":
            return why
        if seen.gain is None:
            return f"{why} (or, on images with annotated boxes, a mAP@[.5:.95] that falls by at most {POINTS:g} points)"
        return f"{why}, and mAP@[.5:.95] may have fallen by {-seen.gain.low:.2f} points, at most {POINTS:g} are allowed"
    if seen.speed is not None and seen.speed.high < SLOWER:
        return f"slower: {seen.speed.ratio:.2f} times as fast as the original"
    return ""


def _differences(these: Detections, those: Detections) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of each sure box of ``these``: how far the score of the likest of ``those`` is away; infinite without one."""
    these = these.above(SURE)
    if not len(these.scores) or not len(those.scores):
        return np.full(len(these.scores), np.inf)
    overlaps = box_iou(torch.from_numpy(these.boxes), torch.from_numpy(those.boxes)).numpy()
    place = (overlaps >= SAME_PLACE) & (these.labels[:, None] == those.labels)
    apart = np.abs(these.scores[:, None] - those.scores)
    least: np.ndarray[tuple[int], np.dtype[np.float64]] = np.where(place, apart, np.inf).min(1)
    return least


def _speed(original: Find, export: Find, pictures: Sequence[Tensor]) -> Speed:
    """Of the first picture, by turns."""
    one = pictures[:1]
    works = {"original": lambda: original(one), "artefact": lambda: export(one)}
    seconds = take_turns(works, rounds=ROUNDS, turn=0.1, device=torch.device("cpu"), warm_up=2)
    times = ratio(seconds["original"], seconds["artefact"])
    artefact, before = (1 / float(np.median(seconds[name])) for name in ("artefact", "original"))
    return Speed(batch=1, artefact=artefact, original=before, ratio=times.median, low=times.low, high=times.high)
