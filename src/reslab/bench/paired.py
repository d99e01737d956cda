"""Timings that take turns, so that a machine whose speed drifts slows all of them alike."""

import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any

import torch

from reslab.errors import InputError

Work = Callable[[], object]
Turn = Callable[[], float]
"""Works for a turn, and says how many seconds a call took."""
WARM_UP = 5
"""Calls before the first round: caches, compilers and allocators warm up, and a step on CUDA is captured at its 4th."""


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
) -> dict[str, list[float]]:
    """Seconds of a call of each work, once a round; which is first alternates. ``done`` hears of each round."""
    for work in works.values():
        for _ in range(WARM_UP):
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
    """As `take_turns`, each work in a process of its own, so that none finds memory or settings that another left.

    Args:
        makers: make the works, in their processes; they travel there by pickle.
        rounds: each work has one turn in each.
        turn: about how many seconds it lasts.
        device: that the works run on.
        done: hears of each round.

    Raises:
        MemoryError: a process had too little, or was ended by the system.
    """
    context = _fresh()
    ends: dict[str, Connection] = {}
    processes = []
    try:
        for name, maker in makers.items():
            ends[name], other = context.Pipe()
            arguments = (maker, other, turn, device, torch.get_num_threads())
            process = context.Process(target=_serve, args=arguments, daemon=False)
            process.start()
            other.close()
            processes.append(process)
            _answer(ends[name], name)  # one after the other, so that they do not warm up beside each other
        turns = {name: partial(_asked, end, name) for name, end in ends.items()}
        return _rounds(turns, rounds, done)
    finally:
        for end in ends.values():
            end.close()
        for process in processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()


def _fresh() -> SpawnContext | ForkServerContext:
    """Starts processes that know nothing of this one, quickly where the system can fork one that has only imported."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reslab.bench.works"])
    return context


def _asked(end: Connection, name: str) -> float:
    end.send("turn")
    return float(_answer(end, name))


def _answer(end: Connection, name: str) -> Any:
    try:
        kind, value = end.recv()
    except EOFError:
        raise MemoryError(f"the process of {name} was ended by the system") from None
    if kind == "refused":
        raise InputError(value)
    if kind == "failed":
        raise RuntimeError(value)
    return value


def _serve(maker: Callable[[], Work], end: Connection, turn: float, device: torch.device, threads: int) -> None:
    """In a process of its own: makes a work, warms it up, and works for a turn whenever it is asked to."""
    torch.set_num_threads(threads)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    try:
        work = maker()
        for _ in range(WARM_UP):
            work()
        end.send(("ready", None))
        while True:
            end.recv()
            end.send(("seconds", seconds_of(work, turn, device)))
    except EOFError:
        pass  # no more turns
    except InputError as error:
        end.send(("refused", str(error)))
    except BaseException as error:
        end.send(("failed", f"{error}\n{traceback.format_exc()}"))
    finally:
        end.close()
        os._exit(0)  # without waiting for what works have beside them, such as processes that load data


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
