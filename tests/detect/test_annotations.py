"""Pascal VOC, COCO JSON and YOLO text: read into one type, and looked at."""

import json
from pathlib import Path

import pytest

from reslab.detect.annotations import Box, Kind, Picture, read
from reslab.errors import InputError

from . import pictures

CAT = ("cat", 11, 6, 30, 25)  # VOC's first and last pixel; edges at 10, 5, 30, 25
WANTED = Box(0, 10, 5, 30, 25)


def only(root: Path, kind: Kind, count: int = 1) -> tuple[Picture, ...]:
    """The training pictures of a data set in which one kind of problem is found, so many times."""
    found = read(root)
    assert [problem.kind for problem in found.problems] == [kind] * count
    assert str(kind) in found.said()[0]
    return found.splits["train"]


def test_the_three_layouts_say_the_same(tmp_path: Path) -> None:
    a = read(pictures.voc(tmp_path / "voc", {"train": {"1": [CAT]}}))
    b = read(pictures.coco(tmp_path / "coco", [(1, 1, [10, 5, 20, 20]), (2, 1, [10, 5, 20, 20])]))
    c = read(pictures.yolo(tmp_path / "yolo", {"1": f"0 {20 / 60} {15 / 40} {20 / 60} {20 / 40}\n"}))
    for found in (a, b, c):
        assert found.classes == ("cat",)
        first = found.splits["train"][0]
        assert (first.height, first.width) == (40, 60)
        assert first.boxes[0][1:5] == pytest.approx(WANTED[1:5])
        assert not found.problems
    assert a.splits["train"][0].boxes == (WANTED,)
    assert (a.layout, b.layout, c.layout) == ("voc", "coco", "yolo")


@pytest.mark.parametrize(
    ("corners", "kind", "left"),
    [
        ((30, 25, 11, 6), Kind.SWAPPED, []),
        ((11, 25, 30, 6), Kind.SWAPPED, []),
        ((51, 6, 70, 25), Kind.OVERHANGING, [(50, 5, 60, 25)]),
        ((-9, 6, 10, 25), Kind.OVERHANGING, [(0, 5, 10, 25)]),
        ((61, 6, 70, 25), Kind.OUTSIDE, []),
        ((11, -20, 20, -5), Kind.OUTSIDE, []),
        ((0, 6, 0, 25), Kind.NO_SIZE, []),
        ((float("nan"), 6, 10, 25), Kind.NO_SIZE, []),
        ((1, 1, float("inf"), 25), Kind.NO_SIZE, []),
    ],
)
def test_boxes_that_are_wrong(
    tmp_path: Path, corners: tuple[float, float, float, float], kind: Kind, left: list[tuple[float, ...]]
) -> None:
    root = pictures.voc(tmp_path / "d", {"train": {"1": [CAT]}})
    (root / "Annotations/1.xml").write_text(pictures.xml([CAT, ("cat", *corners)]))
    if kind is Kind.SWAPPED:  # the same box, put in order
        (root / "Annotations/1.xml").write_text(pictures.xml([("cat", *corners)]))
    [each] = only(root, kind)
    assert [box[1:5] for box in each.boxes] == [WANTED[1:5], *left]


def test_one_pixel_is_a_size_in_voc_and_edges_are_not_in_coco(tmp_path: Path) -> None:
    root = pictures.voc(tmp_path / "voc", {"train": {"1": [("cat", 5, 5, 5, 5)]}})
    assert read(root).splits["train"][0].boxes == (Box(0, 4, 4, 5, 5),)
    path = pictures.coco(tmp_path / "coco", [(1, 1, [4, 4, 0, 9]), (1, 1, [10, 5, 20, 20]), (2, 1, [1, 1, 2, 2])])
    assert len(only(path, Kind.NO_SIZE)[0].boxes) == 1


def test_a_picture_of_one_pixel(tmp_path: Path) -> None:
    root = pictures.voc(tmp_path / "d", {"train": {"1": [("cat", 1, 1, 1, 1)]}}, size=(1, 1))
    assert read(root).splits["train"][0].boxes == (Box(0, 0, 0, 1, 1),)


def test_counting_from_0_is_understood(tmp_path: Path) -> None:
    root = pictures.voc(tmp_path / "d", {"train": {"1": [("cat", 0, 0, 20, 20)]}})
    assert read(root).splits["train"][0].boxes == (Box(0, 0, 0, 20, 20),)


def test_the_same_box_twice_is_one(tmp_path: Path) -> None:
    [each] = only(pictures.voc(tmp_path / "d", {"train": {"1": [CAT, CAT]}}), Kind.REPEATED)
    assert each.boxes == (WANTED,)


def test_pictures_without_boxes_are_kept(tmp_path: Path) -> None:
    kept = only(pictures.voc(tmp_path / "d", {"train": {"1": [CAT], "2": []}}), Kind.NO_BOXES)
    assert [len(each.boxes) for each in kept] == [1, 0]
    assert kept[1].corners().shape == (0, 4)


