"""`reslab serve` under load: its throughput beside the bare runtime, five times too many requests, and its start.

    python benchmarks/serve.py PHOTOGRAPHS ARTEFACT --runtime openvino --out results/serve.json

PHOTOGRAPHS is any folder of JPEG files, ARTEFACT (or weights) what is served. By turns: the runtime alone in a process
of its own, on images that are decoded already, in batches of 32; and the server, asked by 32 clients that each wait for
their answer, in one process on the same cores, whose work is part of what the cores have to do. Where others use the
cores too, the seconds of the processor that an image takes say more than images a second. Then for a minute five times
as many requests as it answered, whether or not they are answered; its memory is read meanwhile.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from reslab.runs import made, write_json
from serve_hostile import memory_of

BOUNDARY = b"----reslab"
WHOLE = "from reslab.deploy import runtimes; runtimes.APART = 10**9; "
"""With it OpenVINO computes every batch by all threads together."""
BARE = """
import json, sys, time
import numpy as np
from rich.console import Console
from reslab.cli import app
from reslab.commands.serve import model_of
from reslab.deploy.serve.decoding import decoded
words = json.loads(sys.argv[1])
command, bound, _ = app.parse_args(words)
model = model_of(command(*bound.args, **bound.kwargs), Console(stderr=True))
images = [decoded(open(path, "rb").read(), model.how) for path in json.loads(sys.argv[2])]
print("ready", flush=True)
for line in sys.stdin:
    model.probabilities(images)
    until, count, began = time.perf_counter() + float(line), 0, time.perf_counter()
    while time.perf_counter() < until:
        model.probabilities(images)
        count += len(images)
    print(count, time.perf_counter() - began, flush=True)
"""


@dataclass
class Seen:
    """Answers: when they were asked for, how long they took, and their status."""

    seconds: list[tuple[int, float]] = field(default_factory=list)
    lost: int = 0
    inside: list[float] = field(default_factory=list)
    """seconds of those that were answered, by the server's clock"""

    def statuses(self) -> dict[str, int]:
        """How many of each."""
        return {str(status): count for status, count in sorted(Counter(status for status, _ in self.seconds).items())}

    def fine(self) -> list[float]:
        """Seconds of those that were answered, in their order."""
        return sorted(seconds for status, seconds in self.seconds if status == 200)


def upload(image: bytes) -> bytes:
    """A request with an image as multipart."""
    head = b'--%b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' % BOUNDARY
    body = head + image + b"\r\n--" + BOUNDARY + b"--\r\n"
    return (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=%b\r\n"
        b"Content-Length: %d\r\n\r\n" % (BOUNDARY, len(body))
    ) + body


class Connection:
    """One that is kept open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.milliseconds = 0.0
        """that the last answer took, by the server's clock: from the last byte of the request"""
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        """The status. Raises `OSError` or `asyncio.IncompleteReadError`."""
        if self.streams is not None:
            with suppress(OSError, asyncio.IncompleteReadError):  # it may have been closed while nothing was asked
                return await self._ask(request)
        self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        return await self._ask(request)

    async def _ask(self, request: bytes) -> int:
        assert self.streams is not None
        source, sink = self.streams
        try:
            sink.write(request)
            await sink.drain()
            head = (await source.readuntil(b"\r\n\r\n")).lower()
            body = await source.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
            with suppress(ValueError):  # of others' errors, in words
                self.milliseconds = json.loads(body).get("milliseconds", 0.0)
        except BaseException:
            self.close()
            raise
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        """Ends it."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def closed_loop(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Seen:
    """Clients that each wait for their answer."""
    seen, until = Seen(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        first = number % len(requests)
        connection, mine = Connection(port), cycle([*requests[first:], *requests[:first]])
        while (began := time.perf_counter()) < until:
            status = await connection.ask(next(mine))
            seen.seconds.append((status, time.perf_counter() - began))
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return seen


async def open_loop(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> Seen:
    """Requests at a rate, whether or not those before them are answered."""
    seen, free = Seen(), list[Connection]()
    tasks: set[asyncio.Task[None]] = set()

    async def one(request: bytes) -> None:
        connection = free.pop() if free else Connection(port)
        began = time.perf_counter()
        try:
            status = await connection.ask(request)
            seen.seconds.append((status, time.perf_counter() - began))
            if status == 200:
                seen.inside.append(connection.milliseconds / 1000)
        except (OSError, asyncio.IncompleteReadError):
            seen.lost += 1
        free.append(connection)

    began, source = time.perf_counter(), cycle(requests)
    for number in range(int(rate * seconds)):
        wait = began + number / rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(next(source)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return seen


async def with_memory(process: int, work: Any) -> tuple[Seen, list[float]]:
    """The work, and MiB of the server's processes every few seconds of it."""
    task, memory = asyncio.ensure_future(work), list[float]()
    while not task.done():
        memory.append(round(memory_of(process) / 1024, 1))
        await asyncio.wait({task}, timeout=5)
    return task.result(), memory


