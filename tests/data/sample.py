"""Tiny real data, made on the spot: PNG files by Pillow, Parquet files by pyarrow."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(number: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    """A picture that no other number gives; ``size`` is (width, height)."""
    draw = np.random.default_rng(number)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8))


def png(number: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    picture(number, size, mode).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(
    file: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None],
    *,
    names: Sequence[str] | None = None,
    image: str = "img",
    label: str = "label",
) -> None:
    """One file in the layout of the Hugging Face hub."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": data, "path": None} for data in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(cells, kind), label: pa.array(labels, pa.int64())})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, file)


def write_images(folder: Path, count: int, *, size: tuple[int, int] = (8, 8), first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(first + i, size).save(folder / f"{first + i:03d}.png")
