"""Folders to load, each in a temporary place of its own."""

from pathlib import Path

import pytest

from .sample import png, write_images, write_parquet


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """12 training and 4 test images of 8 pixels in two named classes."""
    root = tmp_path / "pets"
    for shard in range(2):
        numbers = range(6 * shard, 6 * shard + 6)
        write_parquet(
            root / f"train-{shard:05d}-of-00002.parquet",
            [png(i) for i in numbers],
            [i % 2 for i in numbers],
            names=("cat", "dog"),
        )
    write_parquet(
        root / "test-00000-of-00001.parquet",
        [png(i) for i in range(12, 16)],
        [i % 2 for i in range(4)],
        names=("cat", "dog"),
    )
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``train/`` with 6 cats and 4 dogs, ``val/`` with 2 and 1, all 8 pixels."""
    root = tmp_path / "pets"
    write_images(root / "train" / "cat", 6)
    write_images(root / "train" / "dog", 4, first=10)
    write_images(root / "val" / "cat", 2, first=20)
    write_images(root / "val" / "dog", 1, first=30)
    return root
