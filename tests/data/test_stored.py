"""Encoded images that are read one by one, wherever they lie."""

import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reslab.data.layouts import class_folders
from reslab.data.layouts.class_folders import files_in_classes
from reslab.data.layouts.found import Asked
from reslab.data.layouts.label_list import files_with_labels
from reslab.data.layouts.shards import tar_files
from reslab.data.stored import Files, Stored
from reslab.errors import InputError

CONTENT = {
    ("cat", "b.JPEG"): b"cat b",
    ("cat", "a.png"): b"cat a",
    ("dog", "x.jpg"): b"dog x",
    ("ape", "q.jpeg"): b"ape",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "train"
    for (kind, name), content in CONTENT.items():
        (root / kind).mkdir(parents=True, exist_ok=True)
        (root / kind / name).write_bytes(content)
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / "._a.png").write_text("what a Mac leaves behind")
    (root / ".hidden").mkdir()
    return root


def in_classes(root: Path, cache_dir: Path, classes: tuple[str, ...] | None = None) -> Files:
    return files_in_classes(root, Asked(cache_dir=cache_dir), classes=classes)[0]


def everything(images: Stored) -> list[tuple[str, bytes]]:
    return [(images.classes[int(label)], images.read(i)) for i, label in enumerate(images.labels)]


def test_class_folders_in_their_order(folder: Path, tmp_path: Path) -> None:
    images = in_classes(folder, tmp_path / "cache")
    assert images.classes == ("ape", "cat", "dog")
    assert everything(images) == [("ape", b"ape"), ("cat", b"cat a"), ("cat", b"cat b"), ("dog", b"dog x")]
    assert images.called(2) == str(folder / "cat" / "b.JPEG")
    assert images.blocks is None


def test_links_count_and_a_broken_one_is_met_when_it_is_read(folder: Path, tmp_path: Path) -> None:
    (folder / "dog" / "linked.jpg").symlink_to(folder / "cat" / "b.JPEG")
    (folder / "dog" / "broken.jpg").symlink_to(tmp_path / "nowhere")
    images = in_classes(folder, tmp_path / "cache")
    names = [Path(images.called(i)).name for i in range(len(images.labels))]
    assert images.read(names.index("linked.jpg")) == b"cat b"
    with pytest.raises(OSError, match=r"nowhere|broken"):
        images.read(names.index("broken.jpg"))


def test_the_names_are_found_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_folders, "MANY", 1)
    cache = tmp_path / "cache"
    first = everything(in_classes(folder, cache))
    monkeypatch.setattr(class_folders, "_listed", lambda *_: pytest.fail("listed again"))
    assert everything(in_classes(folder, cache)) == first


def test_a_new_file_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_folders, "MANY", 1)
    cache = tmp_path / "cache"
    in_classes(folder, cache)
    time.sleep(0.01)
    (folder / "dog" / "new.jpg").write_bytes(b"new")
    os.utime(folder / "dog")
    assert ("dog", b"new") in everything(in_classes(folder, cache))


def test_a_new_file_in_a_folder_below_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_folders, "MANY", 1)
    cache = tmp_path / "cache"
    (folder / "dog" / "more").mkdir()
    in_classes(folder, cache)
    time.sleep(0.01)
    (folder / "dog" / "more" / "new.jpg").write_bytes(b"new")
    assert ("dog", b"new") in everything(in_classes(folder, cache))


def test_a_link_that_leads_back_up_is_not_followed_for_ever(folder: Path, tmp_path: Path) -> None:
    (folder / "dog" / "again").symlink_to(folder / "dog")
    (folder / "dog" / "root").symlink_to(folder)
    (folder / "dog" / "self").symlink_to("self")
    (folder / "itself").symlink_to("itself")
    before = everything(in_classes(folder, tmp_path / "cache"))
    assert before.count(("dog", b"dog x")) == 1, "nor are the other classes' images dogs"


def test_a_damaged_list_is_made_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_folders, "MANY", 1)
    cache = tmp_path / "cache"
    expected = everything(in_classes(folder, cache))
    (kept,) = (cache / "listings").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:50])
    assert everything(in_classes(folder, cache)) == expected


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "empty").mkdir(), "empty: expected images of a class .* found none"),
        (lambda root: [p.unlink() for p in (root / "ape").iterdir()], "ape: expected images of a class .* found none"),
    ],
)
def test_a_class_without_images(folder: Path, tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=says):
        in_classes(folder, tmp_path / "cache")


