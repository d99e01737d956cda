"""`reslab serve` and what strangers send: mutated images and requests, all of which have to be answered.

    python benchmarks/serve_hostile.py PHOTOGRAPHS --count 10000 --out results/serve_hostile.json

PHOTOGRAPHS is any folder of images, a few of which are made small and written as JPEG, PNG, WebP and GIF. A server of
its own is started with the weights that come with Reslab, at its usual limits. Every request is written by hand on a
connection of its own, a few at a time; what it was, how it was answered and how long that took is counted, and in
between the memory of the server's processes is read. The rules: an answer to each that is HTTP, no status of 500 or
more, a reason with each refusal, good ones in between answered as ever, and no growth.
"""

import argparse
import base64
import io
import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

KINDS = ("JPEG", "PNG", "WEBP", "GIF")
BOUNDARY = b"----reslab"
RECEIVE_SECONDS = 20
JSON = "application/json"
Random = random.Random


@dataclass(frozen=True)
class Case:
    """A request, as it goes over the wire."""

    kind: str
    pieces: tuple[bytes, ...]
    """with a pause between them"""
    fine: bool = False
    """whether it is to be answered 200"""
    ends: bool = False
    """whether nothing more is sent, where the form would let something follow"""


@dataclass(frozen=True)
class Answer:
    """What came of it."""

    status: int
    """0: nothing came"""
    seconds: float
    body: bytes


