"""On the wire: senders who are slow, silent or odd, and an end in good order."""

import socket
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from reslab.deploy.serve.server import bound
from reslab.errors import InputError

from .listening import Impatient, exchanged, listening
from .sample import SMALL, Colours, picture

HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening() as found:
        yield found


def test_who_says_nothing_is_hung_up_on() -> None:
    with listening(protocol=Impatient) as port:
        assert exchanged(port) == b""


def test_who_never_comes_to_the_end_of_the_head_is_hung_up_on() -> None:
    with listening(protocol=Impatient) as port:
        assert exchanged(port, b"GET / HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n") == b""


def test_a_body_that_takes_too_long() -> None:
    with listening(limits=SMALL.model_copy(update={"receive_seconds": 0.5})) as port:
        answer = exchanged(port, HEAD + b"Content-Length: 100\r\n\r\n", b'{"ima')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"may take 0.5 s to come" in answer


def test_too_long_a_body_is_refused_before_it_comes(port: int) -> None:
    assert exchanged(port, HEAD + b"Content-Length: 99999999999\r\n\r\n").startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: a\x00b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["nonsense", "long head", "negative", "two lengths", "chunks", "nul", "tls"],
)
def test_what_is_no_request(port: int, request_: bytes) -> None:
    assert exchanged(port, request_)[:13] in (b"HTTP/1.1 400 ", b"")  # nothing: it was closed as it was sent
    assert httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_a_header_cannot_be_put_into_an_answer(port: int) -> None:
    answer = exchanged(
        port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: a%0d%0aSet-Cookie: b\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"cookie" not in answer.lower()


def test_nothing_is_computed_for_who_has_hung_up() -> None:
    model = Colours()
    with listening(model) as port:
        warm = len(model.batches)
        model.goes_on.clear()
        address = f"http://127.0.0.1:{port}/v1/predict"
        holds = threading.Thread(target=lambda: httpx2.post(address, files={"image": ("a.png", picture())}))
        holds.start()
        while len(model.batches) == warm:
            assert holds.is_alive(), "it was answered without the network"
            time.sleep(0.005)
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(address, files={"image": ("a.png", picture())}, timeout=0.3)
        while "reslab_inside_images 1.0" not in httpx2.get(f"http://127.0.0.1:{port}/metrics").text:
            time.sleep(0.005)
        model.goes_on.set()
        holds.join()
        assert httpx2.post(address, files={"image": ("a.png", picture())}).status_code == 200
        assert model.batches[warm:] == [1, 1]


def test_a_body_is_not_waited_for_when_there_is_no_room() -> None:
    model = Colours()
    with listening(model, SMALL.model_copy(update={"places": 1})) as port:
        warm = len(model.batches)
        model.goes_on.clear()
        address = f"http://127.0.0.1:{port}/v1/predict"
        holds = threading.Thread(target=lambda: httpx2.post(address, files={"image": ("a.png", picture())}))
        holds.start()
        while len(model.batches) == warm:
            assert holds.is_alive(), "it was answered without the network"
            time.sleep(0.005)
        assert exchanged(port, HEAD + b"Content-Length: 100\r\n\r\n").startswith(b"HTTP/1.1 429 ")
        model.goes_on.set()
        holds.join()


def test_what_was_asked_is_answered_before_the_end() -> None:
    model, found = Colours(), list[int]()
    with listening(model) as port:
        warm = len(model.batches)
        model.goes_on.clear()
        address = f"http://127.0.0.1:{port}/v1/predict"
        asking = threading.Thread(
            target=lambda: found.append(httpx2.post(address, files={"image": ("a.png", picture())}).status_code)
        )
        asking.start()
        while len(model.batches) == warm:
            assert asking.is_alive(), "it was answered without the network"
            time.sleep(0.005)
        threading.Timer(0.3, model.goes_on.set).start()
    asking.join()
    assert found == [200]
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://127.0.0.1:{port}/healthz")


def test_a_place_that_is_taken_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen at 127\.0\.0\.1, port {port}: .*in use"):
            bound("127.0.0.1", port)
    with pytest.raises(InputError, match=r"cannot listen at no\.such\.host\.invalid"):
        bound("no.such.host.invalid", 0)
