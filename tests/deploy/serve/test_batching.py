"""Batches as they form: the network is a function that the test lets go on."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from reslab.deploy.serve.batching import Batcher, Closing
from reslab.deploy.serve.line import Busy

FAR = float("inf")


class Network:
    """Doubles numbers, when it is let; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.may = threading.Semaphore(0)
        self.fail = False

    def __call__(self, some: Sequence[int]) -> list[int]:
        self.batches.append(list(some))
        self.threads.add(threading.get_ident())
        assert self.may.acquire(timeout=10)
        if self.fail:
            raise ValueError("broken")
        return [2 * each for each in some]

    def go(self, times: int = 1) -> None:
        self.may.release(times)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def in_a_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 20))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def ask(batcher: Batcher[int, int], *numbers: int, by: float = FAR) -> list["asyncio.Task[int]"]:
    return [asyncio.create_task(batcher(number, 1e6 if by == FAR else by)) for number in numbers]


def test_what_comes_while_the_network_works_is_the_next_batch() -> None:
    async def work() -> None:
        net, told = Network(), list[int]()
        batcher = Batcher(net, batch=4, told=lambda count, _seconds: told.append(count), clock=Clock())
        first = ask(batcher, 1)
        await until(lambda: net.batches == [[1]])
        others = ask(batcher, *range(2, 8))
        await until(lambda: batcher.waiting == 6)
        net.go(3)
        assert await asyncio.gather(*first, *others) == [2, 4, 6, 8, 10, 12, 14]
        assert net.batches == [[1], [2, 3, 4, 5], [6, 7]]
        assert told == [1, 4, 2]
        assert len(net.threads) == 1
        assert threading.get_ident() not in net.threads
        await batcher.close()

    in_a_loop(work)


def test_company_is_waited_for() -> None:
    async def work() -> None:
        net, clock = Network(), Clock()
        net.go(5)
        batcher = Batcher(net, batch=3, linger=5.0, clock=clock)
        first = ask(batcher, 1, 2)
        await until(lambda: batcher.waiting == 2)
        await asyncio.sleep(0.01)
        assert net.batches == []
        third = ask(batcher, 3)
        assert await asyncio.gather(*first, *third) == [2, 4, 6]
        assert net.batches == [[1, 2, 3]]
        await batcher.close()

    in_a_loop(work)


def test_who_waits_for_company_in_vain_goes_alone() -> None:
    async def work() -> None:
        net = Network()
        net.go()
        batcher = Batcher(net, batch=3, linger=0.01)
        [alone] = ask(batcher, 1, by=1e12)
        assert await alone == 2
        await batcher.close()

    in_a_loop(work)


def test_whose_time_is_over_is_told_before_the_network_has_seen_it() -> None:
    async def work() -> None:
        net, clock = Network(), Clock()
        batcher = Batcher(net, batch=4, clock=clock)
        [first] = ask(batcher, 1)
        await until(lambda: len(net.batches) == 1)
        [late] = ask(batcher, 2, by=0.02)
        [patient] = ask(batcher, 3)
        await until(lambda: batcher.waiting == 2)
        clock.now = 1.0
        with pytest.raises(Busy):
            await late  # by an alarm, while the network is busy
        net.go(2)
        assert (await first, await patient) == (2, 6)
        assert net.batches == [[1], [3]]
        await batcher.close()

    in_a_loop(work)


def test_nothing_is_computed_for_who_has_gone() -> None:
    async def work() -> None:
        net = Network()
        batcher = Batcher(net, batch=4, clock=Clock())
        [first] = ask(batcher, 1)
        await until(lambda: len(net.batches) == 1)
        [gone] = ask(batcher, 2)
        await until(lambda: batcher.waiting == 1)
        gone.cancel()
        await asyncio.sleep(0)
        net.go(2)
        assert await first == 2
        [last] = ask(batcher, 3)
        assert await last == 6
        assert net.batches == [[1], [3]]
        await batcher.close()

    in_a_loop(work)


def test_who_goes_while_it_is_computed_disturbs_nobody() -> None:
    async def work() -> None:
        net = Network()
        batcher = Batcher(net, batch=4, linger=0.01)
        gone, stays = ask(batcher, 1, 2, by=1e12)
        await until(lambda: net.batches == [[1, 2]])
        gone.cancel()
        await asyncio.sleep(0)
        net.go()
        assert await stays == 4
        await batcher.close()

    in_a_loop(work)


def test_a_failure_is_told_to_its_batch_alone() -> None:
    async def work() -> None:
        net = Network()
        batcher = Batcher(net, batch=4, clock=Clock())
        net.fail = True
        [first] = ask(batcher, 1)
        net.go()
        with pytest.raises(ValueError, match="broken"):
            await first
        net.fail = False
        net.go()
        [second] = ask(batcher, 2)
        assert await second == 4
        await batcher.close()

    in_a_loop(work)


def test_closing_answers_what_waits_and_takes_nothing_more() -> None:
    async def work() -> None:
        net = Network()
        batcher = Batcher(net, batch=2, linger=1e9, clock=Clock())
        asked = ask(batcher, 1, 2, 3)
        await until(lambda: net.batches == [[1, 2]])
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Closing):
            await batcher(4, 1e6)
        assert not closing.done()
        net.go(2)
        assert await asyncio.gather(*asked) == [2, 4, 6]
        await closing

    in_a_loop(work)


def test_closing_waits_for_no_company() -> None:
    async def work() -> None:
        net = Network()
        net.go()
        batcher = Batcher(net, batch=2, linger=1e6)
        [asked] = ask(batcher, 1, by=1e12)
        await until(lambda: batcher.waiting == 1)
        await batcher.close()
        assert await asked == 2

    in_a_loop(work)


def test_closing_what_was_never_used() -> None:
    async def work() -> None:
        await Batcher(Network(), batch=2).close()

    in_a_loop(work)