def started(words: Sequence[str], first: str = "") -> tuple[subprocess.Popen[str], int, float]:
    """A server, its port, and the seconds until it was ready; with a statement of Python before it starts."""
    began = time.perf_counter()
    main = ["-c", f"{first}from reslab.cli import main; main()"] if first else ["-m", "reslab"]
    command = [sys.executable, *main, *words, "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    port = int(json.loads(server.stdout.readline())["address"].rpartition(":")[2])
    return server, port, time.perf_counter() - began


def of(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    middle, late = statistics.median(seconds), seconds[min(len(seconds) - 1, int(0.99 * len(seconds)))]
    return {"p50_ms": round(1000 * middle, 1), "p99_ms": round(1000 * late, 1), "p99_over_p50": round(late / middle, 2)}


def cpu_of(process: int) -> float:
    """Seconds of the processor that a process and those that it has started have taken."""
    ticks = 0
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            if str(process) in (place.parent.name, fields[1]):
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def start_up(words: Sequence[str], times: int) -> dict[str, Any]:
    """Seconds to ready, and whether torch is in the process."""
    seconds, cpu, torch = [], [], False
    for _ in range(times):
        server, _, took = started(words)
        seconds.append(round(took, 3))
        cpu.append(round(cpu_of(server.pid), 2))
        with suppress(OSError):
            torch = "libtorch" in Path(f"/proc/{server.pid}/maps").read_text()
        server.terminate()
        server.wait(30)
    return {"seconds": seconds, "of_the_processor": cpu, "torch_is_imported": torch}


def by_turns(words: Sequence[str], files: Sequence[Path], options: argparse.Namespace) -> dict[str, Any]:
    """The runtime alone and the server, one after the other, several times."""
    requests = [upload(path.read_bytes()) for path in files]
    first = WHOLE if options.whole else ""
    command = [
        sys.executable,
        "-c",
        first + BARE,
        json.dumps(list(words)),
        json.dumps([str(path) for path in files[:32]]),
    ]
    rounds = []
    spent: tuple[list[float], list[float], list[float]] = ([], [], [])
    seen = Seen()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bare:
        assert bare.stdin is not None
        assert bare.stdout is not None
        assert bare.stdout.readline() == "ready\n"
        server, port, _ = started([*words, "--deadline", "120"], first)  # here everything is to be answered
        try:
            asyncio.run(closed_loop(port, requests, options.clients, 3.0))
            for _ in range(options.rounds):
                before = cpu_of(bare.pid)
                bare.stdin.write(f"{options.seconds}\n")
                bare.stdin.flush()
                count, took = map(float, bare.stdout.readline().split())
                spent[0].append((cpu_of(bare.pid) - before) / (count + 32))  # it warms up with a batch
                before, own = cpu_of(server.pid), time.process_time()
                found = asyncio.run(closed_loop(port, requests, options.clients, options.seconds))
                answered = len(found.fine())
                spent[1].append((cpu_of(server.pid) - before) / answered)
                spent[2].append((time.process_time() - own) / answered)
                seen.seconds += found.seconds
                alone, rate = count / took, answered / options.seconds
                share = round(rate / alone, 3)
                rounds.append({"runtime_alone": round(alone, 1), "server": round(rate, 1), "share": share})
                print(rounds[-1], [round(1000 * each[-1], 2) for each in spent], flush=True)
        finally:
            server.terminate()
            server.wait(30)
        bare.stdin.close()
    alone, server_, clients = (round(1000 * statistics.median(each), 2) for each in spent)
    return {
        "images_per_second": rounds,
        "share": statistics.median(each["share"] for each in rounds),
        "processor_ms_per_image": {"runtime_alone": alone, "server": server_, "clients": clients},
        "share_of_the_processor": {
            "of_the_server": round(alone / server_, 3), "of_server_and_clients": round(alone / (server_ + clients), 3)
        },
        **of(seen.fine()),
        "statuses": seen.statuses(),
    }  # fmt: skip


def overload(
    words: Sequence[str], files: Sequence[Path], capacity: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Five times too many, for a minute."""
    requests = [upload(path.read_bytes()) for path in files]
    server, port, _ = started([*words, "--deadline", str(options.deadline)])
    try:
        asyncio.run(closed_loop(port, requests, options.clients, 3.0))
        work = open_loop(port, requests, options.times * capacity, options.overload)
        seen, memory = asyncio.run(with_memory(server.pid, work))
        after = asyncio.run(closed_loop(port, requests, 1, 2.0))
    finally:
        server.terminate()
        code = server.wait(60)
    fine = seen.fine()
    return {
        "requests_per_second": round(options.times * capacity, 1),
        "seconds": options.overload,
        "deadline_s": options.deadline,
        "statuses": seen.statuses(),
        "connections_lost": seen.lost,
        "answered_per_second": round(len(fine) / options.overload, 1),
        **of(fine),
        "slowest_answer_s": round(fine[-1], 3),
        "slowest_by_the_servers_clock_s": round(max(seen.inside), 3),
        "answered_after_the_deadline": sum(seconds > options.deadline for seconds in seen.inside),
        "memory_mib": memory,
        "answered_afterwards": after.statuses(),
        "exit_code": code,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("model")
    parser.add_argument("--runtime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round, for either")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=float, default=5.0, help="requests in overload, over what was answered")
    parser.add_argument("--overload", type=float, default=60.0, help="seconds; 0 leaves it out")
    parser.add_argument("--deadline", type=float, default=2.0)
    parser.add_argument("--whole", action="store_true", help="throughput of OpenVINO without parts of batches apart")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    files = [path for path in sorted(options.photographs.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")][:64]
    words = ["serve", options.model, "--port", "0", "--precision", options.precision]
    words += [] if options.runtime is None else ["--runtime", options.runtime]
    record: dict[str, Any] = {
        "what": (__doc__ or "").split("\n", 1)[0],
        "load_average": os.getloadavg(),
        "start": start_up(words, 3),
    }
    print(record["start"], flush=True)
    record["throughput"] = by_turns(words, files, options)
    capacity = statistics.median(each["server"] for each in record["throughput"]["images_per_second"])
    if options.overload:
        record["overload"] = overload(words, files, capacity, options)
    print(json.dumps(record, indent=2))
    if options.out is not None:
        write_json(options.out, record | {"made": made()})


if __name__ == "__main__":
    main()
