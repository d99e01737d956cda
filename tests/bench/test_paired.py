"""Timings by turns, their ratio, and what the machine can do."""

import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from reslab.bench import peak
from reslab.bench.paired import WARM_UP, Work, ratio, seconds_of, take_turns, take_turns_apart
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any

CPU = torch.device("cpu")


def test_turns_alternate() -> None:
    calls: list[str] = []
    rounds: list[int] = []
    found = take_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        rounds=4, turn=1e-9, device=CPU, done=rounds.append,
    )  # fmt: skip
    assert calls == [*WARM_UP * "a", *WARM_UP * "b", *"ab", *"ba", *"ab", *"ba"], "warm, the first alternates"
    assert rounds == [1, 2, 3, 4]
    assert {name: len(each) for name, each in found.items()} == {"a": 4, "b": 4}


def test_seconds_of_a_call() -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.01)

    spent = seconds_of(work, 0.05, CPU)
    assert 2 <= len(calls) <= 6
    assert 0.009 < spent < 0.5


def test_processes_of_their_own_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    # What travels to the processes has to be found there: a shell that notes who started it.
    makers = {name: partial(partial, os.system, f"echo {name} $PPID >> '{log}'") for name in "ab"}
    found = take_turns_apart(makers, rounds=3, turn=1e-9, device=CPU)
    assert {name: len(each) for name, each in found.items()} == {"a": 3, "b": 3}
    lines = [line.split() for line in log.read_text().splitlines()]
    assert "".join(name for name, _ in lines) == WARM_UP * "a" + WARM_UP * "b" + "ab" + "ba" + "ab"
    processes = {name: {pid for other, pid in lines if other == name} for name in "ab"}
    assert all(len(pids) == 1 for pids in processes.values())
    assert len(processes["a"] | processes["b"] | {str(os.getpid())}) == 3


@pytest.mark.parametrize(
    ("maker", "error", "said"),
    [
        (partial(resolve_any, "resnet21"), InputError, "unknown network 'resnet21'"),
        (partial(os._exit, 9), MemoryError, "was ended by the system"),
        (partial(torch.empty, 10**17), RuntimeError, "DefaultCPUAllocator"),
    ],
)
def test_what_goes_wrong_in_a_process_is_said(maker: Callable[[], Work], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        take_turns_apart({"a": maker}, rounds=1, turn=1e-9, device=CPU)


@pytest.mark.parametrize("n", [1, 5, 6, 10, 20])
def test_the_interval_of_a_ratio(n: int) -> None:
    slow = [float(k + 1) for k in range(n)]
    found = ratio(slow, [1.0] * n)
    assert found.median == (n + 1) / 2
    assert found.low <= found.median <= found.high
    # By enumeration: how often so many of n fair coins show heads, which is how often the interval misses.
    misses = round(found.low) - 1 if n > 5 else 0
    chance = 2 * sum(math.comb(n, k) for k in range(misses + 1)) / 2**n if misses or n > 5 else 1.0
    assert round(found.high) == n + 1 - round(found.low)
    if n > 5:
        assert chance <= 0.05
        wider = 2 * sum(math.comb(n, k) for k in range(misses + 2)) / 2**n
        assert wider > 0.05, "the narrowest such interval"


def test_the_interval_holds_the_median_nineteen_times_in_twenty() -> None:
    draw = torch.Generator().manual_seed(1)
    hits = 0
    for _ in range(400):
        slow = torch.empty(10).log_normal_(0.7, 0.3, generator=draw).tolist()
        found = ratio(slow, [1.0] * 10)
        hits += found.low <= math.exp(0.7) <= found.high
    assert hits >= 370


def test_the_peak_is_measured() -> None:
    found = peak.measure(CPU, "fp32", seconds=0.05)
    assert found.gflops > 0.1
    assert found.gigabytes > 0.1
    assert found.share(found.gflops * 1e9 / 4, 1.0) == pytest.approx(0.5)
