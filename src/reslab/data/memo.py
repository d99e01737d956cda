"""Caches on disk where the images of a data set are stored."""

import hashlib
import logging
import os
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reslab.errors import InputError

_log = logging.getLogger("reslab")
Arrays = dict[str, npt.NDArray[Any]]


def default_dir() -> Path:
    """``$RESLAB_CACHE``, or ``reslab`` in the platform's cache folder (``~/.cache`` on Linux)."""
    if given := os.environ.get("RESLAB_CACHE"):
        return Path(given).expanduser()
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "reslab"
        base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
        return (Path(base) if base else Path.home() / ".cache") / "reslab"
    except RuntimeError as why:
        raise InputError("no home folder to keep a cache in; set RESLAB_CACHE to a folder") from why


def kept(
    cache_dir: Path | None, kind: str, stamp: object, make: Callable[[], Arrays],
    *, fresh: Callable[[Arrays], bool] = lambda found: True, worth: Callable[[Arrays], bool] = lambda found: True,
) -> Arrays:  # fmt: skip
    """Arrays from the cache, or made and put there. Whatever goes wrong with the cache costs time alone.

    Args:
        cache_dir: the folder, by default `default_dir`.
        kind: begins the file's name.
        stamp: what they are found anew for when it has changed; plain values.
        make: finds them.
        fresh: whether what was kept still holds, where the stamp cannot tell.
        worth: whether it took so long that it is to be kept.
    """
    key = hashlib.blake2b(repr(stamp).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    path = (cache_dir or default_dir()) / "listings" / f"{kind}-{key}.npz"
    try:
        with path.open("rb") as handle, np.load(handle) as stored:
            found = {name: stored[name] for name in stored.files}
        if fresh(found):
            return found
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        pass
    found = make()
    if not worth(found):
        return found
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(temporary, **found)  # type: ignore[arg-type]
        temporary.replace(path)
    except OSError as why:
        _log.warning("working without a list of the files: cannot write in %s (%s)", path.parent, why)
        temporary.unlink(missing_ok=True)
    return found
