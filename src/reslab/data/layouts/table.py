"""A table of paths and labels: a CSV, TSV or Parquet file, or a folder with one called metadata, labels or train.

Columns are told by their names: ``path`` (or ``file``, ``file_name``, ``filename``, ``filepath``, ``image``), ``label``
(or ``class``, ``category``, ``target``) and, where there are splits, ``split`` (or ``set``, ``subset``). Paths are
taken from the table's folder. It is what the Hugging Face hub's image folders (``metadata.csv``) and most exports have.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reslab.data.formats import Unused, is_image, is_nobodys
from reslab.data.layouts.found import TESTS, Asked, Found
from reslab.data.names import TABLES
from reslab.data.stored import Files
from reslab.errors import InputError

NAMES = ("metadata", "labels", "train")
PATHS = ("path", "file", "file_name", "filename", "filepath", "file_path", "image_path", "image")
LABELS = ("label", "class", "category", "target", "label_name", "class_name")
SPLITS = ("split", "set", "subset")
TRAIN = ("train", "training")
_EXAMPLES = 3


def table_in(root: Path) -> Path | None:
    """The table itself, or the one in a folder; None where there is none with columns of paths and labels."""
    if root.is_file():
        return root if root.suffix.lower() in TABLES else None
    here = (root / f"{name}{ending}" for name in NAMES for ending in TABLES)
    return next((path for path in here if path.is_file() and None not in _columns(path)[:2]), None)


def matches(root: Path) -> bool:
    """Whether there is a table of paths and labels."""
    return table_in(root) is not None


def find(root: Path, asked: Asked) -> Found:
    """The images that the table names.

    Raises:
        InputError: no such columns, a path that is not there, an image under two labels, an unknown split.
    """
    table = table_in(root)
    assert table is not None
    if asked.labels is not None:
        raise InputError(f"--labels is for images that are not in class folders, and {table.name} has labels")
    path, label, split = _columns(table)
    if path is None or label is None:
        raise InputError(
            f"{table}: expected a column of paths ({', '.join(PATHS[:3])}, ...) and one of labels "
            f"({', '.join(LABELS[:3])}, ...), found {', '.join(_header(table)) or 'no columns'}"
        )
    rows = _rows(table, path, label, split)
    base = table.parent
    _all_there(table, rows)
    classes = tuple(sorted({each for _, each, _ in rows}))
    words = {part for _, _, part in rows}
    name, *others = [*(word for word in TESTS if word in words), "", ""]
    train, test, validation = (
        _files(base, classes, [(place, each) for place, each, part in rows if part == word], asked)
        for word in (TRAIN[0], name, others[0])
    )
    if train is None:
        raise InputError(f"{table}: expected images to train on, but all are of the test split")
    said = f"test set: '{name}' in the column {split} of {table.name}" if test is not None else ""
    said += "".join(f", '{other}' not used" for other in others if other)
    return Found(
        root, train, test, said, None, _unlisted(base, {place for place, _, _ in rows}, table),
        (f"labels by {table.name}",), usual_size=32, validation=validation,
    )  # fmt: skip


def _header(table: Path) -> list[str]:
    try:
        if table.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            return list(pq.read_schema(table).names)
        with table.open(newline="", encoding="utf-8-sig") as handle:
            return next(csv.reader(handle, delimiter=_delimiter(table)), [])
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as why:
        raise InputError(f"{table}: expected a table, found a file that cannot be read as one ({why})") from None


def _delimiter(table: Path) -> str:
    return "\t" if table.suffix.lower() == ".tsv" else ","


def _columns(table: Path) -> tuple[str | None, str | None, str | None]:
    """The columns of paths, labels and splits, as they are called there."""
    known = {name.strip().lower(): name for name in _header(table)}
    path, label, split = (
        next((known[name] for name in names if name in known), None) for names in (PATHS, LABELS, SPLITS)
    )
    return path, label, split


def _lines(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with its line, the header being line 1; of Parquet its number from 1."""
    if table.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        yield from enumerate(pq.read_table(table).to_pylist(), 1)
        return
    with table.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle, delimiter=_delimiter(table))
        for row in reader:
            yield reader.line_num, row


def _rows(table: Path, path: str, label: str, split: str | None) -> list[tuple[str, str, str]]:
    """Place below the table's folder, label, and "train" or one of `TESTS`, each image once."""
    found: dict[str, tuple[str, str]] = {}
    for line, row in _lines(table):
        where, what = (
            str(row.get(path) or "").strip(),
            str(row.get(label) if row.get(label) is not None else "").strip(),
        )
        if not where or not what:
            raise InputError(f"{table} line {line}: expected a path and a label, found {where!r} and {what!r}")
        part = TRAIN[0]
        if split is not None:
            word = str(row.get(split) or "").strip().lower()
            if word not in (*TRAIN, *TESTS):
                raise InputError(
                    f"{table} line {line}: expected the split {', '.join((TRAIN[0], *TESTS))}, found {word!r}"
                )
            part = TRAIN[0] if word in TRAIN else word
        place = os.path.normpath(os.path.relpath(where, table.parent) if os.path.isabs(where) else where)
        if found.get(place, (what, part)) != (what, part):
            raise InputError(
                f"{table} line {line} gives {where} another label or split than a line before; keep one of them"
            )
        found[place] = (what, part)
    if not found:
        raise InputError(f"{table}: expected rows of paths and labels, found none")
    return [(place, what, part) for place, (what, part) in sorted(found.items())]


def _all_there(table: Path, rows: list[tuple[str, str, str]]) -> None:
    gone = [place for place, _, _ in rows if not (table.parent / place).is_file()]
    if gone:
        raise InputError(
            f"{table}: {len(gone)} of its {len(rows)} images cannot be found: {', '.join(gone[:_EXAMPLES])}"
            f"{', ...' if len(gone) > _EXAMPLES else ''}; paths are taken from {table.parent}; correct them, or remove "
            "these lines"
        )


def _files(base: Path, classes: tuple[str, ...], rows: list[tuple[str, str]], asked: Asked) -> Files | None:
    if not rows:
        return None
    number = {name: i for i, name in enumerate(classes)}
    return Files(
        base, classes, (".",), np.zeros(len(rows), np.int32), np.array([os.fsencode(place) for place, _ in rows]),
        torch.tensor([number[label] for _, label in rows]),
        oriented=True if asked.oriented is None else asked.oriented, base=base,
    )  # fmt: skip


def _unlisted(base: Path, listed: set[str], table: Path) -> Unused:
    """Images below the table's folder that it does not name."""
    others = []
    for folder, folders, names in os.walk(base):
        folders[:] = sorted(name for name in folders if not is_nobodys(name))
        for name in sorted(names):
            place = os.path.normpath(os.path.relpath(os.path.join(folder, name), base))
            if is_image(name) and place not in listed:
                others.append(place)
    if not others:
        return Unused()
    what = "1 image is" if len(others) == 1 else f"{len(others)} images are"
    return Unused(notes=[f"{what} not in {table.name} and not used, such as {others[0]!r}"])
