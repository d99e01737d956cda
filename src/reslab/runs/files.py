"""Files that a reader never sees half written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reslab.errors import InputError


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Calls ``write`` with a temporary path in the same folder, then renames it to ``path``.

    Whatever happens before the rename (a full disk, ``kill -9``), the old file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_temporary(path: Path) -> bool:
    """Whether this is what `write_atomic` writes to before the rename; a kill leaves it behind."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically, making its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, in UTF-8, with the line ends that the text has."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes readable JSON atomically. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file; a missing or damaged one is an `InputError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"expected the file {path}, but it does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: expected JSON, got {error}") from None


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Appends one JSON object as a line, in a single write, and sees it to the disk."""
    with path.open("ab") as handle:
        handle.write(as_line(value).encode())
        handle.flush()
        os.fsync(handle.fileno())  # a checkpoint that outlives a power cut must not be ahead of the metrics


def as_line(value: dict[str, Any]) -> str:
    """One line of a JSON-lines file."""
    return json.dumps(value, allow_nan=False) + "\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file. A last line cut short by a kill is left out."""
    if not path.exists():
        return []
    values = []
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError:
            if number == len(lines):
                break
            raise InputError(f"{path}, line {number} is damaged: expected a JSON object, got {line[:60]!r}") from None
    return values
