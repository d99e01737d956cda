"""The Open Inference Protocol v2 (KServe, Triton, ...) over HTTP: existing clients speak it.

One input, ``images``: pixels as UINT8 (N, H, W, C), fitted to the network here; or encoded files as BYTES (N,).
One output, ``probabilities``: FP32 (N, classes); or with the parameter ``classification: k`` the k likeliest as BYTES
(N, k), each ``probability:number:name``. Tensors come and go as JSON, or as bytes behind it (the extension for binary
data). The only version is 1.

https://github.com/kserve/open-inference-protocol; the extensions: https://github.com/triton-inference-server/server
"""

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reslab import __version__
from reslab.deploy.serve import tensors
from reslab.deploy.serve.answers import top
from reslab.deploy.serve.decoding import Rejected, check_size
from reslab.deploy.serve.disconnect import unless_gone
from reslab.deploy.serve.intake import Intake
from reslab.deploy.serve.model import Probabilities
from reslab.deploy.serve.refusals import Refused, plain
from reslab.deploy.serve.service import Service

INPUT, OUTPUT, VERSION = "images", "probabilities", "1"
BINARY_HEADER = "Inference-Header-Content-Length"
Parameters = dict[str, bool | int | float | str]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # the protocol lets others extend it


class InputTensor(_Part):
    """Images, as values or as so many bytes behind the JSON."""

    name: str = Field(max_length=64)
    shape: tuple[int, ...] = Field(max_length=4)
    datatype: Literal["UINT8", "BYTES"]
    parameters: Parameters = {}
    data: list[Any] | None = None


class WantedTensor(_Part):
    """An output, and in which form."""

    name: str = Field(max_length=64)
    parameters: Parameters = {}


class Inference(_Part):
    """A request."""

    id: str | None = Field(None, max_length=256)
    parameters: Parameters = {}
    inputs: tuple[InputTensor, ...] = Field(min_length=1, max_length=1)
    outputs: tuple[WantedTensor, ...] = Field((), max_length=1)


def parsed(data: bytes) -> Inference:
    """The JSON of a request. Raises `Refused`."""
    try:
        return Inference.model_validate_json(data)
    except ValidationError as why:
        first = why.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(400, plain(f"{where}: {first['msg']}" if where else first["msg"])) from None


