"""What a command leaves behind: a mark in its environment, which all that it starts inherit, tells its processes."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MARK = "RESLAB_TEST_MARK"


def marked(mark: str) -> list[str]:
    """The command lines of the processes alive that carry a mark, wherever they were adopted."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if f"{MARK}={mark}".encode() in environment and state != "Z":
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it has ended meanwhile, or is another user's
    return found


def left_behind(mark: str, *, within: float = 5) -> list[str]:
    """What of them is there still after some seconds, in which they may end."""
    end = time.monotonic() + within
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


@contextmanager
def command(*words: object, log: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """``reslab WORDS`` in a process of its own, and the mark of all that it starts; its output goes to ``log``."""
    mark = uuid.uuid4().hex
    line: Sequence[str] = [sys.executable, "-m", "reslab", *map(str, words)]
    with (
        log.open("wb") as out,
        subprocess.Popen(line, stdout=out, stderr=out, env=os.environ | {MARK: mark}) as process,
    ):
        try:
            yield process, mark
        finally:
            process.kill()
