"""Turns of several threads: one at a time, in the order in which they asked."""

import threading
import time
from collections.abc import Callable

import pytest
import torch

from reslab.train import turns
from reslab.train.turns import Turns, rest


def run(*work: Callable[[], None]) -> None:
    """In threads, begun one after the other."""
    threads = [threading.Thread(target=each, daemon=True) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "nobody gave it its turn"


def test_one_at_a_time_and_each_once_a_round() -> None:
    own, seen, inside = Turns(), list[str](), 0

    def work(name: str) -> Callable[[], None]:
        def steps() -> None:
            nonlocal inside
            with own.mine():
                for _ in range(50):
                    inside += 1
                    seen.append(name)
                    assert inside == 1
                    inside -= 1
                    own.pass_on()

        return steps

    def release() -> None:
        while len(own._waiting) < 5:
            time.sleep(0.001)
        own.end()

    own.begin()
    run(*map(work, "abcd"), release)
    assert sorted(seen) == sorted(50 * "abcd")
    assert sorted(seen[:4]) == list("abcd")
    assert seen == 50 * seen[:4], "in the order in which they asked, round by round"


def test_others_work_while_the_device_does(monkeypatch: pytest.MonkeyPatch) -> None:
    own, order, both = Turns(), list[str](), threading.Barrier(2)
    other_was_here = threading.Event()

    class Stream:
        def synchronize(self) -> None:
            order.append("waits")
            assert other_was_here.wait(20), "the other had no turn"

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())

    def waits() -> None:
        with own.mine():
            both.wait(20)
            rest(torch.device("cuda"))
            order.append("goes on")

    def works() -> None:
        both.wait(20)
        with own.mine():
            order.append("works")
            other_was_here.set()

    run(waits, works)
    assert order == ["waits", "works", "goes on"] or order == ["works", "waits", "goes on"]
    assert order.index("works") < order.index("goes on")


def test_alone_and_on_the_cpu_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(device: torch.device) -> None:
        raise AssertionError("waited")

    monkeypatch.setattr(torch.cuda, "current_stream", never)
    rest(torch.device("cuda"))
    own = Turns()
    with own.mine():
        rest(torch.device("cpu"))
    rest(torch.device("cuda"))
    assert turns._own.turns is None


def test_an_error_ends_the_turn() -> None:
    own = Turns()

    def fails() -> None:
        with pytest.raises(ValueError, match="bad"), own.mine():
            raise ValueError("bad")

    def works() -> None:
        with own.mine():
            pass

    run(fails, works, works)
