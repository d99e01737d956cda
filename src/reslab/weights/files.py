"""Files of weights: safetensors, and PyTorch's pickles of tensors. Nothing in a file is ever executed."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from reslab.errors import InputError
from reslab.weights.names import Which
from reslab.weights.pickles import unpickled
from reslab.weights.wrapped import unwrapped

PICKLES = (".pth", ".pt", ".th", ".tar")
"""What PyTorch's own files are called."""


@dataclass(frozen=True)
class Stored:
    """The contents of a weights file."""

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    """what this package wrote beside the weights; empty for other files"""
    said: tuple[str, ...] = ()
    """what had to be unwrapped"""
    which: Which | None = None
    """average or not, where the file says"""


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits of BLAKE2b over names, types, shapes and numbers."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_bytes(tensors: Mapping[str, Tensor], header: dict[str, Any]) -> bytes:
    """Safetensors with a JSON header of ours, and in it a digest of the tensors, by which damage is found."""
    plain: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        plain[name] = own.clone() if place in places else own  # safetensors refuses tensors that share memory
        places.add(place)
    # One entry alone: safetensors writes several in random order, and equal weights should give equal files.
    ours = json.dumps(header | {"digest": digest_of(plain)}, allow_nan=False) if header else None
    return serialized(plain, metadata=None if ours is None else {"reslab": ours})


def pickled(tensors: Mapping[str, Tensor]) -> bytes:
    """A state dict as ``torch.save`` writes it, for ``torch.load(..., weights_only=True)``."""
    buffer = io.BytesIO()
    torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, buffer)
    return buffer.getvalue()


def read(path: Path, which: Which | None = None) -> Stored:
    """Reads a file of weights, whatever its suffix; ``which`` of those in it, where it holds several.

    Raises `InputError` for a file that is not there, is cut short, holds anything but tensors and plain
    values (refused, and not executed), or holds no weights.
    """
    try:
        with path.open("rb") as handle:
            start = handle.read(16)
    except FileNotFoundError:
        raise InputError(f"expected weights at {path}, but there is no such file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); give a file of weights") from None
    # PyTorch's archives and pickles may have any name, but what is called safetensors is never unpickled.
    if path.suffix != ".safetensors" and (start[:2] == b"PK" or start[:1] == b"\x80"):
        found = unwrapped(unpickled(path), path, which)
        _check_plain(found.tensors, path)
        return Stored(found.tensors, {}, found.said, found.which)
    if other := _other_kind(path, start):
        folder = path.parent
        of = f"; 'reslab export' wrote it: name its folder, {folder}" if (folder / "metadata.json").is_file() else ""
        raise InputError(f"{path} is {other}; PyTorch's and safetensors files are read{of}")
    tensors, header = read_safetensors(path)
    if header:
        return Stored(tensors, header)
    found = unwrapped(tensors, path, which)
    return Stored(found.tensors, {}, found.said, found.which)


_KINDS = ((b"\x89HDF\r\n", "an HDF5 file (Keras, TensorFlow)"), (b"\x1f\x8b", "compressed by gzip: unpack it first"))
_SUFFIXES = {
    ".onnx": "an ONNX model", ".pb": "a TensorFlow graph", ".tflite": "a TensorFlow Lite model",
    ".msgpack": "a Flax file", ".xml": "an OpenVINO model", ".pt2": "an exported program",
}  # fmt: skip


def _other_kind(path: Path, start: bytes) -> str:
    """Names the format of a file written by another library; empty if it may be one of ours."""
    return next((what for magic, what in _KINDS if start.startswith(magic)), _SUFFIXES.get(path.suffix.lower(), ""))


_UNREADABLE = (SafetensorError, OSError, ValueError, TypeError, RecursionError)


def header_of(path: Path) -> dict[str, Any]:
    """Our header of a safetensors file, of which no tensor is read; empty where it is none, or another's."""
    try:
        with safe_open(path, framework="pt") as handle:
            meta = (handle.metadata() or {}).get("reslab")
        return dict(json.loads(meta)) if meta else {}
    except _UNREADABLE:
        return {}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, and our header (empty if another program wrote it)."""
    try:
        with safe_open(path, framework="pt") as handle:
            meta = (handle.metadata() or {}).get("reslab")
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        header = dict(json.loads(meta)) if meta else {}
    except FileNotFoundError:
        raise InputError(f"expected a checkpoint at {path}, but there is no such file") from None
    except _UNREADABLE as error:
        what = "file of weights" if path.suffix in PICKLES else "safetensors file"
        raise InputError(f"{path} is not a whole {what} ({error}); it was refused, and none of it was run") from None
    written = header.pop("digest", None)  # which files of earlier versions have not
    if written is not None and written != (found := digest_of(tensors)):
        raise InputError(
            f"{path} was damaged or altered since it was written: expected numbers with the digest {written}, found "
            f"{found}; get the file again, or resume from an earlier checkpoint"
        )
    return tensors, header


def _check_plain(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuses tensors without numbers of their own: sparse, quantised, on no device, or larger than what is stored."""
    for name, tensor in tensors.items():
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            kind = f"{tensor.layout}, {tensor.dtype}, on {tensor.device}".replace("torch.", "")
            raise InputError(
                f"{path}: expected ordinary tensors, found '{name}' ({kind}); it was refused, and none of it was run. "
                "Save its values as floating-point numbers on the CPU"
            )
