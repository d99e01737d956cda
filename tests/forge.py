"""A process that has imported everything and forks a child for each command, so that many can be killed quickly.

Reads a JSON object a line: ``words`` of the command line; ``log``, a path for its output; optionally
``fsize``, the longest file in bytes that it may write; and ``stop``, with the ``signal`` to send and one
condition: ``seconds`` since the start, or, looked at in the folder ``run``, so many ``lines`` of metrics,
so many ``evaluations`` among them, or a file that matches the pattern ``file``. Where a condition can pass
again (a temporary file), the child is halted and the condition looked at once more before the signal is
sent: the kill is sure to fall where it was meant to. Answers the exit code, negative for a signal.

With ``ranks``, a list of command lines, it forks a child for each, with the environment that `torchrun` gives to the
ranks of a training; ``stop`` then names its ``rank``. Answers the list of exit codes; logs are ``log.0``, ``log.1``.
"""

import json
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

LIMIT = 90
"""Seconds after which a command is killed, come what may."""


def holds(stop: dict[str, Any], started: float) -> bool:
    """Whether the condition of ``stop`` is true now."""
    if "seconds" in stop:
        return time.monotonic() - started >= float(stop["seconds"])
    run = Path(stop["run"])
    if "file" in stop:
        return any(run.glob(stop["file"]))
    metrics = run / "metrics.jsonl"
    text = metrics.read_bytes() if metrics.exists() else b""
    if "evaluations" in stop:
        return text.count(b'test_loss"') + text.count(b'validation_loss"') >= int(stop["evaluations"])
    return text.count(b"\n") >= int(stop["lines"])


def child(order: dict[str, Any]) -> None:
    """Becomes the command."""
    os.nice(5)  # below whoever watches for the moment to stop it
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "fsize" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["fsize"], order["fsize"]))
    from reslab.cli import main

    code: object = 0
    try:
        main(order["words"])
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    print("\nheavy:", *(name for name in ("torch._dynamo", "matplotlib") if name in sys.modules))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def carry_out(order: dict[str, Any]) -> int:
    """Forks the command, stops it if so ordered, and returns its exit code."""
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        child(order)
    stop = order.get("stop")
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() - started > LIMIT:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if stop is None:
            time.sleep(0.005)
        elif holds(stop, started):
            os.kill(pid, signal.SIGSTOP)
            done, status = os.waitpid(pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                return os.waitstatus_to_exitcode(status)
            sure = holds(stop, started)
            if sure:
                os.kill(pid, getattr(signal, stop["signal"]))
                stop = None
            os.kill(pid, signal.SIGCONT)
        else:
            time.sleep(0.0001)


def together(order: dict[str, Any]) -> list[int]:
    """Forks the ranks, kills one if so ordered, and returns their exit codes when all have ended."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started, pids = time.monotonic(), []
    for rank, words in enumerate(order["ranks"]):
        pid = os.fork()
        if pid == 0:
            of_all = {"WORLD_SIZE": len(order["ranks"]), "MASTER_ADDR": "localhost", "MASTER_PORT": port}
            os.environ.update(
                {name: str(value) for name, value in {"RANK": rank, "LOCAL_RANK": rank, **of_all}.items()}
            )
            child({"words": words, "log": f"{order['log']}.{rank}"})
        pids.append(pid)
    stop, codes = order.get("stop"), dict.fromkeys(pids, 0)
    running = set(pids)
    while running:
        for pid in list(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
                running.remove(pid)
        if stop is not None and holds(stop, started):
            os.kill(pids[stop["rank"]], getattr(signal, stop["signal"]))
            stop = None
        if time.monotonic() - started > LIMIT:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    return [codes[pid] for pid in pids]


def serve() -> None:
    """Answers orders until one is null, or the input ends."""
    import tensorboard.summary.writer.record_writer  # noqa: F401
    import torch

    import reslab.commands.study
    import reslab.commands.train  # noqa: F401
    from reslab.kernels.build import library

    library()
    torch.set_num_threads(1)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order is None:
            break
        print(json.dumps(together(order) if "ranks" in order else carry_out(order)), flush=True)


if __name__ == "__main__":
    serve()
