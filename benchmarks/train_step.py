"""Throughput of a training step of ResNet-20 beside plain PyTorch, in one run.

    python benchmarks/train_step.py [--net resnet20] [--batch 128] [--rounds 10] [--out results/train_step.json]

Each of the two runs in a process of its own.

The peer is what a popular script does: the same network and update in fp32, channels-first, eager PyTorch,
its batch ready in memory. Reslab's step is its default on this machine and makes its own batch: gather,
normalise, shift and flip count. Rounds of the two alternate, so that a machine whose speed drifts slows
both; the ratio is the median over the rounds.
"""

import argparse
import statistics
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from reslab import runs
from reslab.bench.paired import Work, ratio, take_turns_apart
from reslab.data.sources import load
from reslab.nets.network import build
from reslab.recipes import he2015_cifar
from reslab.train.device import Execution, describe
from reslab.train.loop import Trainer

CPU = torch.device("cpu")


def peer(net: str, batch: int) -> Work:
    """The same network by the modules that everyone writes: fp32, channels-first, `torch.optim.SGD`."""
    network: nn.Module = build(net).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # a training script prints it

    return step


def trainer_of(net: str, batch: int) -> Trainer:
    """Reslab's own step, as `reslab train` runs it."""
    data = load("synthetic")
    trainer = Trainer(he2015_cifar(net, data.info, batch=batch), data, Execution(CPU))
    trainer.net.train()
    return trainer


def own(net: str, batch: int) -> Work:
    """Its step."""
    return trainer_of(net, batch).step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of each in a round")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()

    makers = {"peer": partial(peer, options.net, options.batch), "reslab": partial(own, options.net, options.batch)}
    trainer = trainer_of(options.net, options.batch)
    mode = describe(trainer.device, trainer.recipe.precision, fused=True)
    print(f"{options.net}, batch {options.batch}; Reslab: {mode}")
    for _ in range(20):
        trainer.step()
    found = take_turns_apart(
        makers, rounds=options.rounds, turn=options.turn, device=CPU,
        done=lambda number: print(f"round {number}", flush=True),
    )  # fmt: skip
    pairs = list(zip(found["peer"], found["reslab"], strict=True))
    peer_s, own_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    apart = ratio(found["peer"], found["reslab"])
    print(f"\nfp32 eager  {options.batch / peer_s:7.0f} images/s")
    print(
        f"Reslab      {options.batch / own_s:7.0f} images/s, {100 * trainer.total.waiting:.1f} % of it making batches"
    )
    print(f"ratio {apart.median:.2f} x ({apart.low:.2f} to {apart.high:.2f})")
    if options.out:
        runs.write_json(
            options.out,
            {
                **runs.made(threads=torch.get_num_threads()),
                "mode": mode,
                "peer_ms": [round(1e3 * a, 2) for a, _ in pairs],
                "reslab_ms": [round(1e3 * b, 2) for _, b in pairs],
                "peer_images_per_second": round(options.batch / peer_s, 1),
                "reslab_images_per_second": round(options.batch / own_s, 1),
                "waiting_for_data": round(trainer.total.waiting, 4),
                "ratio": {name: round(value, 3) for name, value in asdict(apart).items()},
            },
        )


if __name__ == "__main__":
    main()
