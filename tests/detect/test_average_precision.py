"""Average precision by hand, by own count and by two libraries; intervals; kinds of error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reslab.detect import average_precision as ap
from reslab.detect.annotations import Box, Picture
from reslab.detect.detections import NOTHING, Detections, Floats, as_coco_results
from reslab.detect.matching import overlaps
from reslab.detect.mistakes import Error, counted, mistakes
from reslab.errors import InputError

CLASSES = ("cat", "dog", "owl")


def drawn(*boxes: Box, name: str = "a") -> Picture:
    return Picture(name, Path(name), 100, 200, boxes)


def found(*rows: tuple[float, int, float, float, float, float]) -> Detections:
    """Detections as score, label, corners."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, 2:], table[:, 0], table[:, 1].astype(np.int64))


def chance(n: int, seed: int, crowds: bool = True, digits: int = 2) -> tuple[list[Picture], list[Detections]]:
    """Pictures with boxes of chance, and detections near them, elsewhere, of other classes and twice.

    Scores of few ``digits`` are often equal.
    """
    random = np.random.default_rng(seed)
    pictures, detections = [], []
    for i in range(n):
        low = random.uniform(0, 60, (random.integers(0, 7), 2))
        corners = np.hstack([low, low + random.uniform(5, 40, low.shape)])
        labels = random.integers(0, 2, len(low))  # no owl
        flags = random.random(len(low)) < (0.2 if crowds else 0)
        boxes = []
        for label, (x1, y1, x2, y2), flag in zip(labels.tolist(), corners.tolist(), flags.tolist(), strict=True):
            boxes.append(Box(label, x1, y1, x2, y2, crowd=flag))
        pictures.append(drawn(*boxes, name=str(i)))
        moved = np.vstack([corners + random.normal(0, 3, corners.shape), corners + random.normal(0, 9, corners.shape)])
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        guessed = np.where(random.random(len(moved)) < 0.8, np.tile(labels, 2), random.integers(0, 3, len(moved)))
        scores = random.uniform(0, 1, len(moved)).round(digits)
        detections.append(Detections(moved, scores, guessed.astype(np.int64)))
    return pictures, detections


