"""Files of weights: safetensors, and PyTorch's pickles of tensors. Nothing in a file is ever executed."""

import hashlib
import io
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from reslab.errors import InputError

NESTS = ("state_dict", "model_state_dict", "model_state", "state_dict_ema", "model", "net", "network", "weights")
"""Where training scripts put the weights inside what they save, in the order of preference."""

PICKLES = (".pth", ".pt", ".th", ".tar")
"""What PyTorch's own files are called."""

PREFIXES = ("module", "_orig_mod", "model", "net", "network", "backbone", "encoder")
"""What wrappers put before every name: DataParallel, torch.compile, Lightning and others."""


@dataclass(frozen=True)
class Stored:
    """What a file holds."""

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    """what this package wrote beside the weights; empty for other files"""
    said: tuple[str, ...] = ()
    """what had to be unwrapped"""


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


def read(path: Path) -> Stored:
    """Reads a file of weights, whatever its suffix.

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
        return _unwrapped(_unpickled(path), path)
    tensors, header = read_safetensors(path)
    if header:
        return Stored(tensors, header)
    stripped, said = _stripped(tensors)
    return Stored(stripped, {}, said)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, and our header (empty if another program wrote it)."""
    try:
        with safe_open(path, framework="pt") as handle:
            meta = (handle.metadata() or {}).get("reslab")
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        header = dict(json.loads(meta)) if meta else {}
    except FileNotFoundError:
        raise InputError(f"expected a checkpoint at {path}, but there is no such file") from None
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        what = "file of weights" if path.suffix in PICKLES else "safetensors file"
        raise InputError(f"{path} is not a whole {what} ({error}); it was refused, and nothing in it run") from None
    written = header.pop("digest", None)  # which files of earlier versions have not
    if written is not None and written != (found := digest_of(tensors)):
        raise InputError(
            f"{path} was damaged or altered since it was written: expected numbers with the digest {written}, found "
            f"{found}; take it from where it came from, or train on from an earlier checkpoint"
        )
    return tensors, header


def _unpickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's message goes on for a page; what it met is named in one of the first lines.
        reason = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "")
        raise InputError(
            f"{path} holds more than tensors and plain values, and could run code when opened: it was refused, and "
            f"nothing in it run ({reason[:120] or 'not a plain pickle'}). Save its state_dict() alone, where you trust "
            f"it, and give that"
        ) from None
    except Exception as error:  # bytes from anywhere: a damaged archive fails in any of a dozen ways
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is not a whole file of weights ({first[:120]}); it was refused, and nothing in it run"
        ) from None


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def _unwrapped(loaded: Any, path: Path) -> Stored:
    said: list[str] = []
    for _ in range(3):
        if _is_state(loaded):
            tensors, more = _stripped({str(name): tensor for name, tensor in loaded.items()})
            _check_plain(tensors, path)
            return Stored(tensors, {}, (*said, *more))
        if not isinstance(loaded, Mapping):
            break
        nest = next((name for name in NESTS if isinstance(loaded.get(name), Mapping)), None)
        if nest is None:
            break
        said.append(f"taken from its '{nest}'")
        loaded = loaded[nest]
    found = f"keys {', '.join(map(str, list(loaded)[:5]))}" if isinstance(loaded, Mapping) else type(loaded).__name__
    raise InputError(
        f"{path}: expected a state dict (names to tensors), or one under {', '.join(NESTS[:5])}, ..., found {found}"
    )


def _check_plain(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuses tensors without numbers of their own: sparse, quantised, on no device, or larger than what is stored."""
    for name, tensor in tensors.items():
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            kind = f"{tensor.layout}, {tensor.dtype}, on {tensor.device}".replace("torch.", "")
            raise InputError(
                f"{path}: expected plain tensors, found '{name}' ({kind}); it was refused, and nothing in it run"
            )


def _stripped(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Without the prefixes of wrappers; and what was done."""
    gone: list[str] = []
    while tensors:
        first = {name.partition(".")[0] for name in tensors}
        if len(first) != 1 or (prefix := first.pop()) not in PREFIXES:
            break
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
        gone.append(prefix)
    said = (f"without the prefix '{'.'.join(gone)}.' of its names",) if gone else ()
    return tensors, said
