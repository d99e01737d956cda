"""The processes that decode: what ends one of them is answered, and the next image is decoded by another."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from reslab.deploy.serve.batching import Closing
from reslab.deploy.serve.decoders import Decoders
from reslab.deploy.serve.decoding import How, decoded
from reslab.deploy.serve.refusals import Refused

from .pictures import bomb, of_many_chunks, photograph

HOW = How(channels=3, crop=(24, 24), seconds=1.0, most_pixels=2_000_000)


def with_decoders(work: Callable[[Decoders], Awaitable[None]], how: How = HOW, count: int = 1) -> None:
    async def run() -> None:
        decoders = Decoders(how, count)
        await decoders.start()
        try:
            await work(decoders)
        finally:
            await decoders.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def process(decoders: Decoders) -> int:
    """The number of the one that is free."""
    free = decoders._free.get_nowait()
    decoders._free.put_nowait(free)
    return free.running.pid


def test_many_at_a_time_each_has_its_own() -> None:
    async def work(decoders: Decoders) -> None:
        pictures = [photograph(30 + i, 30) for i in range(8)]
        found = await asyncio.gather(*(decoders(data) for data in pictures))
        for data, pixels in zip(pictures, found, strict=True):
            assert np.array_equal(pixels, decoded(data, HOW))

    with_decoders(work, count=2)


def test_a_refusal_says_why_and_the_process_goes_on() -> None:
    async def work(decoders: Decoders) -> None:
        before = process(decoders)
        for data, status in ((b"no", 415), (photograph()[:200], 422), (bomb(9000, 9000), 413)):
            with pytest.raises(Refused) as refused:
                await decoders(data)
            assert refused.value.status == status
        assert process(decoders) == before
        assert decoders.replaced == 0

    with_decoders(work)


def test_an_image_that_takes_too_long_is_ended_with_its_process() -> None:
    async def work(decoders: Decoders) -> None:
        with pytest.raises(Refused, match="to decode") as refused:
            await decoders(of_many_chunks(4_000_000))
        assert refused.value.status == 422
        assert (await decoders(photograph())).shape == (24, 24, 3)
        assert decoders.replaced == 1

    with_decoders(work, HOW.model_copy(update={"seconds": 0.3}))


def test_a_process_that_dies_is_replaced() -> None:
    async def work(decoders: Decoders) -> None:
        os.kill(process(decoders), signal.SIGSEGV)
        with pytest.raises(Refused, match="broke the decoder"):
            await decoders(photograph())
        assert (await decoders(photograph())).shape == (24, 24, 3)

    with_decoders(work)


def test_one_who_goes_does_not_leave_an_answer_for_another() -> None:
    async def work(decoders: Decoders) -> None:
        first = asyncio.create_task(decoders(photograph(500, 500)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        other = photograph(31, 30)
        assert np.array_equal(await decoders(other), decoded(other, HOW))

    with_decoders(work)


def test_nothing_is_decoded_after_the_end() -> None:
    async def work(decoders: Decoders) -> None:
        running = process(decoders)
        await decoders.close()
        with pytest.raises(Closing):
            await decoders(photograph())
        with pytest.raises(ProcessLookupError):
            os.kill(running, 0)
        decoders.count = 0  # for the end of the test

    with_decoders(work)


def test_the_exit_of_a_process_is_left_to_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Popen asks for it before it sends a signal, and asyncio would then log an unknown child process."""

    def sent(self: subprocess.Popen[bytes], number: int) -> None:
        pytest.fail(f"signal {number} by Popen")

    monkeypatch.setattr(subprocess.Popen, "send_signal", sent)

    async def work(decoders: Decoders) -> None:
        os.kill(process(decoders), signal.SIGSTOP)  # so that it does not end by itself

    with_decoders(work)