def test_by_hand() -> None:
    """Two boxes; detections right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    pictures = [drawn(Box(0, 0, 0, 10, 10), Box(0, 50, 50, 60, 60))]
    detections = [found((0.9, 0, 0, 0, 10, 10), (0.8, 0, 20, 20, 30, 30), (0.7, 0, 50, 50, 60, 60))]
    assert ap.voc(pictures, detections, 1, "voc07", resamples=0).value == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert ap.voc(pictures, detections, 1, "voc10", resamples=0).value == pytest.approx((1 + 2 / 3) / 2)
    drawn_curve = ap.curve(ap.matched_classes(pictures, detections, 1, 0.5, "voc10")[0])
    assert drawn_curve.precision.tolist() == [1, 0.5, 2 / 3]
    assert drawn_curve.recall.tolist() == [0.5, 0.5, 1]


def test_a_second_detection_of_a_box_is_wrong() -> None:
    pictures = [drawn(Box(0, 0, 0, 10, 10))]
    twice = [found((0.9, 0, 0, 0, 10, 10), (0.8, 0, 0, 0, 10, 9))]
    [matched] = ap.matched_classes(pictures, twice, 1, 0.5, "voc10")
    assert matched.hits.tolist() == [True, False]


def test_difficult_boxes_are_neither_right_nor_wrong_to_find() -> None:
    pictures = [drawn(Box(0, 0, 0, 10, 10, difficult=True), Box(0, 50, 50, 60, 60))]
    detections = [found((0.9, 0, 0, 0, 10, 10), (0.8, 0, 50, 50, 60, 60))]
    for rule in ("voc07", "voc10"):
        assert ap.voc(pictures, detections, 1, rule, resamples=0).value == 1


def test_the_two_rules_differ_where_a_box_is_taken() -> None:
    """VOC counts the second detection as a repetition of the box it fits best; COCO gives it the box that is left."""
    pictures = [drawn(Box(0, 0, 0, 10, 10), Box(0, 0, 2, 10, 12))]
    detections = [found((0.9, 0, 0, 0, 10, 10), (0.8, 0, 0, 0.5, 10, 10.5))]
    assert ap.matched_classes(pictures, detections, 1, 0.5, "voc10")[0].hits.tolist() == [True, False]
    assert ap.matched_classes(pictures, detections, 1, 0.5, "coco")[0].hits.tolist() == [True, True]


def test_nothing_found_and_nothing_there() -> None:
    one = [drawn(Box(0, 0, 0, 10, 10))]
    nothing = ap.voc(one, [NOTHING], 2, "voc07", resamples=10)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    assert nothing.classes[0] == 0
    assert np.isnan(nothing.classes[1])
    empty = ap.voc([drawn()], [found((0.5, 0, 0, 0, 9, 9))], 1, "voc10", resamples=10)
    assert np.isnan([empty.value, empty.low, empty.high]).all()


def test_overlaps() -> None:
    boxes: Floats = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [10, 10, 20, 20.0]])
    assert overlaps(boxes, boxes)[0].tolist() == [1, 25 / 175, 0]
    assert overlaps(boxes[1:2], boxes[:1], np.array([True]))[0, 0] == 25 / 100
    assert overlaps(boxes, boxes[:0]).shape == (3, 0)


def library(name: str) -> Any:
    if name == "pycocotools":
        return (pytest.importorskip("pycocotools.coco").COCO, pytest.importorskip("pycocotools.cocoeval").COCOeval)
    pytest.importorskip("faster_coco_eval")
    return ap.faster_coco_eval()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["faster-coco-eval", "pycocotools"])
def test_the_libraries_and_our_count_agree(name: str, seed: int) -> None:
    pictures, detections = chance(12, seed)
    value, by_class = ap.library_figures(pictures, detections, CLASSES, library(name))
    own = ap.figure([ap.matched_classes(pictures, detections, 3, t, "coco") for t in ap.OVERLAPS], "coco", 0)
    assert 0.05 < value < 0.95
    assert own.value == pytest.approx(value, abs=1e-9)
    assert own.classes == pytest.approx(by_class, abs=1e-9, nan_ok=True)
    assert np.isnan(by_class[2])


def test_the_libraries_with_nothing_found() -> None:
    pictures, _ = chance(3, 0)
    for name in ("faster-coco-eval", "pycocotools"):
        assert ap.library_figures(pictures, [NOTHING] * 3, CLASSES, library(name))[0] == 0


def test_coco_with_its_interval() -> None:
    library("faster-coco-eval")
    pictures, detections = chance(12, 1)
    whole = ap.coco(pictures, detections, CLASSES, resamples=20)
    assert whole.low < whole.value < whole.high


def test_the_library_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faster_coco_eval", None)
    with pytest.raises(InputError, match=r"pip install 'reslab\[detect\]'"):
        ap.faster_coco_eval()


def test_the_interval_is_of_pictures() -> None:
    """Twice as many pictures of the same kind: an interval about 1 / sqrt(2) as wide; the same seed, the same one."""
    widths = []
    for n in (40, 160):
        whole = ap.voc(*chance(n, 3, crowds=False), 2, "voc10", resamples=200)
        assert whole.low < whole.value < whole.high
        widths.append(whole.high - whole.low)
    assert 0.3 < widths[1] / widths[0] < 0.75
    again = [ap.voc(*chance(20, 3), 2, "voc07", resamples=20) for _ in range(2)]
    assert again[0].low == again[1].low


def test_a_draw_counts_pictures_as_often_as_they_were_drawn() -> None:
    pictures, detections = chance(4, 5, digits=16)
    doubled = [pictures[i] for i in (0, 0, 2, 3, 3, 3)], [detections[i] for i in (0, 0, 2, 3, 3, 3)]
    whole = ap.of_classes(ap.matched_classes(*doubled, 2, 0.5, "voc10"), "voc10")
    by_weight = ap.of_classes(
        ap.matched_classes(pictures, detections, 2, 0.5, "voc10"), "voc10", np.array([2.0, 0, 1, 3])
    )
    assert by_weight == pytest.approx(whole, abs=1e-12)
    assert 0 < whole.min() < whole.max() < 1


def test_kinds_of_error() -> None:
    picture = drawn(
        Box(0, 0, 0, 10, 10), Box(1, 40, 0, 50, 10), Box(0, 80, 0, 90, 10), Box(0, 120, 0, 130, 10),
        Box(0, 160, 0, 170, 10, difficult=True),
    )  # fmt: skip
    rows = found(
        (0.9, 0, 0, 0, 10, 10),  # right
        (0.8, 0, 0, 0, 10, 9),  # the same once more
        (0.7, 0, 40, 0, 50, 10),  # a dog
        (0.6, 0, 85, 0, 95, 10),  # half beside it
        (0.5, 1, 10, 60, 20, 70),  # nothing there
        (0.4, 0, 160, 0, 170, 10),  # difficult
        (0.1, 0, 120, 0, 130, 10),  # too low a score
    )
    assert [mistake.kind for mistake in mistakes(picture, rows.above(0.4))] == [
        Error.TWICE, Error.CLASS, Error.PLACE, Error.BACKGROUND, Error.MISSED,
    ]  # fmt: skip
    assert mistakes(picture, rows.above(0.4))[-1].place == 3
    assert counted([picture, drawn()], [rows, NOTHING], 0.05)[Error.MISSED] == 0


def test_results_as_coco_has_them() -> None:
    assert as_coco_results([NOTHING, found((0.5, 1, 1, 2, 4, 8))]) == [
        {"image_id": 2, "category_id": 2, "bbox": [1, 2, 3, 6], "score": 0.5}
    ]
