"""A server that speaks as much of the Hugging Face hub's protocol as a download takes, on this machine."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789012345678901234567890123456789"


@dataclass
class Hub:
    """What the server has, how it misbehaves, and what it was asked."""

    files: dict[str, bytes]
    """by path: ``ORG/NAME/FILE`` of a repository, or any other, such as ``models/x.pth``"""
    cut_after: int | None = None
    """bytes of a large file after which the connection breaks off, once"""
    spoil: bool = False
    """send other bytes of the same number"""
    asked: list[str] = field(default_factory=list)
    broken: int = 0
    """connections that broke off"""
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0].strip("/")
            if listed := re.fullmatch(r"api/models/([^/]+/[^/]+)/tree/main", path):
                prefix = f"{listed[1]}/"
                tree = [
                    {"type": "file", "path": name.removeprefix(prefix), "size": len(content), "oid": "0" * 40}
                    for name, content in hub.files.items()
                    if name.startswith(prefix)
                ]
                if not tree:
                    return self._answer(404, b"{}", X_Error_Code="RepoNotFound")
                return self._answer(200, json.dumps(tree).encode(), Content_Type="application/json")
            found = re.fullmatch(r"([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
            name = f"{found[1]}/{found[2]}" if found else path
            if name not in hub.files:
                code = (
                    "EntryNotFound"
                    if found and any(f.startswith(f"{found[1]}/") for f in hub.files)
                    else "RepoNotFound"
                )
                return self._answer(404, X_Error_Code=code, X_Repo_Commit=COMMIT)
            return self._send(hub.files[name])

        def _send(self, content: bytes) -> None:
            begin = 0
            if ranged := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                begin = int(ranged[1])
            body = content[begin:]
            if hub.spoil and self.command == "GET":
                body = bytes(len(body))
            self.send_response(206 if begin else 200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body)))
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command != "GET":
                return
            if hub.cut_after is not None and len(body) > hub.cut_after:
                self.wfile.write(body[: hub.cut_after])
                self.wfile.flush()
                hub.cut_after = None
                hub.broken += 1
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(body)

    return Handler


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """The server, as long as the block lasts."""
    hub = Hub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
