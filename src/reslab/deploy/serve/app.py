"""The application: addresses, what they take, and what they answer."""

import base64
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from reslab import __version__
from reslab.deploy.serve import page, protocol
from reslab.deploy.serve.answers import (
    AboutModel,
    Detected,
    Detection,
    Explained,
    Predicted,
    Prediction,
    Problem,
    boxes,
    guess,
    top,
)
from reslab.deploy.serve.batching import Closing
from reslab.deploy.serve.decoding import FORMATS
from reslab.deploy.serve.disconnect import Gone, unless_gone
from reslab.deploy.serve.front import Front
from reslab.deploy.serve.intake import Asked, Body, Intake, Sent
from reslab.deploy.serve.line import Busy
from reslab.deploy.serve.logs import REQUESTS
from reslab.deploy.serve.metrics import CONTENT_TYPE
from reslab.deploy.serve.refusals import Refused, plain
from reslab.deploy.serve.service import Service

_log = logging.getLogger(REQUESTS)
Out = TypeVar("Out")
MOST_TOP = 1000
TELEMETRY = ("tracing", "metrics", "logs", "auto_configure")
"""Of the framework: nothing is sent anywhere."""
WORDS = {
    400: "Not understood.",
    401: "No token, or another.",
    408: "The body did not come in time.",
    413: "Too large: bytes, images or pixels.",
    415: "Neither multipart nor JSON, or no image.",
    422: "Understood, but not to be answered: a damaged image, a number out of range.",
    429: "Too busy to answer in time; Retry-After says when to ask again.",
    503: "About to end.",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words} for status, words in WORDS.items()
}
MULTIPART = {
    "schema": {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}},
    }
}


def _body(multipart: bool = True) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": Asked.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content | ({"multipart/form-data": MULTIPART})}}


Top = Annotated[int, Query(alias="top", ge=1, le=MOST_TOP, description="so many of the likeliest classes")]
Score = Annotated[float, Query(ge=0, le=1, description="boxes with at least this score")]
Output = Annotated[int | None, Query(ge=0, description="the class to explain, by its number; by default the likeliest")]


def application(service: Service, *, token: str | None = None) -> Front:
    """A model behind HTTP.

    Args:
        service: what answers; started and closed with the application.
        token: that requests have to bring; None: all are answered.
    """

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    # Its own pages of documentation load scripts from elsewhere; the OpenAPI is at /openapi.json.
    app = FastAPI(
        title="Reslab", version=__version__, lifespan=life, docs_url=None, redoc_url=None, redirect_slashes=False,
        description=f"Images in, {'boxes' if service.detects else 'probabilities'} out.",
        telemetry=dict.fromkeys(TELEMETRY, False),
    )  # fmt: skip
    intake = Intake(service.limits, service.look)
    _Routes(service, intake).add_to(app)
    if not service.detects:  # the protocol's one output is probabilities
        protocol.Routes(service, intake).add_to(app, PROBLEMS)
    page.add_to(app)
    _say_problems(app, service)
    return Front(app, service.metrics, token)


