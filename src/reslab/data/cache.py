"""Decoded images kept on disk, so that the second start does not decode again.

An entry is one safetensors file named after a hash of the content it was made from, so it is never stale:
other content has another name. It is written in a temporary folder and moved, so that any number of
processes may build the same entry at once and none ever reads half of one. The cache is a convenience:
whatever goes wrong with it costs time, never the run.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from reslab.data.decode.whole import in_threads
from reslab.data.images import Decoded, ImageSet
from reslab.data.memo import default_dir
from reslab.errors import InputError

FORMAT = 2
"""Part of every key: raise it when decoding or the layout of the file changes."""
_ABANDONED = 24 * 3600.0  # seconds after which a temporary folder must belong to a process that was killed
_log = logging.getLogger("reslab")


def content_key(files: Mapping[str, Path], options: str = "") -> str:
    """24 hex digits of BLAKE2b over the format, ``options``, and each file's name, size and bytes.

    ``files`` maps the name that counts (relative to the source, so that a copy elsewhere has the same key) to
    where the file lies. CIFAR-10's 140 MB take about 0.3 s on one core. Raises InputError naming a file that
    cannot be read.
    """
    key = hashlib.blake2b(f"{FORMAT};{options};".encode(), digest_size=12)
    ordered = sorted(files.items())
    for (name, path), digest in zip(ordered, in_threads(_hash_file, iter(p for _, p in ordered)), strict=True):
        key.update(json.dumps([name, path.stat().st_size, digest]).encode())
    return key.hexdigest()


def cached(
    name: str,
    files: Mapping[str, Path],
    build: Callable[[], Decoded],
    *,
    options: str = "",
    cache_dir: Path | None = None,
) -> Decoded:
    """Returns ``build()``, from the cache if it was made from the same ``files`` and ``options`` before.

    ``name`` begins the file name, for people who look into the folder. Errors are those of ``build`` and
    of reading ``files``; a cache that is damaged, full or read-only is worked without.
    """
    folder = cache_dir if cache_dir is not None else default_dir()
    before = _stamps(files.values())
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:40] or "data"
    entry = folder / f"{slug}-{content_key(files, options)}.safetensors"
    if (found := _read(entry)) is not None:
        return found
    made = build()
    if _stamps(files.values()) == before:  # else the key may describe other bytes than were decoded
        _write(entry, made)
    return made


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    except OSError as why:
        raise InputError(f"{path}: expected a readable file, but {why.strerror or why}; repair or remove it") from why


def _stamps(paths: Iterable[Path]) -> list[tuple[int, int] | None]:
    stamps: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((stat.st_size, stat.st_mtime_ns))
    return stamps


def _read(entry: Path) -> Decoded | None:
    """The entry as views of the mapped file, or None if there is none that can be used."""
    try:
        with safe_open(str(entry), framework="pt") as file:
            about = json.loads((file.metadata() or {})["reslab"])
            one = bool(about.get("one_set"))
            train, test = (
                ImageSet(file.get_tensor(f"{split}.images"), file.get_tensor(f"{split}.labels"))
                for split in ("test" if one else "train", "test")
            )
        found = Decoded(train, test, tuple(about["classes"]), str(about["fingerprint"]))
        for images in (train, test):
            if not (
                images.images.dtype == torch.uint8
                and images.images.ndim == 4
                and images.labels.dtype == torch.int64
                and images.labels.shape == images.images.shape[:1]
            ):
                raise ValueError("unexpected shapes")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as why:
        _log.warning("cache entry %s is damaged (%s) and will be rebuilt", entry, why)
        return None
    return found


def _write(entry: Path, made: Decoded) -> None:
    """Put the entry in place in one step, or say in one line why not."""
    # A folder, not a file: safetensors makes temporary files of its own beside the one that it is to write.
    work = entry.with_name(f".{entry.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    one = made.train is made.test
    tensors = {
        f"{split}.{part}": tensor.contiguous()
        for split, images in (("test", made.test), *(() if one else (("train", made.train),)))
        for part, tensor in (("images", images.images), ("labels", images.labels))
    }
    about = json.dumps({"classes": made.classes, "fingerprint": made.fingerprint, "one_set": one})
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        _sweep(entry.parent)
        work.mkdir()
        save_file(tensors, work / "entry", metadata={"reslab": about})
        with (work / "entry").open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave the final name with missing content
        # safetensors gives the file to its owner alone; give it the rights that the user's umask gives
        (work / "entry").chmod(work.stat().st_mode & 0o666)
        os.replace(work / "entry", entry)
    except (OSError, SafetensorError) as why:
        _log.warning(
            "working without a cache: cannot write in %s (%s); set RESLAB_CACHE to another folder",
            entry.parent,
            why,
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed while writing have left."""
    for leftover in folder.glob(".*.safetensors.*.tmp"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _ABANDONED:
                shutil.rmtree(leftover)
