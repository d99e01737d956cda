"""Small photographs of three classes, on disk in a way that training reads."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ("ant", "bee", "cow")


def photograph(i: int) -> bytes:
    """Of a colour that says its class, with a little noise."""
    noise = np.random.default_rng(i).integers(0, 60, (20 + i % 9, 24 + i % 5, 3))
    noise[..., i % 3] += 150
    handle = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(handle, "PNG")
    return handle.getvalue()


def in_folders(root: Path, *, flat: bool = False) -> Path:
    for split, numbers in (("train", range(36)), ("val", range(100, 115))):
        for i in numbers:
            folder = root / split if flat and split == "val" else root / split / CLASSES[i % 3]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i:03d}.png").write_bytes(photograph(i))
    if flat:
        (root / "val.txt").write_text("".join(f"{i}.png {CLASSES[i % 3]}\n" for i in range(100, 115)))
    return root


def in_shards(root: Path) -> Path:
    root.mkdir()
    for name, numbers in (("train-0", range(20)), ("train-1", range(20, 36)), ("val-0", range(100, 115))):
        with tarfile.open(root / f"{name}.tar", "w") as tar:
            for i in numbers:
                for kind, content in (("png", photograph(i)), ("cls", str(i % 3).encode())):
                    info = tarfile.TarInfo(f"{i:03d}.{kind}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return root


def in_tables(root: Path) -> Path:
    root.mkdir()
    for name, numbers in (("train", range(36)), ("validation", range(100, 115))):
        table = pa.table(
            {"image": [{"bytes": photograph(i), "path": None} for i in numbers], "label": [i % 3 for i in numbers]}
        )
        pq.write_table(table, root / f"{name}-00000-of-00001.parquet", row_group_size=7)
    return root