def test_validation_has_the_classes_of_training(folder: Path, tmp_path: Path) -> None:
    known = ("ape", "bear", "cat", "dog")
    assert in_classes(folder, tmp_path / "c", known).labels.tolist() == [0, 2, 2, 3]
    with pytest.raises(InputError, match="expected only classes that are in train/, found ape"):
        in_classes(folder, tmp_path / "c", ("cat", "dog"))
    with pytest.raises(InputError, match="found 2 images without class folders"):
        in_classes(folder / "cat", tmp_path / "c")


# --- a flat folder and a list of labels -------------------------------------------------------------------------------


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    root = tmp_path / "val"
    root.mkdir()
    for name in ("v1.JPEG", "v2.JPEG", "v3.JPEG"):
        (root / name).write_bytes(name.encode())
    return root


LISTS = {
    "names": "v2.JPEG n02\nv1.JPEG n01\nv3.JPEG n02\n",
    "numbers": "v1.JPEG 0\nv2.JPEG 1\nv3.JPEG 1\n",
    "Kaggle": "ImageId,PredictionString\nv1,n01 1 2 3 4 \nv3,n02 5 6 7 8\nv2,n02 1 1 9 9 n02 2 2 3 3\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_labels_from_a_file(flat: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "labels.txt").write_text(LISTS[kind])
    images = files_with_labels(flat, tmp_path / "labels.txt", ("n01", "n02"), Asked())
    assert everything(images) == [("n01", b"v1.JPEG"), ("n02", b"v2.JPEG"), ("n02", b"v3.JPEG")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("v1.JPEG n01\nv2.JPEG n02\nv4.JPEG n01\n", "line 3 names v4.JPEG, which is not in"),
        ("v1.JPEG n01\nv2.JPEG n03\n", "line 2: there is no class 'n03' among the 2"),
        ("v1.JPEG n01\nv2.JPEG 2\n", "line 2: there is no class '2' among the 2"),
        ("v1.JPEG n01\nv2.JPEG\n", "line 2: expected a file and its class, got 'v2.JPEG'"),
        ("v1.JPEG n01\nv2.JPEG n01\n", "has no line for 1 of the images in .*, the first v3.JPEG"),
    ],
)
def test_lists_that_do_not_fit(flat: Path, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(InputError, match=says):
        files_with_labels(flat, tmp_path / "labels.txt", ("n01", "n02"), Asked())


# --- tar files -------------------------------------------------------------------------------------------------------


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


SAMPLES = {
    "a/000.jpg": b"first",
    "a/000.cls": b"1",
    "a/001.cls": b" 0\n",
    "a/001.png": b"second" * 300,
    "a/001.json": b"{}",
}


def test_shards_are_read_where_they_lie(tmp_path: Path) -> None:
    paths = [
        shard(tmp_path / "0.tar", SAMPLES),
        shard(tmp_path / "1.tar", {"long" * 40 + ".jpg": b"x", "long" * 40 + ".cls": b"2"}),
    ]
    images = tar_files(paths, cache_dir=tmp_path / "cache")
    assert everything(images) == [("1", b"first"), ("0", b"second" * 300), ("2", b"x")]
    again = tar_files(paths, classes=("ape", "bear", "cat"), cache_dir=tmp_path / "cache")
    assert [label for label, _ in everything(again)] == ["bear", "ape", "cat"]
    assert str(tmp_path / "1.tar") in images.called(2)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"a.jpg": b"x"}, r"a\.\* has no class beside it; expected a.cls"),
        ({"a.jpg": b"x", "a.cls": b"cat"}, "expected the number of a class in each .cls file"),
        ({"a.txt": b"x"}, "expected images .* found none"),
    ],
)
def test_shards_that_do_not_fit(tmp_path: Path, members: dict[str, bytes], says: str) -> None:
    with pytest.raises(InputError, match=says):
        tar_files([shard(tmp_path / "0.tar", members)], cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("left", [700, 1400, 100])
def test_a_shard_that_is_cut_short(tmp_path: Path, left: int) -> None:
    path = shard(tmp_path / "0.tar", SAMPLES)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InputError, match="expected a whole tar file, found one that is cut short"):
        tar_files([path], cache_dir=tmp_path / "cache")


def test_more_classes_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected classes 0 to 0, found 1"):
        tar_files([shard(tmp_path / "0.tar", SAMPLES)], classes=("ape",), cache_dir=tmp_path / "cache")