class Routes:
    """The addresses of the protocol."""

    def __init__(self, service: Service, intake: Intake) -> None:
        self.service, self.intake = service, intake

    def add_to(self, app: FastAPI, problems: dict[int | str, dict[str, Any]]) -> None:
        """Declares them."""
        add, one = app.add_api_route, "/v2/models/{model}"
        add("/v2", self.server, methods=["GET"], responses={401: problems[401]})
        add("/v2/health/live", self.live, methods=["GET"])
        add("/v2/health/ready", self.server_ready, methods=["GET"], responses={503: {}})
        for place in (one, one + "/versions/{version}"):
            none = {status: problems[status] for status in (401, 422)} | {404: problems[400] | {"description": "None."}}
            add(place, self.metadata, methods=["GET"], responses=none)
            add(place + "/ready", self.model_ready, methods=["GET"], responses=none | {503: {}})
            add(
                place + "/infer", self.infer, methods=["POST"], responses=problems | none, openapi_extra={
                    "requestBody": {"required": True, "content": {
                        "application/json": {"schema": _inlined(Inference.model_json_schema())},
                        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                    }}
                },
            )  # fmt: skip

    def _is(self, model: str, version: str = VERSION) -> None:
        if (model, version) != (self.service.model.name, VERSION):
            raise Refused(404, f"there is one model, {self.service.model.name}, in version {VERSION}")

    async def server(self) -> Any:
        """The server and what it can."""
        return {"name": "reslab", "version": __version__, "extensions": ["binary_tensor_data", "classification"]}

    async def live(self) -> Any:
        """Says so."""
        return {"live": True}

    async def server_ready(self) -> Any:
        """Says so, with the status 200; while the server starts or ends with 503."""
        return JSONResponse({"ready": self.service.ready}, 200 if self.service.ready else 503)

    async def model_ready(self, model: str, version: str = VERSION) -> Any:
        """The same of the model."""
        self._is(model, version)
        return JSONResponse({"name": model, "ready": self.service.ready}, 200 if self.service.ready else 503)

    async def metadata(self, model: str, version: str = VERSION) -> Any:
        """Inputs and outputs."""
        self._is(model, version)
        channels, classes = self.service.how.channels, len(self.service.model.classes)
        return {
            "name": model,
            "versions": [VERSION],
            "platform": "reslab",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, -1, -1, channels]}],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, classes]}],
        }

    async def infer(self, request: Request, model: str, version: str = VERSION) -> Any:
        """Images in, probabilities out."""
        self._is(model, version)
        with self.intake.body() as body:
            await body.read(request)
            head, tail = _split(bytes(body.data), request.headers.get(BINARY_HEADER))
            asked = await self.intake.apart(parsed, head)
            until = body.came + self.service.limits.patience
            found = await unless_gone(request, self._answered(asked.inputs[0], tail, until))
            return self._response(asked, found)

    async def _answered(self, given: InputTensor, tail: bytes, until: float) -> Sequence[Probabilities]:
        if given.name != INPUT:
            raise Refused(400, f"expected the input {INPUT!r}")
        count = given.shape[0] if given.shape else 0
        most = self.service.limits.images
        if not 1 <= count <= most:
            raise Refused(413 if count > most else 400, f"expected 1 to {most} images")
        if given.datatype == "BYTES":
            found = await self.service.predict(_files(given, tail), until)
            for each in found:
                if isinstance(each, Refused):
                    raise each
            return [each for each in found if not isinstance(each, Refused)]
        return await self.service.predict_pixels(list(await asyncio.to_thread(self._pixels, given, tail)), until)

    def _pixels(self, given: InputTensor, tail: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
        channels = self.service.how.channels
        if len(given.shape) != 4 or given.shape[3] != channels or min(given.shape) < 1:
            raise Refused(400, f"expected the shape (N, H, W, {channels})")
        try:
            check_size(given.shape[2], given.shape[1], self.service.how)
        except Rejected as why:
            raise Refused(413, str(why)) from None
        length = math.prod(given.shape)
        if _is_binary(given, tail):
            if len(tail) != length:
                raise Refused(400, f"expected {length:,} bytes of pixels, found {len(tail):,}")
            flat = np.frombuffer(tail, np.uint8)
        else:
            flat = tensors.numbers(given.data or [], length)
        return flat.reshape(given.shape)

    def _response(self, asked: Inference, found: Sequence[Probabilities]) -> Response:
        wanted = asked.outputs[0] if asked.outputs else WantedTensor(name=OUTPUT)
        if wanted.name != OUTPUT:
            raise Refused(400, f"expected the output {OUTPUT!r}")
        classes = self.service.model.classes
        count = wanted.parameters.get("classification", 0)
        binary = wanted.parameters.get("binary_data", asked.parameters.get("binary_data_output", False)) is True
        if isinstance(count, int) and count > 0:
            guesses = [each for row in found for each in top(row, classes, count)]
            texts = [f"{each.probability:.6f}:{each.output}:{each.name}" for each in guesses]
            made: dict[str, Any] = {"datatype": "BYTES", "shape": [len(found), min(count, len(classes))]}
            values, raw = texts, tensors.packed([text.encode() for text in texts])
        else:
            table = np.stack(found).astype("<f4")
            made = {"datatype": "FP32", "shape": list(table.shape)}
            values, raw = table.ravel().tolist(), table.tobytes()
        made |= {"parameters": {"binary_data_size": len(raw)}} if binary else {"data": values}
        answer = {"model_name": self.service.model.name, "model_version": VERSION}
        answer |= {} if asked.id is None else {"id": asked.id}
        head = json.dumps(answer | {"outputs": [{"name": OUTPUT, **made}]}).encode()
        if not binary:
            return Response(head, media_type="application/json")
        return Response(head + raw, media_type="application/octet-stream", headers={BINARY_HEADER: str(len(head))})


def _split(data: bytes, length: str | None) -> tuple[bytes, bytes]:
    """The JSON, and what comes behind it."""
    if length is None:
        return data, b""
    if not (length.isascii() and length.isdecimal() and len(length) < 12 and int(length) <= len(data)):
        raise Refused(400, f"{BINARY_HEADER} is no number of bytes of this body")
    return data[: int(length)], data[int(length) :]


def _is_binary(given: InputTensor, tail: bytes) -> bool:
    size = given.parameters.get("binary_data_size")
    if size is None and tail:
        raise Refused(400, "bytes came behind the JSON, but the input has no binary_data_size")
    if size is not None and (given.data is not None or size != len(tail)):
        raise Refused(400, f"binary_data_size does not go with the {len(tail):,} bytes behind the JSON, or with data")
    return size is not None


def _files(given: InputTensor, tail: bytes) -> list[bytes]:
    if len(given.shape) != 1:
        raise Refused(400, "expected the shape (N) of BYTES, an encoded file each")
    if _is_binary(given, tail):
        return tensors.unpacked(tail, given.shape[0])
    return tensors.files(given.data or [], given.shape[0])


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of which the parts stand where they are used: references would be looked for in the OpenAPI."""
    parts = schema.pop("$defs", {})

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            reference = value.get("$ref")
            return put(parts[reference.rpartition("/")[2]]) if reference else {k: put(v) for k, v in value.items()}
        return [put(each) for each in value] if isinstance(value, list) else value

    found: dict[str, Any] = put(schema)
    return found
