"""Images of many requests, computed together: an event loop in front, one thread behind."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from reslab.deploy.serve.line import Busy, Line, Waiting

In = TypeVar("In")
Out = TypeVar("Out")


class Closing(Exception):
    """The server is about to end, and takes nothing more."""


@dataclass(frozen=True)
class Task(Generic[In, Out]):
    """What is to be computed, and who waits for it."""

    given: In
    answer: "asyncio.Future[Out]"


Computed = Callable[[int, float], None]
"""Is told of each batch: how many images, how many seconds."""


class Batcher(Generic[In, Out]):
    """Gathers what comes singly, and hands it to a function of many in a thread of its own, one batch at a time.

    A batch goes as soon as the one before it is done, with all that came meanwhile: so batches grow with the load by
    themselves, and a single image waits for nobody (but ``linger``). To be made, used and closed in one event loop.
    """

    def __init__(
        self, compute: Callable[[Sequence[In]], Sequence[Out]], *, batch: int, linger: float = 0.0,
        told: Computed = lambda _count, _seconds: None, clock: Callable[[], float] = time.monotonic,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            compute: one result for each of some inputs; called in one thread alone.
            batch: most of them at a time.
            linger: seconds to wait for company while a batch is not full.
            told: hears of each batch, in the event loop.
            clock: seconds; deadlines are times of it.
            thread: of one thread, where it is shared with another; by default of its own.
        """
        self._compute, self._told, self._clock = compute, told, clock
        self._line: Line[Task[In, Out]] = Line(batch, linger)
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="reslab-network")
        self._busy = self._closing = False
        self._alarm: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> int:
        """Images in the line, those being computed not counted."""
        return len(self._line)

    async def __call__(self, given: In, until: float) -> Out:
        """The result for one input.

        Raises:
            Busy: its turn did not come, or its result not, until then.
            Closing: the server is about to end.
        """
        if self._closing:
            raise Closing
        loop = asyncio.get_running_loop()
        now = self._clock()
        task: Task[In, Out] = Task(given, loop.create_future())
        self._line.join(Waiting(task, now, until, task.answer.done))
        self._empty.clear()
        alarm = loop.call_later(max(0.0, until - now), self._late)
        try:
            self._go()
            return await task.answer
        finally:
            alarm.cancel()
            task.answer.cancel()  # where nobody waits any more; without effect on an answer

    async def close(self) -> None:
        """Takes nothing more, and returns when all that waits is answered."""
        self._closing = True
        self._go()
        await self._empty.wait()
        self._thread.shutdown()

    def _late(self) -> None:
        """Tells those whose time is over; of what is being computed the result is awaited, and is nearly there."""
        for each in self._line.late(self._clock()):
            each.item.answer.set_exception(Busy("the time for an answer is over", 1.0))
        self._go()

    def _go(self) -> None:
        """Sends the next batch off, or sets the alarm for it."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._busy:
            return
        now = self._clock()
        for each in self._line.late(now):
            each.item.answer.set_exception(Busy("the time for an answer is over", 1.0))
        if not len(self._line):
            self._empty.set()
            return
        due = 0.0 if self._closing else self._line.due(now)
        if due > 0:
            self._alarm = asyncio.get_running_loop().call_later(due, self._go)
            return
        self._busy = True
        tasks = [each.item for each in self._line.take()]
        asyncio.get_running_loop().run_in_executor(
            self._thread, self._compute, [task.given for task in tasks]
        ).add_done_callback(lambda done: self._done(tasks, now, done))

    def _done(self, tasks: Sequence[Task[In, Out]], began: float, done: "asyncio.Future[Sequence[Out]]") -> None:
        self._busy = False
        failed = done.exception()
        results: Sequence[Out] = () if failed else done.result()
        assert failed or len(results) == len(tasks), f"{len(results)} results for {len(tasks)} inputs"
        for place, task in enumerate(tasks):
            if task.answer.done():
                continue
            if failed:
                task.answer.set_exception(failed)
            else:
                task.answer.set_result(results[place])
        if not failed:
            self._told(len(tasks), self._clock() - began)
        self._go()
