"""Confusion matrices as CSV and as pictures."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from reslab.errors import InputError
from reslab.report.confusion import check_format, save

MATRIX = [[5, 1, 0], [0, 4, 0]]
NAMES = ("a, b", "c")


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.reader(handle))


def test_csv_without_an_empty_column(tmp_path: Path) -> None:
    save(MATRIX, NAMES, tmp_path / "new" / "m.csv")
    assert rows(tmp_path / "new" / "m.csv") == [["class", "a, b", "c"], ["a, b", "5", "1"], ["c", "0", "4"]]


def test_csv_with_other_classes(tmp_path: Path) -> None:
    save([[5, 1, 2], [0, 4, 0]], NAMES, tmp_path / "m.CSV")
    assert rows(tmp_path / "m.CSV")[0] == ["class", "a, b", "c", "other"]
    assert rows(tmp_path / "m.CSV")[1] == ["a, b", "5", "1", "2"]


@pytest.mark.parametrize("count", [2, 30, 60])
def test_pictures(count: int, tmp_path: Path) -> None:
    matrix = [[int(i == j) * 7 for j in range(count + 1)] for i in range(count)]
    names = [f"class {i}" for i in range(count)]
    save(matrix, names, tmp_path / "m.png", title="ten-crop on val")
    with Image.open(tmp_path / "m.png") as image:
        assert min(image.size) > 600
        colours = image.convert("RGB").getcolors(10**7)
        assert colours is not None
        assert len(colours) > 2
    save(matrix, names, tmp_path / "m.svg", title="ten-crop on val")
    text = (tmp_path / "m.svg").read_text()
    assert text.startswith("<?xml")
    again = tmp_path / "again.svg"
    save(matrix, names, again, title="ten-crop on val")
    assert again.read_text() == text, "the same matrix, the same picture"
    save(matrix, names, tmp_path / "m.pdf")
    assert (tmp_path / "m.pdf").read_bytes().startswith(b"%PDF")


def test_a_class_without_images(tmp_path: Path) -> None:
    save([[0, 0, 0], [1, 1, 0]], NAMES, tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size > 1000


def test_what_cannot_be_written(tmp_path: Path) -> None:
    assert check_format(Path("a.b.SVG")) == "svg"
    with pytest.raises(InputError, match=r"as 'm\.jpg': end the name in \.png, \.svg, \.pdf or \.csv"):
        save(MATRIX, NAMES, tmp_path / "m.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"m\.csv cannot be written"):
        save(MATRIX, NAMES, tmp_path / "file" / "m.csv")
