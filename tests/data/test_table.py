"""A table of paths and labels is a data set; what it names and is not there is an error, what it leaves out is said."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from reslab.data.find import find
from reslab.data.parts import parts
from reslab.data.sources import load
from reslab.errors import InputError

ROWS = [(f"img {i}.png", ("owl", "fox")[i % 2], ("train", "val")[i % 4 == 3]) for i in range(12)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i, (name, _, _) in enumerate(ROWS):
        Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / name)
    return tmp_path


def write(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(header)
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["labels.csv", "metadata.tsv", "train.parquet", "anything.csv"])
@pytest.mark.parametrize(
    "columns", [("path", "label", "split"), ("file_name", "class", "set"), ("Filename", "Category", "subset")]
)
def test_it_is_found_whatever_its_columns_are_called(name: str, columns: tuple[str, ...], root: Path) -> None:
    table = root / name
    if table.suffix == ".parquet":
        pq.write_table(pa.table({c: [row[i] for row in ROWS] for i, c in enumerate(columns)}), table)
    else:
        write(table, columns, list(ROWS))
    found = find(table if name == "anything.csv" else root)
    assert found.classes == ("fox", "owl")
    split = parts(found)
    assert [split.test[0].called(i) for i in range(3)] == [str(root / ROWS[i][0]) for i in (11, 3, 7)]
    assert split.test[0].labels.tolist() == [0, 0, 0]
    assert len(split.train[0].labels) == 9
    data = load(str(table))
    assert (data.info.n_train, data.info.n_test, data.info.classes) == (9, 3, ("fox", "owl"))


def test_without_splits_a_fifth_is_held_out(root: Path) -> None:
    write(root / "labels.csv", ("path", "label"), [(root / name, label) for name, label, _ in ROWS])
    split = parts(find(root))
    assert len(split.train[0].labels) + len(split.test[0].labels) == 12
    assert len(split.test[0].labels) == 2


def test_what_it_leaves_out_is_said(root: Path) -> None:
    write(root / "labels.csv", ("path", "label"), [(name, label) for name, label, _ in ROWS[:10]])
    assert find(root).unused.said() == "2 images are not in labels.csv and not used, such as 'img 10.png'"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [("gone.png", "owl"), ("img 0.png", "owl")],
            "1 of its 2 images cannot be found: gone.png; paths are taken from",
        ),
        ([("img 0.png", "owl"), ("./img 0.png", "fox")], "line 3 gives ./img 0.png another label"),
        ([("img 0.png", "")], "line 2: expected a path and a label, found 'img 0.png' and ''"),
        ([], "expected rows of paths and labels, found none"),
    ],
)
def test_what_is_wrong_is_named(rows: list[tuple[object, ...]], says: str, root: Path) -> None:
    write(root / "labels.csv", ("path", "label"), rows)
    with pytest.raises(InputError, match=says.replace("(", r"\(").replace(".", r"\.")):
        find(root)


def test_other_tables(root: Path) -> None:
    table = write(root / "points.csv", ("x", "y"), [(1, 2)])
    with pytest.raises(InputError, match="found x, y"):
        find(table)
    with pytest.raises(InputError, match="expected the split train, test, val, validation, valid, found 'later'"):
        find(write(root / "labels.csv", ("path", "label", "split"), [("img 0.png", "owl", "later")]))
    (root / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as one"):
        find(root / "labels.csv")


def test_a_folder_called_valid_is_tested_on(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("valid", 2)):
        for name in ("fox", "owl"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((8, 8, 3), 30 * i, np.uint8)).save(tmp_path / part / name / f"{i}.png")
    split = parts(find(tmp_path))
    assert (len(split.train[0].labels), len(split.test[0].labels)) == (6, 4)
    assert "test set: its valid/" in split.source


def test_a_validation_split_beside_a_test_split(root: Path) -> None:
    parts_of = ["train", "val", "test", "train"] * 3
    write(
        root / "labels.csv", ("path", "label", "split"),
        [(name, label, part) for (name, label, _), part in zip(ROWS, parts_of, strict=True)],
    )  # fmt: skip
    found = find(root)
    assert [len(split.labels) for split in found.splits] == [6, 3, 3]
    assert found.validation is found.splits[1]
    split = parts(found)
    assert (len(split.train[0].labels), len(split.test[0].labels)) == (6, 3)
    assert "test set: 'test' in the column split of labels.csv, 'val' not used" in split.source
