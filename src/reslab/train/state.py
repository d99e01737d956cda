"""Checkpoints: safetensors with the network's specification inside, written so that no kill can harm them."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets.spec import NetSpec
from reslab.runs import write_atomic

KEEP = 2
"""How many checkpoints stay: the last, and one to fall back on."""


def save(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Writes tensors and a JSON header atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry alone: safetensors writes several in random order, and equal runs should give equal files.
    header = {"reslab": json.dumps(meta, allow_nan=False)}
    # Not by save_file: it has temporary files and a mode of its own, and hides a full disk in its own error.
    write_atomic(path, lambda temporary: temporary.write_bytes(serialized(plain, metadata=header)))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads a checkpoint. A truncated file, or one that is no safetensors file, is refused and never executed."""
    try:
        with safe_open(path, framework="pt") as handle:
            meta = (handle.metadata() or {}).get("reslab")
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        return tensors, dict(json.loads(meta)) if meta else {}
    except FileNotFoundError:
        raise InputError(f"expected a checkpoint at {path}, but there is no such file") from None
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}); it was refused, and nothing in it run"
        ) from None


def save_weights(path: Path, net: nn.Module, spec: NetSpec, extra: dict[str, Any]) -> None:
    """Writes a network's weights under torchvision's names, with its specification in the header."""
    save(path, dict(net.state_dict()), {"net": spec.model_dump(mode="json"), **extra})


def load_weights(net: nn.Module, path: Path, spec: NetSpec) -> None:
    """Loads weights written by `save_weights`, if they are of this network."""
    tensors, meta = load(path)
    if meta.get("net") is not None:
        try:
            saved = NetSpec.model_validate(meta["net"])
        except ValidationError as error:
            raise InputError(
                f"{path} describes its network in a way that this version of reslab does not know "
                f"({error.errors()[0]['msg']})"
            ) from None
        if saved.model_copy(update={"name": spec.name}) != spec:
            raise InputError(f"{path} holds weights of '{saved.name}', not of '{spec.name}' as it is built here")
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise InputError(
            f"{path} does not fit '{spec.name}': {' '.join(line.strip() for line in lines[1:3])}"
        ) from None


def checkpoint_path(folder: Path, iteration: int) -> Path:
    """Where the checkpoint of an iteration lies."""
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
            return load(path)
        except InputError as error:
            first = first or error
    if first is not None:
        raise first
    return None
