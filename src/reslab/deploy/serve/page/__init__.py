"""The page at ``/``: a picture in, the likeliest classes and a heat map out. It loads nothing from elsewhere."""

from collections.abc import Callable, Coroutine
from importlib import resources
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from reslab.report.page import asset


def _own(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def add_to(app: FastAPI) -> None:
    """Declares its three files, with the style of the pages that Reslab writes."""
    for address, text, kind in (
        ("/", _own("index.html"), "text/html"),
        ("/page.css", asset("page.css") + _own("page.css"), "text/css"),
        ("/page.js", _own("page.js"), "text/javascript"),
    ):
        app.add_api_route(address, _file(text, kind), methods=["GET"], include_in_schema=False)


def _file(text: str, kind: str) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def answer() -> Any:
        return Response(text, media_type=kind)

    return answer
