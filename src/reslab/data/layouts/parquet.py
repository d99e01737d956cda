"""A folder of Parquet files in the layout of the Hugging Face hub: encoded images beside integer labels."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from reslab.data.layouts.found import Asked, Found
from reslab.data.spec import Augment
from reslab.data.stored import Rows
from reslab.errors import InputError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_AUGMENT = Augment(pad=4, flip=True)
_TEST_NAMES = ("test", "validation", "valid", "val")
"""The first that is there becomes the test set."""


@dataclass(frozen=True)
class _Layout:
    """What a folder holds, before any image is read."""

    root: Path
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    """empty: a fifth of the training images is held out"""
    test_name: str
    validation: tuple[Path, ...]
    """of another split beside the test split; empty if there is none"""
    unused: tuple[str, ...]
    image: str
    label: str
    names: tuple[str, ...]
    """of the classes; empty if nothing says them"""


def matches(root: Path) -> bool:
    """Whether there are Parquet files anywhere below."""
    return any(root.rglob("*.parquet"))


def find(root: Path, asked: Asked) -> Found:
    """The images of ``train-*.parquet`` and ``test-*.parquet`` (or ``validation-*``; or a fifth is held out).

    Images have one channel if all are grey, else three, and keep their size, which must then be the same for all.
    Raises `InputError` for a file that is damaged or missing, columns that are not there, labels out of range.
    """
    if asked.labels is not None:
        raise InputError(f"--labels is for images that are not in class folders, and {root} has Parquet files")
    layout = _examine(root)
    labels = _labels(layout.train, layout.label)
    classes = layout.names or _numbered(labels, layout)
    oriented = True if asked.oriented is None else asked.oriented
    train = _rows(layout, layout.train, labels, classes, oriented)
    test = None
    if layout.test:
        test = _rows(layout, layout.test, _labels(layout.test, layout.label), classes, oriented)
    files = {file.relative_to(root).as_posix(): file for file in (*layout.train, *layout.test)}
    readme = root / "README.md"
    if readme.is_file():
        files["README.md"] = readme
    validation = None
    if layout.validation:
        labels = _labels(layout.validation, layout.label)
        validation = _rows(layout, layout.validation, labels, classes, oriented)
    said = f"test set: its {layout.test_name} files" if layout.test_name not in ("", "test") else ""
    unused = tuple(f"{split} files not used" for split in layout.unused)
    return Found(root, train, test, said, lambda: files, remarks=unused, grey=True, validation=validation)


def _rows(
    layout: _Layout, files: Sequence[Path], labels: torch.Tensor, classes: tuple[str, ...], oriented: bool
) -> Rows:
    if len(labels) and (int(labels.max()) >= len(classes) or int(labels.min()) < 0):
        wrong = int(labels.max()) if int(labels.max()) >= len(classes) else int(labels.min())
        raise InputError(
            f"{layout.root}: expected labels from 0 to {len(classes) - 1} ({len(classes)} classes), found {wrong}; "
            "correct the label or the list of classes"
        )
    groups = []
    for number, file in enumerate(files):
        with pq.ParquetFile(file) as opened:
            about = opened.metadata
            groups += [(number, group, about.row_group(group).num_rows) for group in range(about.num_row_groups)]
    return Rows(tuple(files), layout.image, classes, tuple(groups), labels, layout.root, oriented)


def known_name(root: Path, classes: Sequence[str], size: tuple[int, ...]) -> str | None:
    """``cifar10`` or ``cifar100`` if the folder or the classes say so and the images (C, H, W) do not contradict it."""
    if size != (3, 32, 32):
        return None
    folder = re.sub(r"[^a-z0-9]", "", root.resolve().name.lower())
    if tuple(classes) == CIFAR10 or (folder == "cifar10" and len(classes) == 10):
        return "cifar10"
    if len(classes) == 100 and (folder == "cifar100" or _examine(root).label == "fine_label"):
        return "cifar100"
    return None


def _examine(root: Path) -> _Layout:
    splits: dict[str, list[Path]] = {}
    for file in sorted(root.rglob("*.parquet")):
        splits.setdefault(_split_of(file, root), []).append(file)
    train = splits.pop("train", [])
    if not train:
        others = sorted({f.name for files in splits.values() for f in files})
        raise InputError(
            f"{root}: expected Parquet files named train-*.parquet, found {', '.join(others[:4])}; rename them by split"
        )
    test_name = next((name for name in _TEST_NAMES if name in splits), "")
    test = splits.pop(test_name, [])
    validation = next((splits[name] for name in _TEST_NAMES if name in splits), [])
    folders = sorted({str(f.parent.relative_to(root)) for f in train})
    if len(folders) > 1:
        raise InputError(
            f"{root}: expected one data set, found training files in {', '.join(folders)}; give the path of one"
        )
    for files in (train, test, validation):
        _check_shards(files)
    every = (*train, *test, *validation)
    schemas = [_schema(file) for file in every]
    columns = [_columns(file, schema) for file, schema in zip(every, schemas, strict=True)]
    if len(set(columns)) > 1:
        odd = next(i for i, c in enumerate(columns) if c != columns[0])
        raise InputError(
            f"{every[odd]}: expected the columns {' and '.join(columns[0])} as in {train[0].name}, "
            f"found {' and '.join(columns[odd])}; give files of one data set"
        )
    image, label = columns[0]
    names = _names_in_schema(schemas[0], label) or _names_in_readme(root / "README.md", label)
    return _Layout(
        root, tuple(train), tuple(test), test_name, tuple(validation), tuple(sorted(splits)), image, label, names
    )  # fmt: skip


def _split_of(file: Path, root: Path) -> str:
    """``train-00000-of-00003.parquet``, ``train.parquet``, ``train/0000.parquet``: all of the split train."""
    word = re.split(r"[-_.]", file.stem)[0].lower()
    if word in ("train", *_TEST_NAMES) or file.parent == root:
        return word
    return file.parent.name.lower()


def _check_shards(files: Sequence[Path]) -> None:
    """A download that stopped half-way leaves whole files, but not all of them."""
    numbers = [re.search(r"-(\d{5})-of-(\d{5})", f.name) for f in files]
    present = {(int(m[1]), int(m[2])) for m in numbers if m}
    for total in {total for _, total in present}:
        if missing := sorted(set(range(total)) - {number for number, of in present if of == total}):
            raise InputError(
                f"{files[0].parent}: expected {total} files like {files[0].name}, "
                f"found none with number {missing[0]:05d}; fetch the data set again"
            )


def _schema(file: Path) -> Any:
    try:
        with pq.ParquetFile(file) as opened:
            return opened.schema_arrow
    except (pa.ArrowException, OSError) as why:
        raise _damaged(file, why) from why


def _damaged(file: Path, why: Exception) -> InputError:
    reason = str(why).splitlines()[0][:120] if str(why) else type(why).__name__
    return InputError(f"{file}: expected a whole Parquet file, found a damaged one ({reason}); fetch it again")


def _columns(file: Path, schema: Any) -> tuple[str, str]:
    chosen = []
    for what, known in (("image", IMAGE_COLUMNS), ("label", LABEL_COLUMNS)):
        name = next((k for k in known if k in schema.names), None)
        if name is None:
            raise InputError(
                f"{file}: expected a column of {what}s called {' or '.join(known)}, "
                f"found the columns {', '.join(schema.names)}; rename one"
            )
        chosen.append(name)
    image, label = chosen
    kind = schema.field(image).type
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            f"{file}: expected encoded images (bytes) in the column {image}, found {kind}; encode them as PNG"
        )
    if not pa.types.is_integer(schema.field(label).type):
        found = schema.field(label).type
        raise InputError(f"{file}: expected integers in the column {label}, found {found}; number the classes from 0")
    return image, label


def _names_in_schema(schema: Any, label: str) -> tuple[str, ...]:
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(str(name) for name in names)


def _names_in_readme(readme: Path, label: str) -> tuple[str, ...]:
    """The ``class_label`` names in the YAML head of a data card, read without a YAML library."""
    try:
        text = readme.read_text("utf-8", errors="replace")
    except OSError:
        return ()
    parts = text.split("---", 2)
    block = re.search(
        rf"- name: {re.escape(label)}\n\s+dtype:\n\s+class_label:\n\s+names:\n((?:\s+'?\d+'?: .*\n)+)",
        parts[1] if len(parts) == 3 else "",
    )
    if block is None:
        return ()
    pairs = re.findall(r"^\s+'?(\d+)'?: (.*)$", block[1], flags=re.MULTILINE)
    named = {int(number): name.strip().strip("'\"") for number, name in pairs}
    return tuple(named[i] for i in range(len(named))) if set(named) == set(range(len(named))) else ()


def _labels(files: Sequence[Path], column: str) -> torch.Tensor:
    parts = []
    for file in files:
        try:
            values = pq.read_table(file, columns=[column], partitioning=None).column(column)
        except (pa.ArrowException, OSError) as why:
            raise _damaged(file, why) from why
        if values.null_count:
            raise InputError(f"{file}: expected a label in every row, found {values.null_count} without; fill them in")
        parts.append(torch.tensor(values.cast(pa.int64()).to_numpy()))
    return torch.cat(parts)


def _numbered(labels: torch.Tensor, layout: _Layout) -> tuple[str, ...]:
    """Classes without names are called by their numbers, which must then have no gaps."""
    present = torch.unique(labels).tolist()
    if present != list(range(len(present))):
        raise InputError(
            f"{layout.root}: expected labels 0 to {len(present) - 1} for {len(present)} classes without "
            f"names, found {present[0]} to {present[-1]}; number them without gaps, or name them in README.md"
        )
    return tuple(str(i) for i in present)