class _Routes:
    """Our own addresses."""

    def __init__(self, service: Service, intake: Intake) -> None:
        self.service, self.intake = service, intake

    def add_to(self, app: FastAPI) -> None:
        """Declares them."""
        some = {status: PROBLEMS[status] for status in (400, 401, 408, 413, 415, 422, 429, 503)}
        add = app.add_api_route
        if self.service.detects:
            add("/v1/detect", self.detect, methods=["POST"], response_model=Detected, responses=some,
                openapi_extra=_body(), summary="What is where in images")  # fmt: skip
        else:
            add("/v1/predict", self.predict, methods=["POST"], response_model=Predicted, responses=some,
                openapi_extra=_body(), summary="What images show")  # fmt: skip
        if self.service.explains:
            add("/v1/explain", self.explain, methods=["POST"], response_model=Explained, responses=some,
                openapi_extra=_body(), summary="Where in an image a class was seen (Grad-CAM or CAM)")  # fmt: skip
        add("/v1/model", self.about, methods=["GET"], response_model=AboutModel, summary="What answers",
            responses={401: PROBLEMS[401]})  # fmt: skip
        add("/healthz", self.alive, methods=["GET"], summary="Whether the server is alive")
        add("/readyz", self.ready, methods=["GET"], summary="Whether it takes requests", responses={503: {}})
        add("/metrics", self.metrics, methods=["GET"], summary="Figures for Prometheus", response_class=Response,
            responses={401: PROBLEMS[401], 200: {"content": {CONTENT_TYPE: {}}}})  # fmt: skip

    async def predict(self, request: Request, top_: Top = 5) -> Any:
        """Takes files as multipart, or base64 in JSON: one image or many.

        Of several images those that cannot be read have `error` in their place; where none can be, the answer is the
        first one's status.
        """
        classes = self.service.model.classes
        with self.intake.body() as body:
            sent, found = await self._answered(request, body, self.service.predict)
            made = tuple(
                Prediction(name=image.name, error=each.reason)
                if isinstance(each, Refused)
                else Prediction(name=image.name, top=top(each, classes, top_))
                for image, each in zip(sent, found, strict=True)
            )
            return Predicted(model=self.service.model.name, predictions=made, milliseconds=_since(body.came))

    async def detect(self, request: Request, score: Score = 0.5) -> Any:
        """Takes images as files in multipart, or base64 in JSON: one or many.

        Of several images those that cannot be read have `error` in their place; where none can be, the answer is the
        first one's status.
        """
        classes = self.service.model.classes
        with self.intake.body() as body:
            sent, found = await self._answered(request, body, self.service.detect)
            made = tuple(
                Detection(name=image.name, error=each.reason)
                if isinstance(each, Refused)
                else Detection(name=image.name, width=each.width, height=each.height, boxes=boxes(each, classes, score))
                for image, each in zip(sent, found, strict=True)
            )
            return Detected(model=self.service.model.name, detections=made, milliseconds=_since(body.came))

    async def _answered(
        self, request: Request, body: Body,
        work: Callable[[Sequence[bytes], float], Coroutine[Any, Any, list[Out | Refused]]],
    ) -> tuple[list[Sent], list[Out | Refused]]:  # fmt: skip
        """The images of a request and what is said of each. Raises `Refused` where nothing can be said of any."""
        sent = await self.intake.images(request, body)
        until = body.came + self.service.limits.patience
        found = await unless_gone(request, work([each.data for each in sent], until))
        refused = [each for each in found if isinstance(each, Refused)]
        _note(request, images=len(sent), refused=len(refused))
        if len(refused) == len(found):
            raise refused[0]
        return sent, found

    async def explain(self, request: Request, output: Output = None) -> Any:
        """Takes one image, as `/v1/predict` does, and shows where the network saw a class."""
        service, model = self.service, self.service.model
        if output is not None and output >= len(model.classes):
            raise Refused(422, f"the model has outputs 0 to {len(model.classes) - 1}")
        with self.intake.body() as body:
            sent = await self.intake.images(request, body)
            if len(sent) > 1:
                raise Refused(422, f"expected one image, found {len(sent)}")
            until = body.came + service.limits.patience
            found, chosen, picture = await unless_gone(request, service.explain(sent[0].data, output, until))
            return Explained(
                model=model.name, top=top(found, model.classes, 5), explained=guess(found, model.classes, chosen),
                picture=base64.b64encode(picture).decode(), milliseconds=_since(body.came),
            )  # fmt: skip

    async def about(self) -> Any:
        """The model, its classes, and what may be sent."""
        service, limits = self.service, self.service.limits
        return AboutModel(
            name=service.model.name, classes=service.model.classes, detects=service.detects,
            explains=service.explains, size=service.how.crop, most_bytes=limits.bytes, most_images=limits.images,
            most_pixels=limits.pixels, formats=FORMATS,
        )  # fmt: skip

    async def alive(self) -> Any:
        """Says so."""
        return {"alive": True}

    async def ready(self) -> Any:
        """Says so, with the status 200; while the server starts or ends with 503."""
        return JSONResponse({"ready": self.service.ready}, 200 if self.service.ready else 503)

    async def metrics(self) -> Any:
        """In Prometheus's text format."""
        return Response(self.service.metrics.text(), media_type=CONTENT_TYPE)


def _since(moment: float) -> float:
    return round(1000 * (time.monotonic() - moment), 2)


def _note(request: Request, **fields: object) -> None:
    request.scope.setdefault("reslab.notes", {}).update(fields)


def _absent(service: Service, path: str) -> str:
    """Why there is nothing at an address."""
    name = service.model.name
    if service.detects and path.startswith(("/v1/predict", "/v1/explain", "/v2")):
        return f"{name} is a detector: it answers at /v1/detect"
    if path == "/v1/detect":
        return f"{name} is a classifier: it answers at /v1/predict"
    if path == "/v1/explain":
        return f"{name} has no heat maps here; 'reslab export --explain' writes a model that has them"
    return "there is nothing at this address; /openapi.json lists those that there are"


def _say_problems(app: FastAPI, service: Service) -> None:
    """Every failure is an object with the key `error`."""

    def said(request: Request, status: int, why: str, retry_after: int | None = None) -> Response:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return JSONResponse({"error": why, "request": request.scope["reslab.request"]}, status, headers)

    async def refused(request: Request, why: Refused) -> Response:
        return said(request, why.status, why.reason, why.retry_after)

    async def busy(request: Request, why: Busy) -> Response:
        return said(request, 429, f"too busy to answer in time: {why}", why.retry_after)

    async def closing(request: Request, _why: Closing) -> Response:
        return said(request, 503, "the server is about to end", 1)

    async def gone(_request: Request, _why: Gone) -> Response:
        return Response(status_code=499)  # which nobody reads, but the log

    async def invalid(request: Request, why: RequestValidationError) -> Response:
        first = why.errors()[0]
        return said(request, 422, plain(f"{first['loc'][-1]}: {first['msg']}"))

    async def other(request: Request, why: HTTPException) -> Response:
        absent = why.status_code == HTTPStatus.NOT_FOUND
        text = _absent(service, request.url.path) if absent else str(why.detail)
        response = said(request, why.status_code, text)
        response.headers.update(why.headers or {})
        return response

    async def defect(request: Request, why: Exception) -> Response:
        _log.error("defect", exc_info=why, extra={"fields": {"request": request.scope["reslab.request"]}})
        return said(request, 500, "a defect of the server; its log says more under this request")

    for kind, handler in (
        (Refused, refused), (Busy, busy), (Closing, closing), (Gone, gone), (RequestValidationError, invalid),
        (HTTPException, other), (Exception, defect),
    ):  # fmt: skip
        app.add_exception_handler(kind, handler)
