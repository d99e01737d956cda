"""ImageNet's own archives, made small: nothing is unpacked, and classes go by the development kit."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from reslab.data.layouts.archives import DEVKIT, TRAIN, VAL, archives
from reslab.data.sources import load_photographs
from reslab.errors import InputError

IDS = {1: "n03", 2: "n01", 3: "n02"}
"""The challenge counts its classes in another order than the sorted one."""
TRUTH = [2, 1, 3, 1]
PLACES = {"n01": 2, "n02": 1, "n03": 3}


def tar_of(files: dict[str, bytes]) -> bytes:
    handle = io.BytesIO()
    with tarfile.open(fileobj=handle, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return handle.getvalue()


def kit(path: Path, truth: list[int]) -> None:
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(number, name, "words", "gloss", 0) for number, name in IDS.items()] + [(4, "n99", "all", "all", 3)]
    handle = io.BytesIO()
    savemat(handle, {"synsets": np.array(rows, dtype=kind)})
    content = {
        "meta.mat": handle.getvalue(),
        "ILSVRC2012_validation_ground_truth.txt": "\n".join(map(str, truth)).encode(),
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/data/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "imagenet"
    folder.mkdir()
    inner = {
        f"{name}.tar": tar_of({f"{name}_{i}.JPEG": f"{name} {i}".encode() for i in range(count)})
        for name, count in reversed(PLACES.items())
    }
    (folder / TRAIN).write_bytes(tar_of(inner))
    (folder / VAL).write_bytes(tar_of({f"ILSVRC2012_val_{i + 1:08d}.JPEG": f"val {i}".encode() for i in (2, 0, 3, 1)}))
    kit(folder / DEVKIT, TRUTH)
    return folder


def test_images_are_read_where_they_lie(root: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time from the list that was kept
        train, val = archives(root, cache_dir=tmp_path / "cache")
        assert train.classes == val.classes == ("n01", "n02", "n03")
        content = [train.read(i).decode() for i in range(len(train.labels))]
        assert content == ["n01 0", "n01 1", "n02 0", "n03 0", "n03 1", "n03 2"]
        assert [train.classes[label] for label in train.labels] == [text[:3] for text in content]
        assert [val.read(i) for i in range(4)] == [b"val 0", b"val 1", b"val 2", b"val 3"]
        assert [val.classes[label] for label in val.labels] == [IDS[number] for number in TRUTH]


def test_a_folder_with_the_archives_is_known(root: Path, tmp_path: Path) -> None:
    data = load_photographs(root, (8, 8), cache_dir=tmp_path / "cache")
    assert (data.info.n_train, data.info.n_test) == (6, 4)


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
def test_each_is_needed(root: Path, tmp_path: Path, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        archives(root, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", [TRAIN, VAL])
@pytest.mark.parametrize("share", [0.3, 0.75])
def test_an_archive_that_is_cut_short(root: Path, tmp_path: Path, name: str, share: float) -> None:
    whole = (root / name).read_bytes().rstrip(b"\0")
    (root / name).write_bytes(whole[: int(len(whole) * share) // 512 * 512])
    with pytest.raises(InputError, match="cut short or damaged"):
        archives(root, cache_dir=tmp_path / "cache")


def test_what_does_not_go_together(root: Path, tmp_path: Path) -> None:
    kit(root / DEVKIT, TRUTH[:3])
    with pytest.raises(InputError, match=r"has 4 images, but .* the classes of 3"):
        archives(root, cache_dir=tmp_path / "cache")
    kit(root / DEVKIT, [2, 1, 3, 7])
    with pytest.raises(InputError, match=r"class 7, which its meta\.mat does not know"):
        archives(root, cache_dir=tmp_path / "cache")
    (root / TRAIN).write_bytes(tar_of({"n01.tar": tar_of({"a.JPEG": b"a"})}))
    kit(root / DEVKIT, TRUTH)
    with pytest.raises(InputError, match="no images of n02"):
        archives(root, cache_dir=tmp_path / "cache")
    (root / DEVKIT).write_bytes(b"no archive")
    with pytest.raises(InputError, match="expected the challenge's development kit"):
        archives(root, cache_dir=tmp_path / "cache")
