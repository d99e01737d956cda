"""Runs kept at an address that machines share (``s3://bucket/study``, ``file:///mnt/study``), by fsspec."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from reslab import runs
from reslab.errors import InputError

EVERY = 20.0
"""Seconds between copies of a run that is under way."""
PAUSES = (1.0, 5.0, 30.0, 120.0)
"""Seconds between attempts at the last copy of a run."""
LEFT_OUT = (".lock", "tensorboard")


class Store:
    """Folders of runs under an address."""

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address.rstrip("/")
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"--store {address} cannot be used: {error}; it takes an address that fsspec knows, such as "
                "s3://bucket/folder (with s3fs installed) or file:///a/shared/folder"
            ) from None

    def check(self) -> None:
        """Raises `InputError` unless something can be written there."""
        probe = f"{self._root}/.writable"
        try:
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(probe, b"")
            self._files.rm_file(probe)
        except Exception as error:  # each file system has errors of its own
            raise InputError(f"--store {self.address} cannot be written: {error}") from None

    def pull(self, name: str, folder: Path, *, only: Sequence[str] = ()) -> None:
        """Brings a run here, over what is here of it; nothing if the address has none of it."""
        there = f"{self._root}/{name}"
        self._files.invalidate_cache()  # what another machine has written since
        if not self._files.exists(there):
            return
        for path in self._files.find(there):
            inside = path[path.index(there) + len(there) + 1 :]
            if only and inside not in only:
                continue
            target = folder / name / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            runs.write_atomic(target, partial(self._get, path))

    def _get(self, path: str, target: Path) -> None:
        self._files.get_file(path, str(target))

    def push(self, name: str, folder: Path) -> None:
        """Leaves a run there as it is here. A reader finds no checkpoint that is ahead of the metrics."""
        run, there = folder / name, f"{self._root}/{name}"
        # Listed first: what is recorded while files are on their way is then there for each of these.
        local = {p.relative_to(run).as_posix(): p for p in run.rglob("*") if p.is_file() and not _left_out(p, run)}
        ordered = sorted(local, key=lambda inside: (inside == "result.json", inside.startswith("checkpoints/"), inside))
        known = self._known(there)
        for inside in ordered:
            try:
                content = local[inside].read_bytes()
            except FileNotFoundError:
                continue  # an old checkpoint that was removed meanwhile
            if known.get(inside) != len(content) or not inside.startswith("checkpoints/"):
                self._put(f"{there}/{inside}", content)
        for inside in known.keys() - local.keys():
            self._files.rm_file(f"{there}/{inside}")

    def _known(self, there: str) -> dict[str, int]:
        if not self._files.exists(there):
            return {}
        found: dict[str, Any] = self._files.find(there, detail=True)
        return {path[path.index(there) + len(there) + 1 :]: int(about["size"]) for path, about in found.items()}

    def _put(self, path: str, content: bytes) -> None:
        """Writes under a temporary name where renaming is cheap; object stores write whole objects anyway."""
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        if self._files.protocol in ("file", ("file", "local")):
            self._files.pipe_file(f"{path}.tmp", content)
            self._files.mv(f"{path}.tmp", path)
        else:
            self._files.pipe_file(path, content)


def _left_out(path: Path, run: Path) -> bool:
    return path.relative_to(run).parts[0] in LEFT_OUT or runs.is_temporary(path)


@contextmanager
def mirrored(store: Store, names: Sequence[str], folder: Path) -> Iterator[None]:
    """Runs as they stand in the store; the first of them is copied back every now and then, and at the end."""
    for name in names:
        store.pull(name, folder)
    stop = threading.Event()

    def copy() -> None:
        while not stop.wait(EVERY):
            with suppress(Exception):  # each file system has errors of its own; there is a next time
                store.push(names[0], folder)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _patiently(partial(store.push, names[0], folder))


def _patiently(work: Callable[[], None]) -> None:
    """Again after a while, if it fails: hours of training are at stake."""
    for pause in PAUSES:
        try:
            return work()
        except Exception:  # as above
            time.sleep(pause)
    return work()
