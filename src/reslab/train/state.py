"""Checkpoints: safetensors with the network's specification inside, written so that no kill can harm them."""

from pathlib import Path
from typing import Any

from torch import Tensor

from reslab.errors import InputError
from reslab.runs import write_atomic
from reslab.weights.files import read_safetensors, to_bytes

KEEP = 2
"""How many checkpoints stay: the last, and one to fall back on."""


def save(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Writes tensors and a JSON header atomically."""
    # Not by safetensors' save_file: it has temporary files and a mode of its own, and hides a full disk.
    write_atomic(path, lambda temporary: temporary.write_bytes(to_bytes(tensors, meta)))


def checkpoint_path(folder: Path, iteration: int) -> Path:
    """The path of an iteration's checkpoint."""
    return folder / f"iteration-{iteration:08d}.safetensors"


def save_checkpoint(folder: Path, iteration: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Writes a checkpoint, then removes all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    save(checkpoint_path(folder, iteration), tensors, {"iteration": iteration, **meta})
    for old in sorted(folder.glob("iteration-*.safetensors"))[:-KEEP]:
        old.unlink(missing_ok=True)


def any_checkpoint(folder: Path) -> bool:
    """Whether there is one, whole or not."""
    return any(folder.glob("iteration-*.safetensors"))


def newest_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint that can be read; None if there is none at all.

    Raises `InputError` naming the newest file if there are some and none is whole.
    """
    first: InputError | None = None
    for path in sorted(folder.glob("iteration-*.safetensors"), reverse=True):
        try:
            return read_safetensors(path)
        except InputError as error:
            first = first or error
    if first is not None:
        raise first
    return None
