"""Two replicas of a server under Ray Serve, one of them killed under load: what is lost, and what a retry gets.

    pip install 'ray[serve]'
    python benchmarks/serve_on_ray.py PHOTOGRAPHS ARTEFACT --out results/serve_on_ray.json

Each replica is the application of `reslab serve` as it is: it decodes, gathers batches and refuses by itself; Ray
spreads the requests, looks after the replicas and starts another for one that is gone. Clients each wait for their
answer, and ask again where there is none.
"""

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import ray
from ray import serve as ray_serve

from reslab.runs import made, write_json
from serve import Connection, upload

REPLICA = "ray::ServeReplica"


def builder(words: Sequence[str]) -> Callable[[], Any]:
    """What makes the application in a replica."""

    def build() -> Any:
        from rich.console import Console

        from reslab.cli import app
        from reslab.commands.serve import prepare

        command, bound, _ = app.parse_args(["serve", *words, "--port", "0"])
        prepared = prepare(command(*bound.args, **bound.kwargs), Console(stderr=True))
        prepared.listening.close()  # Ray listens
        return prepared.app.app

    return build


def replicas() -> list[int]:
    """Their processes."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if place.read_bytes().startswith(REPLICA.encode()):
                found.append(int(place.parent.name))
    return sorted(found)


async def under_load(port: int, files: Sequence[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Kills a replica after a third of the time."""
    requests = [upload(data) for data in files]
    first, last, tries = Counter[str](), Counter[str](), Counter[int]()
    until = time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = Connection(port)
        for request in cycle([*requests[number:], *requests[:number]]):
            if time.perf_counter() > until:
                return
            for attempt in range(1, 30):
                try:
                    said = str(await connection.ask(request))
                except (OSError, asyncio.IncompleteReadError):
                    said = "lost"
                if attempt == 1:
                    first[said] += 1
                if said == "200":
                    break
                await asyncio.sleep(0.3)
            last[said] += 1
            tries[attempt] += 1

    tasks = [asyncio.create_task(client(number)) for number in range(clients)]
    await asyncio.sleep(seconds / 3)
    before = replicas()
    os.kill(before[0], signal.SIGKILL)
    await asyncio.gather(*tasks)
    return {
        "replicas": len(before),
        "first_tries": dict(first),
        "in_the_end": dict(last),
        "requests_by_tries": {str(count): number for count, number in sorted(tries.items())},
        "replicas_afterwards": len(replicas()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("model")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--port", type=int, default=8777)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    words = [str(Path(options.model).resolve()), "--runtime", options.runtime, "--threads", "1"]
    deployment = ray_serve.deployment(
        num_replicas=2, ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=64, health_check_period_s=1
    )
    application = deployment(ray_serve.ingress(builder(words))(type("Reslab", (), {})))
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        ray_serve.start(http_options={"host": "127.0.0.1", "port": options.port})
        ray_serve.run(application.bind())
        paths = [path for path in sorted(options.photographs.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
        files = [path.read_bytes() for path in paths[:32]]
        found = asyncio.run(under_load(options.port, files, options.clients, options.seconds))
    finally:
        ray_serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
    record: dict[str, Any] = {
        "what": (__doc__ or "").split("\n", 1)[0],
        "clients": options.clients,
        "seconds": options.seconds,
        **found,
    }
    print(json.dumps(record, indent=2))
    if options.out is not None:
        write_json(options.out, record | {"made": made(ray=ray.__version__)})


if __name__ == "__main__":
    main()
