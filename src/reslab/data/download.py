"""CIFAR-10 and CIFAR-100 by name: from the cache, else the Hugging Face hub, else torchvision's address."""

import importlib
import logging
import os
import socket
import tempfile
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reslab.data.cache import cached
from reslab.data.images import Dataset, Decoded, ImageSet, dataset, decoded
from reslab.data.memo import default_dir
from reslab.data.spec import Augment
from reslab.errors import InputError

PATIENCE = 6.0  # seconds to find out whether a server can be reached
STALL = 30.0  # seconds without a byte after which a download is given up
_log = logging.getLogger("reslab")


def _cifar10() -> Any:
    from torchvision.datasets import CIFAR10

    return CIFAR10


def _cifar100() -> Any:
    from torchvision.datasets import CIFAR100

    return CIFAR100


@dataclass(frozen=True)
class Remote:
    """Where a data set of the CIFAR family is published."""

    name: str
    hub: str
    """data set on the Hugging Face hub, in Parquet; empty: not there"""
    torchvision: Callable[[], Any]
    """returns the torchvision class, which knows the address, the files and their checksums"""


CIFAR = {
    "cifar10": Remote("cifar10", "uoft-cs/cifar10", _cifar10),
    "cifar100": Remote("cifar100", "uoft-cs/cifar100", _cifar100),
}


@dataclass(frozen=True)
class OnDisk:
    """A data set that was fetched as a folder."""

    folder: Path
    called: str
    """where it came from, for people"""


def load_remote(remote: Remote, *, cache_dir: Path | None = None) -> Dataset | OnDisk:
    """Fetch a published data set; what was fetched once is used without a network ever after.

    Returns:
        The data set; or the folder that it lies in, in a layout of `reslab.data.layouts`.

    Raises InputError, within seconds, if it is not in the cache and no server can be reached.
    """
    place = (cache_dir if cache_dir is not None else default_dir()) / "downloads"
    kind = remote.torchvision()
    if _is_whole(kind, place):
        return _read(remote, kind, place, cache_dir)
    failures: dict[str, str] = {}
    if (folder := _from_hub(remote, failures)) is not None:
        return OnDisk(folder, f"Hugging Face hub: {remote.hub}")
    return _from_torchvision(remote, kind, place, cache_dir, failures)


def _is_whole(kind: Any, place: Path) -> bool:
    """Whether all files have the checksums that torchvision knows (which also makes unpickling them safe)."""
    from torchvision.datasets.utils import check_integrity

    parts = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
    return all(check_integrity(str(place / kind.base_folder / name), md5) for name, md5 in parts)


def _read(remote: Remote, kind: Any, place: Path, cache_dir: Path | None) -> Dataset:
    files: Mapping[str, Path] = {
        name: place / kind.base_folder / name for name, _ in (*kind.train_list, *kind.test_list)
    }

    def build() -> Decoded:
        splits = []
        classes: tuple[str, ...] = ()
        for train in (True, False):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy deprecates something in the way these files were pickled
                part = kind(root=str(place), train=train, download=False)
            images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()  # (N, H, W, C) -> (N, C, H, W)
            splits.append(ImageSet(images, torch.tensor(part.targets)))
            classes = tuple(part.classes)
        return decoded(splits[0], splits[1], classes, where=remote.name)

    found = cached(remote.name, files, build, options="torchvision", cache_dir=cache_dir)
    return dataset(found, name=remote.name, source=f"torchvision: {kind.url}", augment=Augment(pad=4, flip=True))


