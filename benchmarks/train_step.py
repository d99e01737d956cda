"""Throughput of a training step of ResNet-20 beside plain PyTorch, in one run.

    python benchmarks/train_step.py [--net resnet20] [--batch 128] [--rounds 10] [--out results/train_step.json]

The peer is what a popular script does: the same network and update in fp32, channels-first, eager PyTorch,
its batch ready in memory. Reslab's step is its default on this machine and makes its own batch: gather,
normalise, shift and flip count. Rounds of the two alternate, so that a machine whose speed drifts slows
both; the ratio is the median over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from reslab import runs
from reslab.bench.works import step_of
from reslab.data.sources import load
from reslab.nets.network import build
from reslab.recipes import he2015_cifar
from reslab.train.device import Execution, describe, keep_freed_memory
from reslab.train.loop import Trainer


def peer(net: str, batch: int) -> Callable[[], None]:
    """The same network by the modules that everyone writes: fp32, channels-first, `torch.optim.SGD`."""
    network: nn.Module = build(net).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))

    def step() -> None:
        keep_freed_memory(False)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # a training script prints it

    return step


def reslab_step(net: str, batch: int) -> tuple[Callable[[], object], Trainer]:
    """Reslab's own step, as `reslab train` runs it."""
    data = load("synthetic")
    recipe = he2015_cifar(net, data.info, batch=batch)
    trainer = Trainer(recipe, data, Execution(torch.device("cpu")))
    trainer.net.train()
    return step_of(trainer), trainer


def seconds(step: Callable[[], object], steps: int) -> float:
    """Median time of a step, in seconds."""
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="steps of each in a round")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()

    theirs = peer(options.net, options.batch)
    ours, trainer = reslab_step(options.net, options.batch)
    mode = describe(trainer.device, trainer.recipe.precision, fused=True)
    print(f"{options.net}, batch {options.batch}; Reslab: {mode}")
    for _ in range(3):
        theirs()
        ours()
    pairs = []
    for number in range(options.rounds):
        pair = (seconds(theirs, options.steps), seconds(ours, options.steps))
        pairs.append(pair)
        print(
            f"round {number + 1:2d}   fp32 eager {1e3 * pair[0]:6.1f} ms   Reslab {1e3 * pair[1]:6.1f} ms   "
            f"{pair[0] / pair[1]:.2f} x",
            flush=True,
        )
    peer_s, own_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"\nfp32 eager  {options.batch / peer_s:7.0f} images/s")
    print(
        f"Reslab      {options.batch / own_s:7.0f} images/s, {100 * trainer.total.waiting:.1f} % of it making batches"
    )
    print(f"ratio {ratio:.2f} x")
    if options.out:
        runs.write_json(
            options.out,
            {
                "command": f"python benchmarks/train_step.py --net {options.net} --batch {options.batch} "
                f"--rounds {options.rounds} --steps {options.steps}",
                "when": runs.now(),
                "machine": runs.describe() | {"threads": str(torch.get_num_threads())},
                "mode": mode,
                "peer_ms": [round(1e3 * a, 2) for a, _ in pairs],
                "reslab_ms": [round(1e3 * b, 2) for _, b in pairs],
                "peer_images_per_second": round(options.batch / peer_s, 1),
                "reslab_images_per_second": round(options.batch / own_s, 1),
                "waiting_for_data": round(trainer.total.waiting, 4),
                "ratio": round(ratio, 3),
            },
        )


if __name__ == "__main__":
    main()
