"""What a detector is worth, put together for `reslab.report.detected`."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reslab import __version__, runs
from reslab.data.decode.whole import Encoded, whole
from reslab.detect.annotations.types import Annotations, Picture
from reslab.detect.average_precision import curve, matched_classes
from reslab.detect.detections import Detections
from reslab.detect.drawn import draw
from reslab.detect.mistakes import WHAT, Error, mistakes
from reslab.detect.spec import DetectorSpec
from reslab.errors import writing
from reslab.report import detected, words
from reslab.report.finetuned import Dots
from reslab.report.page import data_uri
from reslab.report.view import LIGHT

RULES = {"voc07": "VOC 07, 11 points, overlap 0.5", "voc10": "VOC 10+, area, overlap 0.5",
         "coco": "COCO, overlaps 0.5 to 0.95"}  # fmt: skip
SHOWN = 8
"""Pictures with most errors."""
WIDTH = 420
"""Pixels of a picture on the page."""
POINTS = 200
"""Of a curve that is drawn."""
FEW = 100
"""Test pictures below which the interval says little."""


def write(
    path: Path, spec: DetectorSpec, data: Annotations, split: str, detections: Sequence[Detections],
    result: dict[str, Any],
) -> None:  # fmt: skip
    """Writes the page of a measurement.

    Args:
        path: where to.
        spec: the detector.
        data: where the pictures come from.
        split: which of them were measured on.
        detections: what was found in each.
        result: the figures, as `reslab.detect.worth.worth` gives them.

    Raises:
        InputError: the page cannot be written.
    """
    pictures, score = data.pictures(split), float(result["errors_score"])
    headline, lede = _said(result, pictures)
    page = detected.Detected(
        title=f"{spec.kind} on {spec.net.name}",
        headline=headline,
        lede=lede,
        warnings=tuple(_warnings(data, pictures)),
        classes=spec.classes,
        figures=tuple(_row(said, result[name], spec) for name, said in RULES.items() if result[name]),
        curves=_curves(pictures, detections, spec.classes),
        score=score,
        errors=tuple((str(kind), result["errors"][str(kind)], WHAT[kind]) for kind in Error),
        worst=tuple(_worst(pictures, detections, spec.classes, score)),
        command=runs.called(),
        facts=_facts(spec, data, split, result),
        version=__version__,
    )
    with writing(path):
        detected.write(page, path)


def _said(result: dict[str, Any], pictures: Sequence[Picture]) -> tuple[str, str]:
    """The figure that counts, and what it is."""
    placed = result.get("localisation", {}).get("top1")
    name, value, (low, high) = (
        ("Mean average precision", result["voc10"]["map"], result["voc10"]["interval"]) if placed is None
        else ("Localisation error", placed["error"], placed["interval"])
    )  # fmt: skip
    rule = (
        "as the area under the precision-recall curve at an overlap of 0.5" if placed is None
        else "top-1: the likeliest class is wrong, or its box overlaps none of this class by 0.5 or more"
    )  # fmt: skip
    between = "" if low is None else f"95 % interval over images {100 * low:.1f} to {100 * high:.1f} %. "
    return "These images have no boxes" if value is None else f"{name} {100 * value:.1f} %", (
        f"{between}Measured on {words.plural(len(pictures), 'image')} with {result['boxes']:,} boxes, {rule}. The "
        "interval does not cover the variation between trainings."
    )


def _percent(value: float | None) -> str:
    return "no boxes" if value is None else f"{100 * value:.1f}"


def _row(said: str, found: dict[str, Any], spec: DetectorSpec) -> detected.Row:
    low, high = found["interval"]
    interval = "" if low is None else f"{100 * low:.1f} to {100 * high:.1f}"
    return detected.Row(
        said, _percent(found["map"]), interval, tuple(_percent(found["classes"][c]) for c in spec.classes)
    )


def _warnings(data: Annotations, pictures: Sequence[Picture]) -> list[str]:
    said = data.said()
    if len(pictures) < FEW:
        said.append(f"There are only {len(pictures)} test images: another test set could give a different figure.")
    return said


def _curves(pictures: Sequence[Picture], detections: Sequence[Detections], classes: Sequence[str]) -> tuple[Dots, ...]:
    """Precision against recall of each class that has boxes and detections, at an overlap of 0.5."""
    lines = []
    for label, matched in enumerate(matched_classes(pictures, detections, len(classes), 0.5, "voc10")):
        if matched.there.sum() and len(matched.scores):
            drawn = curve(matched)
            places = np.unique(np.linspace(0, len(drawn.recall) - 1, POINTS).astype(int))
            points = zip(100 * drawn.recall[places], 100 * drawn.precision[places], strict=True)
            lines.append(Dots(classes[label], label % len(LIGHT), tuple((float(x), float(y)) for x, y in points)))
    return tuple(lines)


def _worst(
    pictures: Sequence[Picture], detections: Sequence[Detections], classes: Sequence[str], score: float
) -> list[detected.Drawn]:
    made = [mistakes(picture, found.above(score)) for picture, found in zip(pictures, detections, strict=True)]
    order = sorted(range(len(pictures)), key=lambda place: -len(made[place]))
    shown = []
    for place in order[:SHOWN]:
        if not made[place]:
            break
        picture = pictures[place]
        image = whole(Encoded(str(picture.path), picture.path, oriented=True), 3)
        there = Detections(picture.corners(), np.ones(len(picture.boxes)), picture.labels())
        kinds = [mistake.kind for mistake in made[place]]
        said = ", ".join(f"{kinds.count(kind)} {kind}" for kind in Error if kind in kinds)
        right = _uri(draw(image, detections[place].above(score), classes))
        left = _uri(draw(image, there, classes, scores=False))
        shown.append(detected.Drawn(picture.name, left, right, said))
    return shown


def _uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.resize((WIDTH, max(1, round(WIDTH * image.height / image.width)))).save(buffer, "WEBP", quality=80)
    return data_uri("image/webp", buffer.getvalue())


def _facts(spec: DetectorSpec, data: Annotations, split: str, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        "Detector": {
            "network": spec.net.name, "kind": spec.kind, "short side": spec.short, "anchors": spec.sides,
            "proposals": spec.proposals, "BN": spec.norm,
        },
        "Pictures": {
            "folder": data.root.name, "layout": data.layout, "split": split, "pictures": result["pictures"],
            "boxes": result["boxes"], "draws of the interval": result["resamples"],
        },
        "Machine": {key: value for key, value in runs.describe().items() if key != "git_commit"},
    }  # fmt: skip
