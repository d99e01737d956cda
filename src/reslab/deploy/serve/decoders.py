"""The processes that decode, as the server sees them: any image in, pixels or a reason out, within a time."""

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from typing import Self

import numpy as np

from reslab.deploy.serve.batching import Closing
from reslab.deploy.serve.decoding import HEADER, LENGTH, READY, SIZE, How, Pixels, Reply
from reslab.deploy.serve.refusals import Refused
from reslab.errors import InputError

STATUS = {Reply.DAMAGED: 422, Reply.TOO_LARGE: 413, Reply.NO_IMAGE: 415}
PATIENCE = 10.0
"""Times the seconds that decoding may take of the processor, until a process is taken to hang: it may have to wait for
the processor."""
STARTING = 60.0
"""Seconds that a process may take to start."""


class _Died(Exception):
    """A process ended in the midst of an image."""


@dataclass
class _Process:
    """One of the processes."""

    how: How
    running: asyncio.subprocess.Process

    @classmethod
    async def start(cls, how: How) -> Self:
        # In a session of its own: Ctrl-C is the server's, which still has images to answer.
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "reslab.deploy.serve.decoding", how.model_dump_json(), stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, start_new_session=True, limit=1 << 20,
        )  # fmt: skip
        made = cls(how, running)
        assert running.stdout is not None
        try:
            async with asyncio.timeout(STARTING):
                ready = await running.stdout.readexactly(len(READY))
        except (asyncio.IncompleteReadError, TimeoutError):
            await made.end()
            raise InputError("the process that decodes images does not start; is this installation complete?") from None
        assert ready == READY
        return made

    async def __call__(self, data: bytes) -> tuple[Reply, bytes]:
        """Raises `_Died`."""
        source, sink = self.running.stdout, self.running.stdin
        assert source is not None
        assert sink is not None
        try:
            async with asyncio.timeout(PATIENCE * self.how.seconds):
                sink.write(LENGTH.pack(len(data)))
                sink.write(data)
                await sink.drain()
                kind, length = HEADER.unpack(await source.readexactly(HEADER.size))
                return Reply(kind), await source.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            await self.end()
            raise _Died(self._why()) from None
        except TimeoutError:
            await self.end()
            raise _Died("the image took too long to decode") from None

    def _why(self) -> str:
        if self.running.returncode == -signal.SIGPROF:
            return f"the image took more than {self.how.seconds:g} s to decode"
        return "the image broke the decoder"

    async def end(self) -> None:
        """Ends it, whatever it is at; an exit of its own is waited for a moment first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await self.running.wait()
        if self.running.returncode is None:
            # Not `running.kill()`, which asks how the process is first: of one that has just ended it takes the exit
            # status away from asyncio, which then logs an unknown child process.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.running.pid, signal.SIGKILL)
        await self.running.wait()


class Decoders:
    """Some processes, each replaced when an image ends it."""

    def __init__(self, how: How, count: int) -> None:
        self.how, self.count = how, count
        self.replaced = 0
        """processes that an image has ended"""
        self._free: asyncio.Queue[_Process] = asyncio.Queue()
        self._starting: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """Starts them all. Raises `InputError` where that cannot be."""
        for process in await asyncio.gather(*(_Process.start(self.how) for _ in range(self.count))):
            self._free.put_nowait(process)

    async def __call__(self, data: bytes) -> Pixels:
        """The pixels of an image (H, W, C). Raises `Refused`."""
        if self._closed:
            raise Closing
        process = await self._free.get()
        work = asyncio.ensure_future(process(data))
        work.add_done_callback(lambda done: self._put_back(process, done))
        # Whoever asks may be gone: what was begun comes to its end, or the next one would have its answer.
        try:
            kind, payload = await asyncio.shield(work)
        except _Died as why:
            raise Refused(422, str(why)) from None
        if kind != Reply.PIXELS:
            raise Refused(STATUS[kind], payload.decode("ascii", "replace"))
        shape = SIZE.unpack_from(payload)
        return np.frombuffer(payload, np.uint8, offset=SIZE.size).reshape(shape)

    def _put_back(self, process: _Process, done: "asyncio.Future[tuple[Reply, bytes]]") -> None:
        if not done.cancelled() and done.exception() is None:
            self._free.put_nowait(process)
            return
        self.replaced += 1
        starting = asyncio.ensure_future(self._replace())
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)

    async def _replace(self) -> None:
        """Starts another, however often that takes: without processes nothing is answered in time, and all is said."""
        while True:
            with contextlib.suppress(InputError, OSError):
                self._free.put_nowait(await _Process.start(self.how))
                return
            await asyncio.sleep(1.0)

    async def close(self) -> None:
        """Ends them, when what they are at is done."""
        self._closed = True
        await asyncio.gather(*self._starting)
        for _ in range(self.count):
            process = await self._free.get()
            assert process.running.stdin is not None
            process.running.stdin.close()
            await process.end()
