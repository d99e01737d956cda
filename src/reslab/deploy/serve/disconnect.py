"""Nothing is computed for who has hung up."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request

Out = TypeVar("Out")


class Gone(Exception):
    """Who sent the request has hung up."""


async def unless_gone(request: Request, work: Coroutine[Any, Any, Out]) -> Out:
    """The result; the work is given up when who asked for it hangs up, which raises `Gone`."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await each
