"""A folder of Parquet files in the layout of the Hugging Face hub: encoded images beside integer labels."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from reslab.data.cache import cached
from reslab.data.decode import CHUNK, Encoded, Fit, check_memory, decode, survey
from reslab.data.images import Dataset, Decoded, ImageSet, a_fifth, dataset, decoded, held_out
from reslab.data.spec import Augment
from reslab.data.stored import Rows
from reslab.data.stream import Listing
from reslab.errors import InputError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_AUGMENT = Augment(pad=4, flip=True)
_TEST_NAMES = ("test", "validation", "valid", "val")  # the first that is there becomes the test set


@dataclass(frozen=True)
class _Layout:
    """What a folder holds, before any image is read."""

    root: Path
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    """empty: a fifth of the training images is held out"""
    test_name: str
    unused: tuple[str, ...]
    image: str
    label: str
    names: tuple[str, ...]
    """of the classes; empty if nothing says them"""


def load_parquet(
    path: Path, *, cache_dir: Path | None = None, fit: Fit | None = None, whole: bool = False, source: str | None = None
) -> Dataset:
    """Load ``train-*.parquet`` and ``test-*.parquet`` (or ``validation-*``; or hold out a fifth) of a folder.

    Images keep their size, which must then be the same for all, or are resized and
    cropped by ``fit``. They have one channel if all are grey, else three. The decoded images are
    cached by content. Raises InputError for a file that is damaged or missing, columns that are not there,
    labels out of range, images of differing sizes without ``fit``. With ``whole``
    both sets are all images.
    """
    layout = _examine(path)
    readme = path / "README.md"
    files = {p.relative_to(path).as_posix(): p for p in (*layout.train, *layout.test)}
    if readme.is_file():
        files["README.md"] = readme
    found = cached(
        path.resolve().name,
        files,
        lambda: _decode(layout, fit, whole),
        options=f"parquet {fit}{' whole' if whole else ''}",
        cache_dir=cache_dir,
    )
    remarks = [f"{split} files not used" for split in layout.unused]
    if whole:
        remarks.insert(0, "all images")
    elif not layout.test:
        remarks.insert(0, "a fixed fifth of each class held out as test set")
    elif layout.test_name != "test":
        remarks.insert(0, f"test set: its {layout.test_name} files")
    said = (source if source is not None else str(path)) + (f" ({', '.join(remarks)})" if remarks else "")
    name = _known_name(layout, found)
    return dataset(found, name=name or path.resolve().name, source=said, augment=CIFAR_AUGMENT if name else None)


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
    folders = sorted({str(f.parent.relative_to(root)) for f in train})
    if len(folders) > 1:
        raise InputError(
            f"{root}: expected one data set, found training files in {', '.join(folders)}; give the path of one"
        )
    for files in (train, test):
        _check_shards(files)
    schemas = [_schema(file) for file in (*train, *test)]
    columns = [_columns(file, schema) for file, schema in zip((*train, *test), schemas, strict=True)]
    if len(set(columns)) > 1:
        odd = next(i for i, c in enumerate(columns) if c != columns[0])
        raise InputError(
            f"{(*train, *test)[odd]}: expected the columns {' and '.join(columns[0])} as in {train[0].name}, "
            f"found {' and '.join(columns[odd])}; give files of one data set"
        )
    image, label = columns[0]
    names = _names_in_schema(schemas[0], label) or _names_in_readme(root / "README.md", label)
    return _Layout(root, tuple(train), tuple(test), test_name, tuple(sorted(splits)), image, label, names)


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


def _chunks(files: Sequence[Path], column: str) -> Iterator[list[Encoded]]:
    for file in files:
        row = 0
        try:
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(batch_size=CHUNK, columns=[column]):
                    cells = batch.column(0)
                    if pa.types.is_struct(cells.type):
                        cells = pc.struct_field(cells, "bytes")
                    yield [Encoded(f"{file} row {row + i}", data) for i, data in enumerate(cells.to_pylist())]
                    row += len(cells)
        except (pa.ArrowException, OSError) as why:
            raise _damaged(file, why) from why


def list_parquet(path: Path, split: str) -> Listing:
    """The images of a split ('test', 'train', 'all') of Parquet files, none of them decoded yet."""
    layout = _examine(path)
    files = {"train": layout.train, "test": layout.test or layout.train, "all": (*layout.train, *layout.test)}[split]
    labels = _labels(files, layout.label)
    said = "all images" if split == "all" else "a fixed fifth of each class held out as test set"
    found = Listing(
        path.resolve().name,
        str(path) + (f" ({said})" if split == "all" or not layout.test else ""),
        layout.names or _numbered(_labels(layout.train, layout.label), layout),
        labels,
        lambda: _chunks(files, layout.image),
        tuple(
            f"{file.relative_to(path).as_posix()} {file.stat().st_size} row {row}"
            for file in files
            for row in range(pq.read_metadata(file).num_rows)
        ),
    )
    if split == "all" or layout.test:
        return found
    listed = labels.tolist()
    out = held_out([str(i) for i in range(len(listed))], listed, a_fifth(Counter(listed)))
    return found.only(out if split == "test" else [not one for one in out])


def stored_rows(path: Path) -> tuple[Rows, Rows, str]:
    """The images of Parquet files, to be read one by one: to train on, to validate with, and where those come from.

    Raises `InputError` as `load_parquet` does, and where there are no validation files.
    """
    layout = _examine(path)
    if not layout.test:
        raise InputError(f"{path}: expected validation files beside train-*.parquet, found none")
    labels = [_labels(files, layout.label) for files in (layout.train, layout.test)]
    classes = layout.names or _numbered(labels[0], layout)
    found = []
    for files, targets in zip((layout.train, layout.test), labels, strict=True):
        if int(targets.max()) >= len(classes) or int(targets.min()) < 0:
            raise InputError(f"{path}: expected labels 0 to {len(classes) - 1}, found {int(targets.max())}")
        groups = []
        for number, file in enumerate(files):
            with pq.ParquetFile(file) as opened:
                about = opened.metadata
                groups += [(number, group, about.row_group(group).num_rows) for group in range(about.num_row_groups)]
        found.append(Rows(files, layout.image, classes, tuple(groups), targets))
    return found[0], found[1], f"validation: its {layout.test_name} files"


def _decode(layout: _Layout, fit: Fit | None, whole: bool) -> Decoded:
    files = (*layout.train, *layout.test)
    labels = {"train": _labels(layout.train, layout.label)}
    if layout.test:
        labels["test"] = _labels(layout.test, layout.label)
    count = sum(len(part) for part in labels.values())
    if fit is not None:
        check_memory(count, 3, fit.crop, where=str(layout.root))
    headers = survey(lambda: _chunks(files, layout.image))
    if fit is None and len(headers.sizes) > 1:
        (one, first), (other, second) = list(headers.sizes.items())[:2]
        raise InputError(
            f"{layout.root}: expected images of one size, found {one[1]}x{one[0]} ({Path(first).name}) and "
            f"{other[1]}x{other[0]} ({Path(second).name}); give a size to resize them to"
        )
    fit = fit or Fit(next(iter(headers.sizes), (1, 1)))
    channels = 1 if headers.grey else 3
    check_memory(count, channels, fit.crop, where=str(layout.root))
    images = decode(
        lambda: _chunks(files, layout.image),
        count,
        channels=channels,
        fit=fit,
        what=f"decoding {layout.root.name}",
    )
    classes = layout.names or _numbered(labels["train"], layout)
    targets = torch.cat(tuple(labels.values()))
    if whole:
        train = test = ImageSet(images, targets)
    elif layout.test:
        n = len(labels["train"])
        train, test = ImageSet(images[:n], targets[:n]), ImageSet(images[n:], targets[n:])
    else:
        listed = targets.tolist()
        out = torch.tensor(held_out([str(i) for i in range(count)], listed, a_fifth(Counter(listed))), dtype=torch.bool)
        train, test = ImageSet(images[~out], targets[~out]), ImageSet(images[out], targets[out])
    return decoded(train, test, classes, where=str(layout.root))


def _numbered(labels: torch.Tensor, layout: _Layout) -> tuple[str, ...]:
    """Classes without names are called by their numbers, which must then have no gaps."""
    present = torch.unique(labels).tolist()
    if present != list(range(len(present))):
        raise InputError(
            f"{layout.root}: expected labels 0 to {len(present) - 1} for {len(present)} classes without "
            f"names, found {present[0]} to {present[-1]}; number them without gaps, or name them in README.md"
        )
    return tuple(str(i) for i in present)


def _known_name(layout: _Layout, found: Decoded) -> str | None:
    """``cifar10`` or ``cifar100`` if the folder or the classes say so and the images do not contradict it."""
    if found.train.images.shape[1:] != (3, 32, 32):
        return None
    folder = re.sub(r"[^a-z0-9]", "", layout.root.resolve().name.lower())
    if found.classes == CIFAR10 or (folder == "cifar10" and len(found.classes) == 10):
        return "cifar10"
    if len(found.classes) == 100 and (folder == "cifar100" or layout.label == "fine_label"):
        return "cifar100"
    return None
