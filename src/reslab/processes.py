"""Processes beside this one, which end when it ends, however that comes about."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG


def end_with_parent(parent: int | None = None, _: int = 0) -> None:
    """In a process that another has started: it is killed as soon as the other is gone, by whatever cause.

    Without this a loader's worker whose parent was killed waits for ever for somebody to take its batch, with all of
    its memory, and holds what it has inherited: the pipe that the command writes to among others. On Linux the kernel
    sees to it (prctl(2), PR_SET_PDEATHSIG); elsewhere a thread looks every second.

    Args:
        parent: the process that started this one, by itself or by a server that forks for it, if it is known: it may be
            gone before this is called. Such a server ends with it too.
        _: the number that a loader gives its workers.
    """
    if parent is None:
        parent = os.getppid()
    if sys.platform == "linux":
        try:
            done = ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0) == 0
        except (OSError, AttributeError):
            done = False
        if done:
            if parent not in (own := os.getppid(), _parent_of(own)):  # it went before, or between the two calls
                os.kill(os.getpid(), signal.SIGKILL)
            return
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _parent_of(process: int) -> int:
    """The parent of another process, on Linux; 0 if that is gone."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def ending_with_this() -> Callable[[int], None]:
    """For the workers of a loader: each calls it first, with its number, and ends with the process that made it."""
    return partial(end_with_parent, os.getpid())


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def leaving_interrupts_here() -> Iterator[None]:
    """Processes that are started in it never see a Ctrl-C, which a terminal sends to all: this one ends them.

    They would each print where it met them, in the midst of their imports for the most part.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
