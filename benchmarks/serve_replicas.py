"""Two replicas of `reslab serve`, one killed under load and started again: what is lost, and what a retry gets.

    python benchmarks/serve_replicas.py PHOTOGRAPHS ARTEFACT --out results/serve_replicas.json

Clients speak the Open Inference Protocol (KServe's v2) by tritonclient, each in a process of its own, and take the
replicas in turns, as a load balancer would. A request that was not answered is asked again of the next replica. After a
third of the time a replica is killed (SIGKILL), after another third it is started again at the same address.
"""

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton

from reslab.runs import made, write_json

REPLICAS = 2


def started(words: list[str], port: int) -> tuple[subprocess.Popen[str], str, int]:
    """A replica, its model's name, and its port."""
    command = [sys.executable, "-m", "reslab", "serve", *words, "--port", str(port), "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    said = json.loads(server.stdout.readline())
    return server, said["model"], int(said["address"].rpartition(":")[2])


def asked(number: int, model: str, ports: list[int], files: list[bytes], seconds: float) -> dict[str, Any]:
    """One client: how many requests needed how many tries, what failed, who answered, and what of each file."""
    clients = [triton.InferenceServerClient(f"127.0.0.1:{port}", network_timeout=20.0) for port in ports]
    tries, failed, by, first = Counter[int](), Counter[str](), Counter[int](), dict[int, set[int]]()
    until, unanswered = time.monotonic() + seconds, 0
    turns = cycle(range(len(ports)))
    for which in count(number):
        if time.monotonic() > until:
            break
        images = triton.InferInput("images", [1], "BYTES")
        images.set_data_from_numpy(np.array([files[which % len(files)]], dtype=np.object_))
        for attempt in range(1, 20):
            replica = next(turns)
            try:
                found = clients[replica].infer(model, [images]).as_numpy("probabilities")
            except Exception as why:  # of the client's library, of any kind
                failed[type(why).__name__] += 1
                time.sleep(0.02)
                continue
            tries[attempt] += 1
            by[replica] += 1
            first.setdefault(which % len(files), set()).add(int(found[0].argmax()))
            break
        else:
            unanswered += 1
    return {"tries": tries, "failed": failed, "by": by, "first": first, "unanswered": unanswered}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("model")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    paths = [path for path in sorted(options.photographs.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    files = [path.read_bytes() for path in paths[:32]]
    words = [options.model, "--runtime", options.runtime, "--threads", "1"]
    servers = [started(words, 0) for _ in range(REPLICAS)]
    model, ports = servers[0][1], [port for _, _, port in servers]
    running = [server for server, _, _ in servers]
    try:
        with multiprocessing.get_context("spawn").Pool(options.clients) as pool:
            todo = [(number, model, ports, files, options.seconds) for number in range(options.clients)]
            result = pool.starmap_async(asked, todo)
            time.sleep(options.seconds / 3)
            os.kill(running[0].pid, signal.SIGKILL)
            running[0].wait()
            time.sleep(options.seconds / 3)
            running[0] = started(words, ports[0])[0]
            found = result.get(options.seconds + 120)
    finally:
        for server in running:
            server.terminate()
            server.wait(30)
    several = [len(set().union(*(each["first"].get(name, set()) for each in found))) for name in range(len(files))]
    total: dict[str, Counter[Any]] = {key: Counter() for key in ("tries", "failed", "by")}
    for key, counted in total.items():
        for each in found:
            counted.update(each[key])
    record: dict[str, Any] = {
        "what": (__doc__ or "").split("\n", 1)[0],
        "client": "tritonclient.http, one process each",
        "clients": options.clients,
        "seconds": options.seconds,
        "requests": sum(total["tries"].values()) + sum(each["unanswered"] for each in found),
        "requests_by_tries": {str(tries): number for tries, number in sorted(total["tries"].items())},
        "never_answered": sum(each["unanswered"] for each in found),
        "failed_tries": dict(total["failed"]),
        "answered_by_replica": {"killed, started again": total["by"][0], "the other": total["by"][1]},
        "photographs_with_several_answers": sum(number > 1 for number in several),
    }
    print(json.dumps(record, indent=2))
    if options.out is not None:
        from importlib.metadata import version

        write_json(options.out, record | {"made": made(tritonclient=version("tritonclient"))})


if __name__ == "__main__":
    main()
