"""The script that makes a Parquet data set smaller: the same data set, in parts."""

import importlib.util
import io
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, features

from reslab.data.sources import load

pytestmark = pytest.mark.skipif(not features.check("webp"), reason="Pillow was built without WebP")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    file = Path(__file__).parents[2] / "scripts" / "webp.py"
    spec = importlib.util.spec_from_file_location("webp_script", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["webp_script"] = module  # processes find their work by its name
    spec.loader.exec_module(module)
    return module


def png(number: int, mode: str = "RGB") -> bytes:
    side = np.random.default_rng(number)
    steps = side.integers(0, 5, (32, 32, 3)).cumsum(0) % 256
    target = io.BytesIO()
    Image.fromarray(steps.astype(np.uint8)).convert(mode).save(target, "PNG")
    return target.getvalue()


def write(folder: Path, file: str, count: int, first: int) -> None:
    rows = [{"bytes": png(first + i), "path": f"{i}.png"} for i in range(count)]
    about = {"info": {"features": {"img": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}
    table = pa.table({"img": rows, "label": [i % 2 for i in range(count)]})
    folder.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), folder / file)


class InThisProcess:
    """A pool of processes whose work is done at once."""

    def __init__(self, workers: int) -> None: ...

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *_: object) -> None: ...

    map = staticmethod(lambda function, each, chunksize: map(function, each))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_same_data_set(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    monkeypatch.setattr(script, "ProcessPoolExecutor", InThisProcess)
    source, together = tmp_path / "source", tmp_path / "together"
    for name, count, first in (("train-00000-of-00002", 6, 0), ("train-00001-of-00002", 5, 6), ("test", 4, 11)):
        write(source, f"{name}.parquet", count, first)
    sizes = script.convert(source, tmp_path / "out", parts, 60, 1)
    assert len(sizes) == parts
    together.mkdir()
    for file in (tmp_path / "out").glob("part-*/*.parquet"):
        shutil.copy(file, together)
    before, after = (load(str(folder), cache_dir=tmp_path / "cache") for folder in (source, together))
    assert after.info.classes == before.info.classes == ("a", "b")
    for one, other in ((before.train, after.train), (before.test, after.test)):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    table = pq.read_table(next(together.glob("train-*")))
    assert table["img"].to_pylist()[0]["bytes"][8:12] == b"WEBP"


def test_what_would_not_be_the_same_stays(script: ModuleType) -> None:
    grey = png(1, "L")
    assert script.smaller(grey) == grey
    small = script.smaller(png(2))
    assert script.smaller(small) == small


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_hold_each_row_once(script: ModuleType, parts: int) -> None:
    found = script.shared_out({"train": 50, "test": 10}, parts)
    for split, size in (("train", 50), ("test", 10)):
        rows = [number for part in found if split in part for number in range(*part[split])]
        assert rows == list(range(size))
    counts = [sum(stop - start for start, stop in part.values()) for part in found]
    assert max(counts) - min(counts) <= 1


def test_what_cannot_be(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "ProcessPoolExecutor", InThisProcess)
    with pytest.raises(SystemExit, match="expected Parquet files in"):
        script.convert(tmp_path, tmp_path / "out", 2, 60, 1)
    write(tmp_path / "source", "train.parquet", 4, 0)
    with pytest.raises(SystemExit, match=r"expected parts of at most 0.001 MiB, got .*: take more --parts"):
        script.convert(tmp_path / "source", tmp_path / "out", 1, 0.001, 1)
    with pytest.raises(SystemExit, match="expected a column of images"):
        script.column_of_images(pa.table({"label": [1]}))
