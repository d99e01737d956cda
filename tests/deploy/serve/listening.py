"""A server that listens, in a thread of this process, for clients that need a real connection."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from reslab.deploy.serve.app import application
from reslab.deploy.serve.limits import Limits
from reslab.deploy.serve.model import Detecting, Model
from reslab.deploy.serve.server import Patient, bound, configured
from reslab.deploy.serve.service import Service

from .sample import SMALL, ExplainedColours


class Impatient(Patient):
    """For tests of who says nothing."""

    silence = 0.3


@contextmanager
def listening(
    model: Model | Detecting | None = None, limits: Limits = SMALL, protocol: type = Patient, **more: Any
) -> Iterator[int]:
    """The port."""
    service = Service(model or ExplainedColours(), limits, batch=4)
    place = bound("127.0.0.1", 0)
    server = uvicorn.Server(configured(application(service, **more), patience=limits.patience, protocol=protocol))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[place])))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        yield place.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def exchanged(port: int, *pieces: bytes) -> bytes:
    """What is answered until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        found = b""
        with suppress(ConnectionError):  # it may be closed while this is sent
            for piece in pieces:
                connection.sendall(piece)
            while data := connection.recv(65536):
                found += data
        return found
