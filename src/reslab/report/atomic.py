"""Writing a file so that a reader sees the old one or the new one, never half of one."""

import os
import tempfile
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary neighbour, flush it to the disk, and put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for text, as UTF-8 with the line ends that the text has."""
    write_bytes(path, content.encode("utf-8"))


def _umask() -> int:
    # A temporary file is private (0600); a report is as readable as any other new file of the user.
    # The mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
