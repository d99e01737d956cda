"""From a request to the bytes of images, within limits. What is asked for is never fetched: images are in the body."""

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import ClientDisconnect, Request

from reslab.deploy.serve.disconnect import Gone
from reslab.deploy.serve.limits import Limits
from reslab.deploy.serve.line import Busy
from reslab.deploy.serve.refusals import Refused, plain

Out = TypeVar("Out")
PIECE = 1 << 18
"""Bytes that are parsed in one go, with other requests in between."""
LARGE = 1 << 18
"""Bytes of JSON from which on it is parsed in a thread."""
MOST_PARTS = 1000
"""Files of a multipart body that are looked at, to say how many there are."""
MOST_NAME = 255
"""Letters of a file's name that are repeated in the answer."""


@dataclass(frozen=True)
class Sent:
    """An image as it came."""

    data: bytes
    name: str | None = None


class Asked(BaseModel):
    """The body of a request in JSON: `image` or `images`, encoded files in base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Annotated[str | None, Field(description="one file, JPEG, PNG, WebP or GIF, in base64")] = None
    images: Annotated[tuple[str, ...] | None, Field(description="or several")] = None


class Intake:
    """Reads bodies."""

    def __init__(self, limits: Limits, look: Callable[[], None]) -> None:
        """``look`` raises where what comes would be refused anyway, and need not be read."""
        self.limits, self.look = limits, look
        self.receiving = 0
        """bytes of bodies that are in memory"""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reslab-parse")

    @contextmanager
    def body(self) -> Iterator["Body"]:
        """A body to read, whose bytes count until the block is left."""
        body = Body(self)
        try:
            yield body
        finally:
            self.receiving -= len(body.data)

    async def images(self, request: Request, body: "Body") -> list[Sent]:
        """The images of a body that is multipart or JSON. Raises `Refused`."""
        await body.read(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            found = await self._of_multipart(request, bytes(body.data))
        elif kind == "application/json":
            found = await self.apart(_of_json, bytes(body.data))
        else:
            raise Refused(415, "expected multipart/form-data with files, or application/json with images in base64")
        if not found:
            raise Refused(422, "expected at least one image, found none")
        if len(found) > self.limits.images:
            raise Refused(413, f"a request may have {self.limits.images} images, and this one has {len(found)}")
        return found

    async def apart(self, work: Callable[[bytes], Out], data: bytes) -> Out:
        """``work(data)``, in a thread where there is much of it."""
        if len(data) < LARGE:
            return work(data)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, data)

    async def _of_multipart(self, request: Request, data: bytes) -> list[Sent]:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(data), PIECE):
                yield data[start : start + PIECE]
                await asyncio.sleep(0)

        parser = MultiPartParser(request.headers, pieces(), max_files=MOST_PARTS, max_fields=8)
        parser.spool_max_size = len(data) + 1  # nothing of it is written to disk
        try:
            form = await parser.parse()
        except Exception as why:  # of a parser, whatever it meets
            raise Refused(400, f"the multipart body is malformed: {plain(str(why) or type(why).__name__)}") from None
        async with AsyncExitStack() as closing:
            closing.push_async_callback(form.close)
            for file in parser._files_to_close_on_error:  # those that were cut off are not in the form
                closing.callback(file.close)
            parts = [part for _, part in form.multi_items()]
            files = [part for part in parts if isinstance(part, UploadFile)]
            if len(files) < len(parts):
                raise Refused(422, "expected files alone, each with a file name; options stand in the address: ?top=3")
            return [Sent(await part.read(), (part.filename or "")[:MOST_NAME] or None) for part in files]


class Body:
    """The bytes of a request."""

    def __init__(self, intake: Intake) -> None:
        self.data = bytearray()
        self.came = 0.0
        """when the last byte came, `time.monotonic`"""
        self._intake = intake

    async def read(self, request: Request) -> None:
        """Reads it all. Raises `Refused`, `Busy` and `Gone`."""
        limits, intake = self._intake.limits, self._intake
        intake.look()
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(415, "a body is taken as it is, not compressed")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > limits.bytes:
            raise Refused(413, _too_many(limits))
        try:
            async with asyncio.timeout(limits.receive_seconds):
                async for piece in request.stream():
                    if len(self.data) + len(piece) > limits.bytes:
                        raise Refused(413, _too_many(limits))
                    if intake.receiving + len(piece) > limits.bytes_at_a_time:
                        raise Busy("too much is being received", 1.0)
                    self.data += piece
                    intake.receiving += len(piece)
        except TimeoutError:
            raise Refused(408, f"a request may take {limits.receive_seconds:g} s to come") from None
        except ClientDisconnect:
            raise Gone from None
        self.came = time.monotonic()


def _too_many(limits: Limits) -> str:
    return f"a request may have {limits.bytes:,} bytes"


def _of_json(data: bytes) -> list[Sent]:
    try:
        asked = Asked.model_validate_json(data)
    except ValidationError as why:
        first = why.errors(include_url=False, include_input=False, include_context=False)[0]
        status = 400 if first["type"] == "json_invalid" else 422
        where = ".".join(map(str, first["loc"]))
        raise Refused(status, plain(f"{where}: {first['msg']}" if where else first["msg"])) from None
    if (asked.image is None) == (asked.images is None):
        raise Refused(422, "expected either 'image' or 'images'")
    texts = asked.images if asked.images is not None else (asked.image or "",)
    return [Sent(_of_base64(text, f"image {place}")) for place, text in enumerate(texts, 1)]


def _of_base64(text: str, name: str) -> bytes:
    if text.startswith("data:"):  # as a browser's FileReader writes it
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            422, f"{name}: expected a file in base64, found something else; addresses and paths are never fetched"
        ) from None