def request(body: bytes, kind: str, *, path: str = "/v1/predict", method: str = "POST", more: bytes = b"") -> bytes:
    """A request in good form, but for what is asked to be in it."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    return head.encode() + more + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def upload(*images: bytes, name: bytes = b"a.jpg") -> bytes:
    """Images as multipart."""
    head = b'--%b\r\nContent-Disposition: form-data; name="image"; filename="%b"\r\n\r\n' % (BOUNDARY, name)
    body = b"".join(head + image + b"\r\n" for image in images) + b"--" + BOUNDARY + b"--\r\n"
    return request(body, f"multipart/form-data; boundary={BOUNDARY.decode()}")


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, of which the bytes are few."""
    rows = zlib.compress(bytes(min((width // 8 + 2) * height, 8_000_000)), 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def of_many_chunks(png: bytes, count: int) -> bytes:
    """The same PNG with so many empty parts before its pixels, over each of which Pillow goes in Python."""
    place = png.index(b"IDAT") - 4
    return png[:place] + chunk(b"IDAT", b"") * count + png[place:]


def of_many_scans(picture: Image.Image, count: int) -> bytes:
    """A progressive JPEG with its last scan again and again."""
    out = io.BytesIO()
    picture.save(out, "JPEG", progressive=True)
    whole = out.getvalue()
    place = whole.rindex(b"\xff\xda")
    return whole[:place] + whole[place : whole.rindex(b"\xff\xd9")] * count + b"\xff\xd9"


def animation(frames: int) -> bytes:
    """A GIF whose first picture is red, and the others blue."""
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    out = io.BytesIO()
    first.save(out, "GIF", save_all=True, append_images=[second])
    whole = out.getvalue()
    place = whole.rindex(b"!\xf9")
    return whole[:place] + whole[place:-1] * (frames - 1) + b";"


def comments(count: int) -> bytes:
    """A GIF with so many comments of a letter."""
    whole = animation(2)
    place = whole.index(b"!\xf9")
    return whole[:place] + b"!\xfe" + b"\x01x" * count + b"\0" + whole[place:]


def encoded(picture: Image.Image) -> dict[str, bytes]:
    """A picture in each format."""
    found = {}
    for kind in KINDS:
        out = io.BytesIO()
        picture.save(out, kind)
        found[kind] = out.getvalue()
    return found


def mutated(data: bytes, draw: Random) -> bytes:
    """With a few bytes changed, moved, doubled, left out or cut off."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at, length = draw.randrange(len(found) + 1), draw.choice((1, 2, 4, 16, 64, 500))
        match draw.randrange(8):
            case 0:
                found[at : at + length] = draw.randbytes(len(found[at : at + length]))
            case 1:
                found[at : at + length] = b"\xff" * len(found[at : at + length])
            case 2:
                found[at : at + length] = b""
            case 3:
                found[at:at] = draw.randbytes(length)
            case 4:
                found[at:at] = found[at : at + length]
            case 5:
                del found[at:]
            case 6 if found:  # the head, where sizes and tables are
                found[draw.randrange(min(40, len(found)))] = draw.choice((0, 1, 127, 128, 255))
            case _ if found:
                found[at % len(found)] ^= 1 << draw.randrange(8)
    return bytes(found)


class Hostile:
    """Makes up requests, the same from the same seed."""

    def __init__(self, pictures: Sequence[Image.Image], seed: int = 0) -> None:
        self.draw = Random(seed)
        self.files = [each for picture in pictures for each in encoded(picture).items()]
        self.picture = pictures[0]
        self.ways: tuple[tuple[int, Callable[[], Case]], ...] = (
            (60, self.image), (6, self.spliced), (4, self.polyglot), (4, self.costly), (6, self.named), (6, self.json),
            (4, self.typed), (5, self.multipart), (5, self.tensors), (4, self.wire), (2, self.large), (2, self.good),
        )  # fmt: skip

    def __iter__(self) -> Iterator[Case]:
        weights = [weight for weight, _ in self.ways]
        while True:
            [(_, way)] = self.draw.choices(self.ways, weights)
            yield way()

    def file(self) -> tuple[str, bytes]:
        """A good one."""
        return self.draw.choice(self.files)

    def of(self, kind: str, image: bytes) -> Case:
        """An image as multipart or base64."""
        if self.draw.random() < 0.8:
            return Case(kind, (upload(image),))
        text = json.dumps({"image": base64.b64encode(image).decode()}).encode()
        return Case(kind, (request(text, JSON),))

    def good(self) -> Case:
        """Nothing is wrong with it."""
        _, data = self.file()
        return Case("good", (upload(data),), fine=True)

    def image(self) -> Case:
        """Bytes of an image are changed."""
        kind, data = self.file()
        return self.of(f"mutated {kind}", mutated(data, self.draw))

    def spliced(self) -> Case:
        """The head of one image and the tail of another."""
        (_, first), (_, second) = self.file(), self.file()
        return self.of("spliced", first[: self.draw.randrange(len(first))] + second[self.draw.randrange(len(second)) :])

    def polyglot(self) -> Case:
        """An image that is something else, too."""
        _, data = self.file()
        other = self.draw.choice((
            b"<script>alert(1)</script>", b"PK\x03\x04" + b"\0" * 26, b"%PDF-1.7\n", b"#!/bin/sh\nid\n",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"\x7fELF" + b"\0" * 60, b"GIF89a/*",
            b"II*\0\x08\0\0\0" + b"\xff" * 40, b"BM" + b"\xff" * 60,
        ))  # fmt: skip
        return self.of("polyglot", self.draw.choice((data + other, other + data, data[:20] + other + data[20:])))

    def costly(self) -> Case:
        """Few bytes, much work."""
        png = next(data for kind, data in self.files if kind == "PNG")
        side = self.draw.choice((8_000, 30_000, 65_500, 2**31 - 1))
        made: dict[str, Callable[[], bytes]] = {
            "bomb": lambda: bomb(side, self.draw.choice((1, 8_000, side))),
            "10,000 pictures": lambda: animation(10_000),
            "scans": lambda: of_many_scans(self.picture, self.draw.choice((101, 2_000))),
            "parts": lambda: of_many_chunks(png, self.draw.choice((1_000, 200_000))),
            "comments": lambda: comments(self.draw.choice((1_000, 1_000_000))),
            "screen": lambda: b"GIF89a" + b"\xff" * 4 + animation(2)[10:],
            "strip": lambda: bomb(1, 40_000_000),
        }
        kind = self.draw.choice(list(made))
        return self.of(kind, made[kind]())

    def named(self) -> Case:
        """A name that is a path, an address, a header or a script."""
        _, data = self.file()
        name = self.draw.choice((
            b"../../../../etc/passwd", b"..\\..\\boot.ini", b"/dev/zero", b"http://127.0.0.1/x", b"a\r\nX: y",
            b"<img src=x onerror=alert(1)>", b"\xff\xfe\x00", b"a" * 10_000, b"%00", b"CON", b'"; filename="b', b"",
            self.draw.randbytes(20),
        ))  # fmt: skip
        return Case("name", (upload(data, name=name),))

    def json(self) -> Case:
        """JSON that is deep, of the wrong types, cut or none."""
        text = self.draw.choice((
            b"[" * 100_000, b'{"image":' * 10_000, b'{"images":[' + b'"a",' * 50_000 + b'""]}', b"null", b"3", b"{}",
            b'{"image": 3}', b'{"image": {"a": []}}', b'{"images": "abc"}', b'{"image": "file:///etc/passwd"}', b"",
            b'{"image": "http://169.254.169.254/latest"}', b'{"image": "' + b"A" * 1_000_001 + b'"}', b"\xff\xfe",
            b'{"image": "data:;base64,"}', b'{"image": "x", "image": "y"}', b"1e999999", b"-" * 1000,
            b'{"__proto__": {}}', b'{"image": "\\ud800"}',
        ))  # fmt: skip
        path = self.draw.choice(
            ("/v1/predict", "/v1/explain", "/v1/predict?top=-1", "/v1/explain?output=99999999999999999999")
        )
        return Case("json", (request(mutated(text, self.draw) if self.draw.random() < 0.3 else text, JSON, path=path),))

    def typed(self) -> Case:
        """A body that says it is something else, or is compressed."""
        _, data = self.file()
        kind = self.draw.choice((
            "text/html", "image/jpeg", "", "application/xml", "multipart/mixed; boundary=x", "x" * 3_000,
            "multipart/form-data", "multipart/form-data; boundary=" + "b" * 500, "application/x-www-form-urlencoded",
            "application/json; charset=utf-7",
        ))  # fmt: skip
        more = self.draw.choice(
            (b"", b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n", b"Expect: 100-continue\r\n")
        )
        path = self.draw.choice(("/v1/predict", "/v1/explain", "/v2/models/resnet20/infer"))
        return Case("type", (request(data, kind, path=path, more=more),))

    def multipart(self) -> Case:
        """Multipart whose form is damaged."""
        _, data = self.file()
        _, _, body = upload(data).partition(b"\r\n\r\n")
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        whole = self.draw.choice((
            mutated(body[:200], self.draw) + body[200:], body[: self.draw.randrange(len(body))], body * 40,
            b"--" + BOUNDARY + b"\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", (b"--" + BOUNDARY + b"\r\n\r\n") * 2_000,
        ))  # fmt: skip
        return Case("multipart", (request(whole, kind),))

    def tensors(self) -> Case:
        """The inference protocol, not as it is meant."""
        given: Any = {"name": "images", "shape": [1, 4, 4, 3], "datatype": "UINT8", "data": [0] * 48}
        changes: tuple[dict[str, Any], ...] = (
            {"shape": [1, 10**9, 10**9, 3]}, {"shape": [-1]}, {"shape": "x"}, {"data": "x" * 1000},
            {"datatype": "BYTES", "shape": [1], "data": ["http://x"]}, {"data": [10**400]}, {"name": "../x"},
            {"parameters": {"binary_data_size": 10**18}}, {"data": [0.5] * 48}, {"data": [None] * 48}, {"data": None},
            {"shape": [0, 0, 0, 0]}, {"data": [[[[]]]]},
        )  # fmt: skip
        text = json.dumps({"inputs": [given | self.draw.choice(changes)]}).encode()
        more = self.draw.choice(
            (b"", b"Inference-Header-Content-Length: %d\r\n" % self.draw.choice((0, 5, len(text), 2**62)))
        )
        name = self.draw.choice(("resnet20",) * 8 + ("..%2f..%2fetc", "x" * 2_000, "%00", "%ff"))
        return Case("tensors", (request(text, JSON, path=f"/v2/models/{name}/infer", more=more),))

    def wire(self) -> Case:
        """Not HTTP, or not as it should be."""
        post, end = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n", b"Connection: close\r\n\r\n"
        text = self.draw.choice((
            b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01" + b"\0" * 200, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /%00%ff HTTP/1.1\r\n\r\n", b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"BREW / HTTP/1.1\r\nHost: x\r\n" + end, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
            post + b"Content-Length: -5\r\n\r\n", post + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
            post + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" + end + b"0\r\n\r\n",
            b"GET /v1/model HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\rb\r\n" + end, self.draw.randbytes(300),
        ))  # fmt: skip
        return Case("wire", (text,), ends=True)

    def large(self) -> Case:
        """A body beyond the limit, announced or not."""
        body = b"x" * 25_000_000
        if self.draw.random() < 0.5:
            return Case("large", (request(body, JSON),))
        head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {JSON}\r\n"
        pieces = b"".join(b"%x\r\n" % 1_000_000 + body[:1_000_000] + b"\r\n" for _ in range(25))
        return Case("large", (head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n",))


def send(port: int, case: Case, *, pause: float = 0.0, patience: float = 60.0) -> Answer:
    """A connection, a request, and what came before it was closed."""
    began = time.perf_counter()
    found = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        try:
            for piece in case.pieces:
                connection.sendall(piece)
                time.sleep(pause)
            if case.ends:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it answers before it has heard all
        try:
            while data := connection.recv(1 << 16):
                found += data
                if found.startswith(b"HTTP/1.1 100 "):
                    del found[: found.index(b"\r\n\r\n") + 4]
                head, separator, body = bytes(found).partition(b"\r\n\r\n")
                if separator and len(body) >= _length(head):
                    break
        except OSError:
            pass
    head, _, body = bytes(found).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return Answer(status, time.perf_counter() - began, body)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


@dataclass
class Tally:
    """What was counted."""

    statuses: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: list[tuple[float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def add(self, case: Case, answer: Answer) -> None:
        """Counts an answer, and notes what is against the rules."""
        status = str(answer.status) if answer.status else "closed"
        self.statuses[status] += 1
        self.kinds.setdefault(case.kind, Counter())[status] += 1
        self.seconds.append((answer.seconds, case.kind))
        fault = ""
        if answer.status >= 500:
            fault = "5xx"
        elif not answer.status and case.kind not in ("wire", "large"):
            fault = "no answer"
        elif case.fine and answer.status != 200:
            fault = "a good one refused"
        elif answer.status >= 400 and answer.status != 400 and b'"error"' not in answer.body:
            fault = "no reason"
        if fault:
            self.wrong.append(f"{fault}: {case.kind} {status}")


def memory_of(process: int) -> int:
    """KiB of RAM of a process and of those it has started."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if str(process) in (status.parent.name, fields["PPid"].strip()):
            total += int(fields.get("VmRSS", "0").split()[0])
    return total


def attacked(port: int, cases: Iterator[Case], count: int, *, at_a_time: int, process: int | None = None) -> Tally:
    """Sends so many, a few at a time; the memory is read at every tenth part."""
    tally, lock, left = Tally(), threading.Lock(), iter(range(count))

    def work() -> None:
        while True:
            with lock:
                number = next(left, None)
                if number is None:
                    return
                case = next(cases)
                if process is not None and number % max(1, count // 10) == 0:
                    tally.memory.append(memory_of(process))
            answer = send(port, case)
            with lock:
                tally.add(case, answer)

    threads = [threading.Thread(target=work) for _ in range(at_a_time)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if process is not None:
        tally.memory.append(memory_of(process))
    return tally


def slow_senders(port: int, count: int) -> Tally:
    """So many at once that send a body a few bytes at a time; meanwhile good ones are answered."""
    whole = request(b'{"image": "' + b"A" * 3_000 + b'"}', JSON)
    slow = Case("slow", tuple(whole[i : i + 40] for i in range(0, len(whole), 40)))
    tally, lock = Tally(), threading.Lock()

    def work() -> None:
        answer = send(port, slow, pause=0.5)
        with lock:
            tally.add(slow, answer)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    good = Hostile([Image.new("RGB", (40, 30), "red")])
    while any(thread.is_alive() for thread in threads):
        case = good.good()
        tally.add(case, send(port, case))
        time.sleep(0.2)
    return tally


def photographs(folder: Path, count: int) -> list[Image.Image]:
    """A few pictures, made small."""
    found = []
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    for path in paths[:: max(1, len(paths) // count)][:count]:
        with Image.open(path) as image:
            small = image.convert("RGB")
        small.thumbnail((160, 160))
        found.append(small)
    return found


def started(weights: str) -> tuple[subprocess.Popen[str], int]:
    """A server, and its port."""
    command = [sys.executable, "-m", "reslab", "serve", weights, "--port", "0", "--json", "--threads", "1"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    return server, int(json.loads(server.stdout.readline())["address"].rpartition(":")[2])


def main() -> None:
    from reslab.runs import made, write_json

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--at-a-time", type=int, default=4)
    parser.add_argument("--slow", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", default="reslab:resnet20-cifar10")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    server, port = started(options.weights)
    try:
        cases = iter(Hostile(photographs(options.photographs, 8), options.seed))
        attacked(port, cases, min(500, options.count), at_a_time=options.at_a_time)  # what it allocates once is there
        began = time.perf_counter()
        tally = attacked(port, cases, options.count, at_a_time=options.at_a_time, process=server.pid)
        lasted = time.perf_counter() - began
        slow = slow_senders(port, options.slow)
        last = send(port, Hostile([Image.new("RGB", (9, 9))]).good())
        alive = server.poll() is None
    finally:
        server.terminate()
        code = server.wait(30)
    seconds = sorted(tally.seconds)
    record: dict[str, Any] = {
        "what": (__doc__ or "").split("\n", 1)[0],
        "requests": options.count,
        "seconds": round(lasted, 1),
        "statuses": dict(sorted(tally.statuses.items())),
        "kinds": {kind: dict(sorted(found.items())) for kind, found in sorted(tally.kinds.items())},
        "against_the_rules": tally.wrong,
        "answered_after_s": {
            "median": round(seconds[len(seconds) // 2][0], 4),
            "p99": round(seconds[int(0.99 * len(seconds))][0], 3),
            "slowest": [(round(time_, 3), kind) for time_, kind in seconds[-10:]],
            "over_1_s": sum(time_ > 1 for time_, _ in seconds),
        },
        "memory_mib": [round(each / 1024, 1) for each in tally.memory],
        "slow_senders": {"statuses": dict(slow.statuses), "against_the_rules": slow.wrong},
        "alive_at_the_end": alive,
        "last_answer": last.status,
        "exit_code": code,
    }
    print(json.dumps(record, indent=2))
    if options.out is not None:
        write_json(options.out, record | {"made": made()})


if __name__ == "__main__":
    main()
