"""Several trainings in one process by turns, each in a thread of its own: one is at work, the others wait.

The host says little in a captured step, and then waits for the device, which a training of small images leaves mostly
idle. With several trainings the others have their turn meanwhile. Between the beginning of a turn and its end nothing
of another runs, so that random numbers, captures and settings of the process are those of a training by itself.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_own = threading.local()


class Turns:
    """Grants turns in the order of the requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()  # the first is at work

    def begin(self) -> None:
        """Waits until everybody who asked before has ended their turn."""
        mine = threading.Event()
        with self._lock:
            self._waiting.append(mine)
            if len(self._waiting) == 1:
                mine.set()
        mine.wait()

    def end(self) -> None:
        """Lets the next one work. Only for the one that is at work."""
        with self._lock:
            self._waiting.popleft()
            if self._waiting:
                self._waiting[0].set()

    def pass_on(self) -> None:
        """Lets all the others work, once each."""
        self.end()
        self.begin()

    @contextmanager
    def mine(self) -> Iterator[None]:
        """What this thread does, by turns: it begins with one, and `rest` gives it up for a while."""
        self.begin()
        _own.turns = self
        try:
            yield
        finally:
            _own.turns = None
            self.end()


def rest(device: torch.device) -> None:
    """Before numbers are read from a device: others work while it computes them. Alone, or on the CPU, nothing."""
    turns: Turns | None = getattr(_own, "turns", None)
    if turns is None or device.type != "cuda":
        return
    stream = torch.cuda.current_stream(device)
    turns.end()
    try:
        stream.synchronize()
    finally:
        turns.begin()
