"""Timings that take turns, so that a machine whose speed drifts slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one is as the other: the median over the rounds, and where it lies."""

    median: float
    low: float
    high: float
    """with ``low``, an interval that holds the true median at least 19 times in 20 (by order statistics)"""


def seconds_of(work: Work, turn: float, device: torch.device) -> float:
    """Mean seconds of a call, over as many calls as fit into about ``turn`` seconds; one at least."""
    calls, spent = 0, 0.0
    start = time.perf_counter()
    while spent < turn:
        work()
        calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent = time.perf_counter() - start
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
    for work in works.values():  # caches, compilers and allocators warm up
        for _ in range(2):
            work()
    found: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(seconds_of(works[name], turn, device))
        done(number + 1)
    return found


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
