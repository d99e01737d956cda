"""Two ranks of one thread beside one rank of two, by turns; and a small model of a step, fitted here.

    python benchmarks/ranks.py [--rounds 10] [--nets resnet20 resnet56]

Measured: images/s of training steps at batch 128 (synthetic images in memory); steps of one thread with a quarter, a
half and the whole of the batch while another process does the same, without exchange; and the exchange alone (gloo, a
message of so many bytes averaged over two ranks). Fitted: seconds of a step = fixed + per_image x images, and of an
exchange = latency + bytes / bandwidth. Predicted from these, and compared: the step of two ranks. docs/scaling.md uses
the model.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BATCH = 128
SIZES = (32, 64, 128)
MESSAGES = (1 << 14, 1 << 17, 1 << 20, 1 << 22, 1 << 24)


class Process:
    """A rank that waits for orders, a line each, and answers with seconds."""

    def __init__(self, rank: int, size: int, threads: int, port: int) -> None:
        env = os.environ | {"OMP_NUM_THREADS": str(threads)}
        if size > 1:
            env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
            env |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        self.child = subprocess.Popen(
            [sys.executable, __file__, "--rank", str(threads)],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, **order: Any) -> None:
        assert self.child.stdin is not None
        print(json.dumps(order), file=self.child.stdin, flush=True)

    def answer(self) -> float:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit("a rank has ended")
        return float(json.loads(line))


def together(ranks: list[Process], **order: Any) -> float:
    """The same order to some ranks at once; the longest of their times."""
    for rank in ranks:
        rank.ask(**order)
    return max([rank.answer() for rank in ranks])


def obey(threads: int) -> None:
    """What a rank does: trains, trains without exchange, or exchanges, and says how long it took."""
    import torch
    from torch.nn import functional as F

    from reslab.data.sources import load
    from reslab.evaluate.metrics import autocast
    from reslab.recipes.he2015_cifar import he2015_cifar
    from reslab.train.device import Execution
    from reslab.train.distributed import joined
    from reslab.train.trainer import Trainer

    torch.set_num_threads(threads)
    cpu, data = torch.device("cpu"), load("synthetic")
    trainers: dict[str, Trainer] = {}
    with joined(cpu) as world:
        for line in sys.stdin:
            order = json.loads(line)
            if "bytes" in order:
                message = [torch.zeros(order["bytes"] // 4)]
                world.average(message)
                start = time.perf_counter()
                for _ in range(order["times"]):
                    world.average(message)
            else:
                name = order["net"]
                if name not in trainers:
                    trainers[name] = Trainer(he2015_cifar(name, data.info), data, Execution(cpu, world=world))
                    trainers[name].net.train()
                trainer = trainers[name]
                if "images" in order:
                    images = torch.randn(order["images"], 3, 32, 32).contiguous(memory_format=torch.channels_last)
                    labels = torch.arange(order["images"]) % 10

                    def step(trainer: Trainer = trainer, x: Any = images, y: Any = labels) -> None:
                        trainer.optimizer.set_lr(1e-3)
                        with autocast(cpu, trainer.recipe.precision):
                            logits = trainer.net(x)
                        F.cross_entropy(logits.float(), y).backward()
                        trainer.optimizer.step()
                else:
                    step = trainer.step  # type: ignore[assignment]
                step()
                start = time.perf_counter()
                for _ in range(order["times"]):
                    step()
            print(json.dumps((time.perf_counter() - start) / order["times"]), flush=True)


def line(points: dict[int, float]) -> tuple[float, float]:
    """Least squares of relative errors: the fixed part and the part in proportion (both at least zero)."""
    weights = {x: 1 / y**2 for x, y in points.items()}
    total = sum(weights.values())
    x_mean = sum(w * x for x, w in weights.items()) / total
    y_mean = sum(w * points[x] for x, w in weights.items()) / total
    slope = sum(w * (x - x_mean) * (points[x] - y_mean) for x, w in weights.items())
    slope /= sum(w * (x - x_mean) ** 2 for x, w in weights.items())
    return max(0.0, y_mean - slope * x_mean), slope


def measure(nets: list[str], rounds: int) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    one, two = [Process(0, 1, 2, port)], [Process(rank, 2, 1, port) for rank in range(2)]
    exchange = {
        size: statistics.median(together(two, bytes=size, times=20) for _ in range(rounds)) for size in MESSAGES
    }
    latency, per_byte = line(exchange)
    rows = []
    for net in nets:
        times = 10 if net == "resnet20" else 4
        seconds: dict[str, list[float]] = {"one": [], "two": []}
        for number in range(rounds):
            for name, ranks in (("one", one), ("two", two))[:: 1 if number % 2 == 0 else -1]:
                seconds[name].append(together(ranks, net=net, times=times))
        alone = {
            size: statistics.median(
                together(two, net=net, images=size, times=times) for _ in range(max(3, rounds // 2))
            )
            for size in SIZES
        }
        fixed, per_image = line(alone)
        from reslab.nets import build

        bytes_ = 4 * sum(p.numel() for p in build(net).parameters())
        predicted = fixed + per_image * BATCH / 2 + latency + per_byte * bytes_
        ratios = sorted(a / b for a, b in zip(seconds["one"], seconds["two"], strict=True))
        rows.append(
            {
                "net": net,
                "images_per_second": {name: round(BATCH / statistics.median(t), 1) for name, t in seconds.items()},
                "ratio_two_to_one": round(statistics.median(ratios), 3),
                "ratios": [round(r, 3) for r in ratios],
                "seconds_without_exchange": {str(size): round(t, 5) for size, t in alone.items()},
                "fixed": fixed,
                "per_image": per_image,
                "gradient_bytes": bytes_,
                "predicted_step_of_two": round(predicted, 5),
                "measured_step_of_two": round(statistics.median(seconds["two"]), 5),
            }
        )
        print(
            f"{net}: two ranks {rows[-1]['ratio_two_to_one']:.2f} x one; step of two "
            f"{1000 * statistics.median(seconds['two']):.1f} ms, by the model {1000 * predicted:.1f} ms"
        )
    for process in (*one, *two):
        assert process.child.stdin is not None
        process.child.stdin.close()
    for process in (*one, *two):
        process.child.wait()
    return {
        "exchange_seconds": {str(size): seconds for size, seconds in exchange.items()},
        "latency": latency,
        "bandwidth": 1 / per_byte,
        "nets": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--nets", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "ranks.json")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        obey(options.rank)
        return
    from reslab import runs

    found = measure(options.nets, options.rounds)
    runs.write_json(options.out, {**runs.made(), **found})


if __name__ == "__main__":
    main()