def test_classes_in_test_only(tmp_path: Path) -> None:
    root = pictures.voc(tmp_path / "d", {"train": {"1": [CAT]}, "test": {"2": [CAT, ("owl", 1, 1, 9, 9)]}})
    found = read(root)
    assert found.classes == ("cat",)
    assert found.counts("test") == {"cat": 1}
    assert found.problems == ((Kind.UNTAUGHT, "test/2", "'owl'"),)


def test_unknown_classes(tmp_path: Path) -> None:
    path = pictures.coco(tmp_path / "coco", [(1, 1, [1, 1, 9, 9]), (1, 77, [1, 1, 9, 9]), (2, 5, [1, 1, 9, 9])])
    assert len(only(path, Kind.UNKNOWN)[0].boxes) == 1
    root = pictures.yolo(tmp_path / "yolo", {"1": "0 .5 .5 .2 .2\n7 .5 .5 .2 .2\n-1 .5 .5 .2 .2\n"})
    assert len(only(root, Kind.UNKNOWN, 2)[0].boxes) == 1
    asked = read(pictures.voc(tmp_path / "voc", {"test": {"1": [CAT, ("owl", 1, 1, 9, 9)]}}), classes=("dog", "cat"))
    assert asked.classes == ("dog", "cat")
    assert [box.label for box in asked.splits["test"][0].boxes] == [1]
    assert [problem.kind for problem in asked.problems] == [Kind.UNKNOWN]


def test_few_that_are_lost_are_left_out(tmp_path: Path) -> None:
    root = pictures.voc(tmp_path / "d", {"train": {f"{i:02}": [CAT] for i in range(40)}})
    (root / "JPEGImages/03.png").unlink()
    (root / "JPEGImages/05.png").write_bytes(b"no picture")
    (root / "Annotations/07.xml").unlink()
    (root / "Annotations/09.xml").write_text("<annotation><object>")
    found = read(root)
    assert {(problem.kind, problem.where) for problem in found.problems} == {
        (Kind.ABSENT, "train/03"), (Kind.UNREADABLE, "train/05"), (Kind.UNANNOTATED, "train/07"),
        (Kind.MALFORMED, "train/09"),
    }  # fmt: skip
    assert len(found.splits["train"]) == 36