def _from_hub(remote: Remote, failures: dict[str, str]) -> Path | None:
    """The folder of the hub's snapshot, from its own cache if there; None if the hub cannot give it."""
    if not remote.hub:
        return None
    try:
        # by name, so that the type checker says the same with and without this optional package
        snapshot_download = importlib.import_module("huggingface_hub").snapshot_download
    except ImportError:
        failures["Hugging Face hub"] = "huggingface_hub is not installed"
        return None
    wanted = {"repo_id": remote.hub, "repo_type": "dataset", "allow_patterns": ["*.parquet", "README.md"]}
    # The library raises errors of several HTTP clients, by version; whichever it is, there is one more place.
    with suppress(Exception):
        folder = _only_data_folder(Path(snapshot_download(**wanted, local_files_only=True)))
        if folder is not None:
            return folder
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if (why := _unreachable(endpoint)) is not None:
        failures["Hugging Face hub"] = why
        return None
    try:
        return _only_data_folder(Path(snapshot_download(**wanted)))
    except Exception as error:
        failures["Hugging Face hub"] = _short(error)
        return None


def _only_data_folder(snapshot: Path) -> Path | None:
    """The folder with the training files, or None if the snapshot has none (an interrupted download)."""
    folders = {file.parent for file in snapshot.rglob("train-*.parquet")}
    if len(folders) != 1 or not list(next(iter(folders)).glob("test-*.parquet")):
        return None
    return folders.pop()


def _from_torchvision(
    remote: Remote, kind: Any, place: Path, cache_dir: Path | None, failures: dict[str, str]
) -> Dataset:
    """Fetch into a folder of our own beside the final one, check, then move: nobody sees half a download."""
    from torchvision.datasets.utils import check_integrity

    archive = place / kind.filename
    usable = check_integrity(str(archive), kind.tgz_md5)
    if archive.is_file() and not usable:
        failures["cache"] = f"{archive.name} is damaged"
    if not usable and (why := _unreachable(kind.url)) is not None:
        raise _nowhere(remote, kind, place, {**failures, "torchvision": why})
    with _workspace(place) as name:
        work = Path(name)
        if usable:
            (work / archive.name).symlink_to(archive.resolve())
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(STALL)  # torchvision sets none, and would wait on a dead line for ever
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python 3.12+: tarfile wants a filter, torchvision gives none
                kind(root=name, download=True)
        except (OSError, RuntimeError) as error:
            raise _nowhere(remote, kind, place, {**failures, "torchvision": _short(error)}) from error
        finally:
            socket.setdefaulttimeout(before)
        if work.parent != place:  # the cache cannot be written
            return _read(remote, kind, work, cache_dir)
        final = place / kind.base_folder
        if not _is_whole(kind, place):
            with suppress(OSError):
                os.replace(final, work / "damaged")
            with suppress(OSError):  # another process may have put it there first; the check below decides
                os.replace(work / kind.base_folder, final)
        return _read(remote, kind, place if _is_whole(kind, place) else work, cache_dir)


def _workspace(place: Path) -> "tempfile.TemporaryDirectory[str]":
    try:
        place.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".fetching-", dir=place, ignore_cleanup_errors=True)
    except OSError as why:
        _log.warning("cannot keep the download in %s (%s); set RESLAB_CACHE to another folder", place, why)
        return tempfile.TemporaryDirectory(prefix="reslab-", ignore_cleanup_errors=True)


def _unreachable(url: str) -> str | None:
    """None if the server answers anything at all, else why not, in a few seconds.

    In a thread, because the look-up of a name obeys no time limit.
    """
    answer: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE):
                answer.append(None)
        except urllib.error.HTTPError:
            answer.append(None)
        except (OSError, ValueError) as error:
            answer.append(_short(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE + 1)
    return answer[0] if answer else f"no answer within {PATIENCE:.0f} s"


def _short(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    text = str(reason if reason is not None else error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__


def _nowhere(remote: Remote, kind: Any, place: Path, failures: Mapping[str, str]) -> InputError:
    tried = "; ".join(f"{where}: {why}" for where, why in failures.items())
    return InputError(
        f"{remote.name}: expected it in the cache or a network to fetch it, found neither ({tried}); "
        f"put {kind.filename} into {place}, or give the path of a local Parquet folder"
    )
