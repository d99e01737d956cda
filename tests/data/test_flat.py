"""Evaluation on the layouts that ImageNet's validation images come in: flat with a list, archives, shards."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from reslab.data.decode.whole import Fit
from reslab.data.labels import ilsvrc
from reslab.data.layouts.label_list import matches as is_flat
from reslab.data.stream import Listing, listing
from reslab.data.views import Views
from reslab.errors import InputError

from .sample import picture, png, write_images

IDS = ("n01440764", "n02123045", "n15075141")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Four images of three classes, and no list."""
    write_images(tmp_path / "val", 4)
    return tmp_path / "val"


LISTED = "000.png n02123045\n001.png n01440764\n002.png n15075141\n003.png n02123045\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESLAB_CACHE", str(tmp_path / "cache"))


def original(number: int) -> torch.Tensor:
    return torch.from_numpy(np.array(picture(number))).permute(2, 0, 1)


def named(found: Listing | None) -> list[str]:
    assert found is not None
    return [found.classes[label] for label in found.labels.tolist()]


def pixels(found: Listing | None) -> Iterator[torch.Tensor]:
    assert found is not None
    for view in Views(found, Fit((8, 8)), batch=2, unit=(8, 8)):
        yield from view.parts[0]


def test_a_list_beside_inside_or_named(flat: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(LISTED)
    for place in (None, tmp_path / "val.txt", flat / "val.txt", tmp_path / "LOC_val_solution.csv"):
        if place is not None:
            text = LISTED if place.suffix == ".txt" else "ImageId,PredictionString\n" + LISTED.replace(" ", ",")
            place.write_text(text)
        found = listing(str(flat), "test", labels=tmp_path / "mine.txt" if place is None else None, namings=[ilsvrc()])
        assert named(found) == [IDS[1], IDS[0], IDS[2], IDS[1]]
        assert found is not None
        assert found.classes == ilsvrc()
        assert not found.loadable
        assert f"classes by {'mine.txt' if place is None else place.name}" in found.source
        for i, image in enumerate(pixels(found)):
            assert torch.equal(image, original(i))
        if place is not None:
            place.unlink()


@pytest.mark.parametrize(
    ("words", "namings", "classes", "expected"),
    [
        (("b", "a", "c", "b"), [], ("a", "b", "c"), "bacb"),  # sorted words
        (("b", "a", "c", "b"), [("c", "b", "a", "z")], ("c", "b", "a", "z"), "bacb"),  # the network's own names
        (("b", "a", "c", "b"), [("x", "y", "z"), ("a", "c", "b")], ("a", "c", "b"), "bacb"),  # the next that fits
        (("2", "0", "1", "2"), [("x", "y", "z")], ("x", "y", "z"), "zxyz"),  # numbers count the network's
        (("1", "0", "2", "1"), [("2", "1", "0"), ("0", "1", "2")], ("2", "1", "0"), "1021"),  # names that are numbers
        (("1", "0", "2", "1"), [], ("0", "1", "2"), "1021"),
    ],
)
def test_what_the_words_of_a_list_mean(
    words: tuple[str, ...], namings: list[tuple[str, ...]], classes: tuple[str, ...], expected: str, flat: Path
) -> None:
    (flat / "val.txt").write_text("".join(f"00{i} {word}\n" for i, word in enumerate(words)))
    found = listing(str(flat), "all", namings=namings)
    assert found is not None
    assert found.classes == classes
    assert "".join(named(found)) == expected


def test_flat_images_without_what_they_need(flat: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have no list of labels; give a list by --labels"):
        listing(str(flat), "test")
    (flat / "val.txt").write_text(LISTED)
    with pytest.raises(InputError, match="there are none to train on; use --split test or all"):
        listing(str(flat), "train")
    (flat / "val.txt").write_text(LISTED.replace("003.png", "004.png"))
    with pytest.raises(InputError, match=r"val\.txt line 4 names 004\.png, which is not in"):
        listing(str(flat), "test")
    with pytest.raises(InputError, match=r"nolist\.txt: expected a text file of names and classes"):
        listing(str(flat), "test", labels=tmp_path / "nolist.txt")


def train_beside(flat: Path) -> Path:
    for number, name in enumerate(IDS):
        write_images(flat.parent / "train" / name, 2, first=10 * number)
    return flat.parent


def test_a_flat_validation_folder_beside_training_images(flat: Path) -> None:
    root = train_beside(flat)
    (root / "val.txt").write_text(LISTED)
    assert named(listing(str(root), "test")) == [IDS[1], IDS[0], IDS[2], IDS[1]]
    assert named(listing(str(root), "train")) == [name for name in IDS for _ in range(2)]
    every = listing(str(root), "all")
    assert len(named(every)) == 10
    assert len(list(pixels(every))) == 10
    (root / "val.txt").unlink()
    with pytest.raises(InputError, match="the images are not in class folders and have no list of labels"):
        listing(str(root), "test")
    (root / "mine.txt").write_text(LISTED)
    assert len(named(listing(str(root), "test", labels=root / "mine.txt"))) == 4


def test_a_list_that_is_not_needed(tmp_path: Path) -> None:
    for name in IDS:
        write_images(tmp_path / "train" / name, 1)
        write_images(tmp_path / "val" / name, 1)
    (tmp_path / "mine.txt").write_text(LISTED)
    with pytest.raises(InputError, match=r"--labels is for .* not in class folders, and .*val has class folders"):
        listing(str(tmp_path), "test", labels=tmp_path / "mine.txt")
    assert len(named(listing(str(tmp_path), "test"))) == 3


def shard(path: Path, classes: list[int], first: int) -> None:
    with tarfile.open(path, "w") as tar:
        for i, label in enumerate(classes, first):
            for name, content in ((f"{i:04d}.png", png(i)), (f"{i:04d}.cls", str(label).encode())):
                about = tarfile.TarInfo(name)
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))


def test_shards(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    shard(root / "train-0.tar", [0, 1, 2], 0)
    shard(root / "val-0.tar", [2, 1], 10)
    shard(root / "val-1.tar", [0], 12)
    found = listing(str(root), "test")
    assert named(found) == ["2", "1", "0"]
    for i, image in enumerate(pixels(found), 10):
        assert torch.equal(image, original(i))
    assert found is not None
    assert len(set(found.keys)) == 3
    assert all(not key.startswith("/") for key in found.keys), "wherever they lie"


def test_what_is_flat(tmp_path: Path) -> None:
    write_images(tmp_path / "flat", 1)
    write_images(tmp_path / "classes" / "a", 1)
    write_images(tmp_path / "both", 1)
    write_images(tmp_path / "both" / "a", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat" / ".hidden").mkdir()
    assert [is_flat(tmp_path / name) for name in ("flat", "classes", "both", "empty")] == [True, False, False, False]
