"""What there is in a folder is counted and named before anything is learnt from it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reslab.data.find import find
from reslab.errors import InputError
from reslab.transfer.look import Look, look

from .pictures import folder, picture


def seen(root: Path, cache: Path) -> Look:
    return look(find(root), cache_dir=cache)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Six pictures a class, a grey one, a wide one, a turned one, a text, a damaged one, two of one picture."""
    root = folder(tmp_path / "odd", 6)
    picture("red", 0).convert("L").save(root / "red" / "grey.png")
    picture("red", 77).resize((40, 20)).save(root / "red" / "wide.png")
    turned = Image.Exif()
    turned[274] = 6
    picture("blue", 88).resize((40, 20)).save(root / "blue" / "turned.jpg", exif=turned)
    (root / "green" / "text.jpg").write_text("no picture")
    whole = (root / "green" / "000.png").read_bytes()
    (root / "green" / "short.png").write_bytes(whole[: len(whole) // 2])
    picture("blue", 3).resize((30, 30)).save(root / "blue" / "larger.jpg", quality=90)
    (root / "red" / "notes.txt").write_text("hello")
    return root


def test_all_is_counted(odd: Path, tmp_path: Path) -> None:
    found = seen(odd, tmp_path / "cache")
    about = found.as_dict()
    assert about["images"] == 18 + 3 + 3
    counts = {"blue": 8, "green": 6, "red": 8}
    assert about["classes"] == {name: {"train": n, "validation": 0, "test": 0} for name, n in counts.items()}
    assert not about["own_test_split"]
    assert about["shorter_side"] == {"least": 16, "median": 16, "most": 30}
    assert about["modes"] == {"RGB": 21, "L": 1}
    assert about["turned"] == 1
    assert found.sizes[found.names.index(str(odd / "blue" / "turned.jpg"))].tolist() == [40, 20]
    assert {Path(name).name: bool(why) for name, why in about["damaged"].items()} == {
        "text.jpg": True, "short.png": True
    }  # fmt: skip
    assert "notes.txt" in about["unused"]


def test_one_picture_in_two_files_is_found(odd: Path, tmp_path: Path) -> None:
    groups = seen(odd, tmp_path / "cache").as_dict()["same_picture"]
    names = [sorted(Path(name).name for name in group) for group in groups]
    assert ["003.png", "larger.jpg"] in names
    assert ["000.png", "grey.png"] in names


def test_it_is_looked_at_anew_only_when_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = folder(tmp_path / "some", 18), tmp_path / "cache"
    first = seen(root, cache)

    def refuse(*_: object) -> None:
        raise AssertionError("looked at again")

    with monkeypatch.context() as patched:
        patched.setattr("reslab.transfer.look._one", refuse)
        again = seen(root, cache)
    assert np.array_equal(first.sizes, again.sizes)
    assert first.twins == again.twins
    picture("red", 5, 24).save(root / "red" / "005.png")
    assert sorted({int(side) for side in seen(root, cache).sizes[:, 0]}) == [16, 24]


def test_the_damaged_are_named_as_many_as_asked_for(tmp_path: Path) -> None:
    root = folder(tmp_path / "few", 2)
    for i in range(5):
        (root / "red" / f"text{i}.jpg").write_text("no picture")
    (root / "red" / "zlink.jpg").symlink_to("gone.jpg")
    found = seen(root, tmp_path / "cache")
    few = found.warnings()[0]
    assert "6 images cannot be decoded" in few
    assert few.endswith("; and 3 more")
    all_of_them = found.warnings(100)[0]
    assert "text4.jpg" in all_of_them
    assert "zlink.jpg (cannot be read (No such file or directory); mend or" in all_of_them
    assert "more" not in all_of_them


def test_one_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one" / "red").mkdir(parents=True)
    picture("red", 1).save(tmp_path / "one" / "red" / "1.png")
    with pytest.raises(InputError, match="at least two classes to tell apart, found one, 'red'"):
        seen(tmp_path / "one", tmp_path / "cache")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    import struct
    import zlib

    root = folder(tmp_path / "bomb", 2)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(90_001))) + chunk(b"IEND", b"")
    (root / "red" / "bomb.png").write_bytes(png)
    damaged = seen(root, tmp_path / "cache").as_dict()["damaged"]
    assert list(damaged) == [str(root / "red" / "bomb.png")]
    assert "found 900,000,000; make it smaller" in next(iter(damaged.values()))


def test_a_folder_without_one_whole_image(tmp_path: Path) -> None:
    for name in ("red", "blue"):
        (tmp_path / "text" / name).mkdir(parents=True)
        (tmp_path / "text" / name / "1.jpg").write_text(name)
    with pytest.raises(
        InputError, match=r"none of its 2 files can be decoded; of .*blue/1.jpg: expected a whole image"
    ):
        seen(tmp_path / "text", tmp_path / "cache")
