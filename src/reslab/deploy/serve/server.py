"""The process that listens: uvicorn, with patience for slow senders that ends, and an orderly end of its own."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from reslab.deploy.serve.front import Front
from reslab.errors import InputError

SILENCE = 10.0
"""Seconds until the head of a request has to be there, after the connection or the last answer."""
BACKLOG = 2048


class Patient(H11Protocol):
    """A connection that is closed when no request comes of it: uvicorn itself waits for ever for the first one."""

    silence = SILENCE

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begins to count."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._watch = self.loop.call_later(self.silence, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Counts no more."""
        self._watch.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begins anew."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _look(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        left = self.silence if busy else self._idle_since + self.silence - self.loop.time()
        if left <= 0:
            self.transport.close()
        else:
            self._watch = self.loop.call_later(left, self._look)


class _Server(uvicorn.Server):
    def __init__(self, config: Any, told: Callable[[], None]) -> None:
        super().__init__(config)
        self._told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._told()


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any that is free. Raises `InputError`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError, UnicodeError) as why:
        reason = getattr(why, "strerror", None) or why
        raise InputError(f"cannot listen at {host}, port {port}: {reason}; give another --port or --host") from None


def configured(app: Front, *, patience: float, protocol: type = Patient) -> Any:
    """How uvicorn is to serve: the `uvicorn.Config`."""
    return uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, http=protocol, ws="none", lifespan="on",
        timeout_keep_alive=5, timeout_graceful_shutdown=round(patience) + 5, backlog=BACKLOG,
    )  # fmt: skip


def run(app: Front, listening: socket.socket, *, patience: float, told: Callable[[], None]) -> None:
    """Serves until SIGTERM or Ctrl-C, and then until what was asked is answered.

    Args:
        app: what answers.
        listening: where it is asked.
        patience: seconds that requests may take to be answered; at the end they have so long.
        told: called when requests are answered.

    Raises:
        InputError: a decoder does not start.
    """
    try:
        _Server(configured(app, patience=patience), told).run(sockets=[listening])
    except KeyboardInterrupt:
        return  # uvicorn hands on the signal that ended it, when all is answered
    except SystemExit:
        raise InputError("the server did not start; see the messages above") from None
