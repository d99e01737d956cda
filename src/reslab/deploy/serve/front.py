"""What every request passes first: its name in the log, the token, and what browsers are told. Plain ASGI."""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

from reslab.deploy.serve.logs import REQUESTS
from reslab.deploy.serve.metrics import Metrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/", "/page.css", "/page.js", "/healthz", "/readyz", "/openapi.json", "/v2/health/live", "/v2/health/ready")
"""Taken without the token: they hold nothing of the model, and probes of orchestrators have none."""
METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)
_log = logging.getLogger(REQUESTS)
_NAME = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def _same(given: bytes, token: str) -> bool:
    """In a time that tells nothing of where they differ, nor of how long the token is."""
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(token.encode()).digest())


class Front:
    """Around an application."""

    def __init__(self, app: App, metrics: Metrics, token: str | None = None) -> None:
        self.app, self.metrics, self.token = app, metrics, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request, or the start and end of the server."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        name = given.decode() if _NAME.fullmatch(given) else secrets.token_hex(8)
        scope["reslab.request"] = name
        status, sent = 0, 0

        async def told(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *HEADERS, (b"x-request-id", name.encode())]}
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            app = self.app if self._lets_in(scope) else _no_token(name)
            await app(scope, receive, told)
        finally:
            self._note(scope, status, sent, time.monotonic() - began)

    def _lets_in(self, scope: Scope) -> bool:
        if self.token is None or scope["path"] in OPEN:
            return True
        kind, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return kind.lower() == b"bearer" and _same(given.strip(), self.token)

    def _note(self, scope: Scope, status: int, sent: int, seconds: float) -> None:
        """In the log and the figures: by the route as we wrote it, not by the address as it was sent."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(method, route, status).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        received = dict(scope["headers"]).get(b"content-length", b"")
        fields = {
            "request": scope["reslab.request"],
            "method": method,
            "route": route,
            "status": status,
            "milliseconds": round(1000 * seconds, 2),
            "received": int(received) if received.isdigit() and len(received) < 16 else None,
            "sent": sent,
            "client": (scope.get("client") or [None])[0],
            **scope.get("reslab.notes", {}),
        }
        _log.info("request", extra={"fields": fields})


def _no_token(name: str) -> App:
    answer: App = JSONResponse(
        {"error": "expected the token of this server, as 'Authorization: Bearer TOKEN'", "request": name},
        401,
        {"WWW-Authenticate": "Bearer"},
    )
    return answer
