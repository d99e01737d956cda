"""The gate for a detector: does its export find the same boxes, and is it no slower?"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from reslab.bench.paired import ratio, take_turns
from reslab.deploy.artefact import Speed
from reslab.deploy.gate import ROUNDS, SLOWER
from reslab.detect.artefact import CheckedBoxes
from reslab.detect.detections import Detections

SURE = 0.1
"""Boxes with at least this score are looked for in what the other found; those near its threshold come and go."""
SAME_PLACE, SAME_SCORE = 0.9, 0.05
"""Overlap from which on, and difference of scores up to which, two boxes of a class are the same."""
AGREEMENT = 99.0
"""Per cent of the boxes that both have to find."""

Find = Callable[[Sequence[Tensor]], list[Detections]]


def check(original: Find, export: Find, pictures: Sequence[Tensor], *, speed: bool = True) -> CheckedBoxes:
    """Shows both the same pictures (3, H, W), uint8, one or more, and says whether the export may go out."""
    before, after = original(pictures), export(pictures)
    found = [
        _differences(*pair) for one, other in zip(before, after, strict=True) for pair in ((one, other), (other, one))
    ]
    differences = np.concatenate(found)
    same = differences <= SAME_SCORE
    seen = CheckedBoxes(
        images=len(pictures), boxes=len(differences),
        agreement=100 * float(same.mean()) if len(same) else 100.0,
        largest_difference=float(differences[same].max()) if same.any() else 0.0,
        speed=_speed(original, export, pictures) if speed else None,
    )  # fmt: skip
    return seen.model_copy(update={"refused": why_refused(seen)})


def why_refused(seen: CheckedBoxes) -> str:
    """Why an export may not go out; empty where it may."""
    if not seen.boxes:
        return f"no boxes were found in {seen.images} images, so there is nothing to compare; name images with objects"
    if seen.agreement < AGREEMENT:
        return f"{seen.agreement:.1f} % of the boxes are the same, {AGREEMENT:g} % are required"
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
