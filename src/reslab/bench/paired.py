"""Timings that take turns, so that a machine whose speed drifts slows all of them alike."""

import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any, Protocol, Self, runtime_checkable

import torch

from reslab.errors import InputError
from reslab.processes import end_with_parent

Work = Callable[[], object]
Turn = Callable[[], float]
"""Works for a turn, and says how many seconds a call took."""
WARM_UP = 5
"""Calls before the first round: caches, compilers and allocators warm up, and a step on CUDA is captured at its 4th."""


@runtime_checkable
class Beside(Protocol):
    """A work with processes beside it, such as those that load data."""

    def __call__(self) -> object:
        """Works."""

    def begin(self) -> None:
        """Before a turn: takes what was made ahead of it."""

    def rest(self, seconds: float) -> float:
        """How many seconds its processes go on after a turn in which a call took so many."""


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one is as the other: the median over the rounds, and where it lies."""

    median: float
    low: float
    high: float
    """with ``low``, an interval that holds the true median at least 19 times in 20 (by order statistics)"""


def seconds_of(work: Work, turn: float, device: torch.device) -> float:
    """Mean seconds of a call, over as many calls as fit into about ``turn`` seconds; one at least.

    A GPU is waited for after a few calls rather than after each: a training does not wait for it either.
    """
    calls, spent, at_once = 0, 0.0, 1
    start = time.perf_counter()
    while spent < turn:
        for _ in range(at_once):
            work()
        calls += at_once
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = time.perf_counter() - start
        if device.type == "cuda":
            at_once = max(1, min(10, int(turn / 5 * calls / spent)))
    return spent / calls


def take_turns(
    works: Mapping[str, Work],
    *,
    rounds: int,
    turn: float,
    device: torch.device,
    done: Callable[[int], None] = lambda _: None,
    warm_up: int = WARM_UP,
) -> dict[str, list[float]]:
    """Seconds of a call of each work, once a round; which is first alternates. ``done`` hears of each round."""
    for work in works.values():
        for _ in range(warm_up):
            work()
    return _rounds({name: partial(seconds_of, work, turn, device) for name, work in works.items()}, rounds, done)


def _rounds(turns: Mapping[str, Turn], rounds: int, done: Callable[[int], None]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in turns}
    names = list(turns)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(turns[name]())
        done(number + 1)
    return found


def take_turns_apart(
    makers: Mapping[str, Callable[[], Work]],
    *,
    rounds: int,
    turn: float,
    device: torch.device,
    done: Callable[[int], None] = lambda _: None,
) -> dict[str, list[float]]:
    """Like `take_turns`, but each work runs in its own process, unaffected by memory and settings of the others.

    Args:
        makers: make the works, in their processes; they travel there by pickle.
        rounds: each work has one turn in each.
        turn: about how many seconds it lasts.
        device: that the works run on.
        done: hears of each round.

    Raises:
        MemoryError: a process had too little, or was ended by the system.
    """
    with ExitStack() as open_ones:
        apart = {
            # One after the other, so that they do not warm up beside each other.
            name: open_ones.enter_context(Apart(name, maker, turn, device))
            for name, maker in makers.items()
        }
        return _rounds({name: each.seconds for name, each in apart.items()}, rounds, done)


class Slow(Exception):
    """A work was not ready, or not done, in the time that it was given."""


class Apart:
    """A work in a process of its own, which ends with this one."""

    def __init__(
        self, name: str, maker: Callable[[], Work], turn: float, device: torch.device, *, warm_up: int = WARM_UP,
        limit: float | None = None,
    ) -> None:  # fmt: skip
        """Makes the work, and warms it up.

        Args:
            name: for messages.
            maker: makes the work, in its process.
            turn: about how many seconds a turn lasts.
            device: that the work runs on.
            warm_up: calls before the first turn.
            limit: seconds until it has to be ready, or `Slow` is raised; None waits.
        """
        context = _fresh()
        self._name = name
        self._end, other = context.Pipe()
        arguments = (maker, other, turn, device, torch.get_num_threads(), warm_up)
        self._process = context.Process(target=_serve, args=arguments, daemon=False)
        self._process.start()
        other.close()
        try:
            self._answer(limit)
        except BaseException:
            self._close(at_once=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close(at_once=kind is not None)

    def seconds(self) -> float:
        """Mean seconds of a call in a turn."""
        self._end.send("turn")
        return float(self._answer(None))

    def _close(self, *, at_once: bool) -> None:
        self._end.close()
        if at_once:
            self._process.kill()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self, limit: float | None) -> Any:
        if limit is not None and not self._end.poll(limit):
            raise Slow(f"not ready within {limit:g} s")
        try:
            kind, value = self._end.recv()
        except EOFError:
            raise MemoryError(f"the process of {self._name} was ended by the system") from None
        if kind == "refused":
            raise InputError(value)
        if kind == "failed":
            raise RuntimeError(value)
        return value


def _fresh() -> SpawnContext | ForkServerContext:
    """Starts processes that know nothing of this one, quickly where the system can fork one that has only imported."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reslab.bench.imports"])
    return context


def _serve(
    maker: Callable[[], Work], end: Connection, turn: float, device: torch.device, threads: int, warm_up: int
) -> None:
    """Runs in its own process: makes a work, warms it up, and runs one turn per request.

    A work may have processes beside it that go on between the turns: ``begin`` is called before a turn is timed, and
    after it they are left ``rest`` seconds to come to a halt, so that they take nothing from the turn of another.
    """
    end_with_parent()
    # A compiler's pool of processes would outlive this one for a moment, and gains little on what is compiled once.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if sys.platform == "linux":
        # As a script finds it. What the work starts would else be the children of the server that began this process,
        # and outlive it.
        multiprocessing.set_start_method("fork", force=True)
    torch.set_num_threads(threads)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    try:
        work = maker()
        for _ in range(warm_up):
            work()
        end.send(("ready", None))
        while True:
            end.recv()
            if isinstance(work, Beside):
                work.begin()
            seconds = seconds_of(work, turn, device)
            if isinstance(work, Beside):
                time.sleep(work.rest(seconds))
            end.send(("seconds", seconds))
    except EOFError:
        pass  # no more turns
    except InputError as error:
        end.send(("refused", str(error)))
    except BaseException as error:
        end.send(("failed", f"{error}\n{traceback.format_exc()}"))
    finally:
        end.close()
        os._exit(0)  # without waiting for what works have beside them, which ends with this process


def ratio(slow: Sequence[float], quick: Sequence[float]) -> Ratio:
    """How many times as fast ``quick`` is, from the seconds of paired rounds."""
    each = sorted(a / b for a, b in zip(slow, quick, strict=True))
    n, rank = len(each), 0
    # The interval between the k-th least and the k-th greatest misses the median with chance 2 P(Bin(n, 1/2) < k).
    tail, term = 0.0, 0.5**n
    while rank < n // 2 and 2 * (tail + term) <= 0.05:
        tail += term
        rank += 1
        term = term * (n - rank + 1) / rank
    low = max(0, rank - 1)
    return Ratio(statistics.median(each), each[low], each[n - 1 - low])