@pytest.mark.parametrize(
    "text",
    [
        "", "<annotation>", "<annotation><object><name>cat</name></object></annotation>",
        pictures.xml([("", 1, 1, 5, 5)]), pictures.xml([CAT]).replace("<xmin>11", "<xmin>left"),
    ],
)  # fmt: skip
def test_malformed_xml(tmp_path: Path, text: str) -> None:
    root = pictures.voc(tmp_path / "d", {"train": {"1": [CAT]}})
    (root / "Annotations/1.xml").write_text(text)
    with pytest.raises(InputError, match=r"1 of 1 cannot be used .* malformed annotation, train/1 1.xml: "):
        read(root)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is malformed"),
        ("{", "it is malformed"),
        ("[]", "the list 'categories'"),
        ('{"categories": []}', "the list 'images'"),
        ('{"categories": [{"id": 1}]}', "categories with 'id' and 'name'"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "two categories have the id 1"),
        ("[" * 100_000, "it is malformed"),
    ],
)
def test_malformed_json(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read(path)


def test_a_malformed_annotation_takes_its_picture_with_it(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": "1.png"} for i in range(1, 31)]
    names = [image | {"file_name": f"{image['id']}.png"} for image in images]
    path = pictures.coco(tmp_path / "d", [(i, 1, [1, 1, 9, 9]) for i in range(1, 31)], images=names)
    for i in range(3, 31):
        pictures.picture(path.parent / f"{i}.png")
    content = json.loads(path.read_text())
    content["annotations"][4]["bbox"] = [1, 2, 3]
    content["annotations"].append({"id": 99, "image_id": 555, "category_id": 1, "bbox": [1, 1, 2, 2]})
    path.write_text(json.dumps(content))
    found = read(path)
    assert [problem.kind for problem in found.problems] == [Kind.MALFORMED, Kind.ABSENT]
    assert "5.png" not in {each.name for each in found.splits["train"]}
    assert len(found.splits["train"]) == 29


@pytest.mark.parametrize("line", ["0 .5 .5 .2", "a .5 .5 .2 .2", "0 .5 .5 .2 x", "0.5 .5 .5 .2 .2"])
def test_malformed_yolo(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=r"malformed annotation, train/1.png 1.txt, line 2: expected"):
        read(pictures.yolo(tmp_path / "d", {"1": f"0 .5 .5 .2 .2\n{line}\n"}))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("names: [a\n", "expected YAML in .*data.yaml, but it is malformed"),
        ("names: {0: a, 2: b}\n", "numbered from 0 without a gap"),
        ("val: images/none\n", "expected the pictures of 'val'"),
    ],
)
def test_malformed_yaml(tmp_path: Path, names: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(pictures.yolo(tmp_path / "d", {"1": "0 .5 .5 .2 .2\n"}, names))


def test_a_polygon_of_yolo_is_its_box(tmp_path: Path) -> None:
    found = read(pictures.yolo(tmp_path / "d", {"1": "1 .25 .5 .5 .25 .5 .75\n"}))
    assert found.classes == ("dog",)
    assert found.splits["train"][0].boxes == (Box(0, 15, 10, 30, 30),)


def test_duplicates(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{n}.png"} for i, n in ((1, 1), (1, 2), (2, 2))]
    path = pictures.coco(tmp_path / "coco", [(1, 1, [1, 1, 9, 9]), (2, 1, [1, 1, 9, 9])], images=images)
    assert [each.name for each in only(path, Kind.DUPLICATE)] == ["1.png", "2.png"]
    root = pictures.voc(tmp_path / "voc", {"train": {"1": [CAT]}})
    (root / "ImageSets/Main/train.txt").write_text("1\n1\n\n")
    assert len(only(root, Kind.DUPLICATE)) == 1


def test_a_picture_in_both_splits_is_tested_on_alone(tmp_path: Path) -> None:
    root = pictures.voc(tmp_path / "d", {"train": {"1": [CAT], "2": [CAT]}, "test": {"2": [CAT]}})
    found = read(root)
    assert {split: [each.name for each in those] for split, those in found.splits.items()} == {
        "train": ["1"], "test": ["2"],
    }  # fmt: skip
    assert found.problems == ((Kind.BOTH, "train/2", "also test/2"),)


def test_a_wrong_size_is_told_and_the_picture_is_believed(tmp_path: Path) -> None:
    root = pictures.voc(tmp_path / "d", {"train": {"1": [CAT]}})
    (root / "Annotations/1.xml").write_text(pictures.xml([CAT], size=(400, 600)))
    assert only(root, Kind.SIZE)[0].width == 60


def test_5000_boxes(tmp_path: Path) -> None:
    many = [("cat", 1 + i % 40, 1 + i // 40 % 25, 45 + i // 1000, 38) for i in range(5000)]
    root = pictures.voc(tmp_path / "d", {"train": {"1": [CAT]}})
    (root / "Annotations/1.xml").write_text(pictures.xml(many))
    found = read(root)
    assert len(found.splits["train"][0].boxes) == len(set(many)) == 5000
    assert not found.problems


def test_difficult_and_crowds_are_known(tmp_path: Path) -> None:
    root = pictures.voc(tmp_path / "d", {"train": {"1": [CAT]}})
    (root / "Annotations/1.xml").write_text(pictures.xml([CAT], difficult=True))
    assert read(root).splits["train"][0].ignored().tolist() == [True]


def test_as_exports_lie(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        pictures.picture(tmp_path / "voc" / split / f"{name}.jpg")
        (tmp_path / "voc" / split / f"{name}.xml").write_text(pictures.xml([CAT]))
        path = pictures.coco(tmp_path / "coco" / split, [(1, 1, [1, 1, 9, 9]), (2, 5, [1, 1, 9, 9])])
        path.rename(path.with_name("_annotations.coco.json"))
        pictures.picture(tmp_path / "yolo" / split / "images" / f"{name}.png")
        (tmp_path / "yolo" / split / "labels").mkdir()
        (tmp_path / "yolo" / split / "labels" / f"{name}.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / "yolo/data.yaml").write_text("train: ../train/images\nval: ../valid/images\ntest: ../test/images\n")
    for layout in ("voc", "coco", "yolo"):
        found = read(tmp_path / layout)
        assert (found.layout, tuple(found.splits)) == (layout, ("train", "val", "test"))
        assert not found.problems


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: root / "gone", "but nothing is there"),
        (lambda root: root, "found none of them"),
        (lambda root: pictures.picture(root / "a.png"), "a folder or a COCO JSON file"),
        (lambda root: pictures.voc(root / "d", {"test": {"1": [CAT]}}), "has no training pictures"),
        (lambda root: pictures.voc(root / "d", {"train": {"1": []}}), "expected boxes to train on"),
    ],
)
def test_what_is_no_data_set(tmp_path: Path, make: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(make(tmp_path))  # type: ignore[operator]


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    found = read(pictures.voc(tmp_path / "d", {"train": {"1": [CAT]}}))
    with pytest.raises(InputError, match="the splits there: train"):
        found.pictures("test")


def test_bccd() -> None:
    root = Path(__file__).parents[3] / "shared/data/bccd"
    if not root.is_dir():
        pytest.skip("BCCD is not here")
    found = read(root)
    assert found.classes == ("Platelets", "RBC", "WBC")
    assert {split: len(those) for split, those in found.splits.items()} == {"train": 205, "val": 87, "test": 72}
    assert sum(found.counts("test").values()) == 945
