"""Files that a command writes: of the kind that their name says, and none overwritten unasked."""

from collections.abc import Sequence
from pathlib import Path

from reslab.errors import InputError, writing

PICTURES = (".png", ".svg", ".pdf")
PAGES = (".html", ".htm")


def check_target(option: str, path: Path | None, suffixes: Sequence[str] = (), *, force: bool) -> None:
    """Raises `InputError` for a name of another kind than ``suffixes``, and for a file that is there unless ``force``.

    ``option`` is how the command line calls it, empty for an argument without a name. Called before anything is
    computed: hours may lie between the check and the file.
    """
    if path is None:
        return
    called = f"{option} {path}".strip()
    with writing(called):
        if path.is_dir():
            raise InputError(f"{called} is a folder; name a file in it")
        if suffixes and path.suffix.lower() not in suffixes:
            *others, last = suffixes
            kinds = f"{', '.join(others)} or {last}" if others else last
            raise InputError(f"{called}: expected a name that ends in {kinds}")
        if path.exists() and not force:
            raise InputError(f"{called} exists; name another file, or overwrite it with --force")


def check_folder(option: str, folder: Path, names: Sequence[str] = (), *, force: bool) -> None:
    """Raises `InputError` if the folder is a file, or holds one of ``names`` already, unless ``force``."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{option} {folder}: expected a folder, but there is a file of that name")
    there = [name for name in names if (folder / name).exists()]
    if there and not force:
        raise InputError(
            f"{option} {folder} holds {', '.join(there[:3])}{', ...' if there[3:] else ''} already; name another "
            "folder, or overwrite them with --force"
        )
