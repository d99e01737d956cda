"""A small model of a training step on many GPUs: what is communicated, what the data path must deliver.

    python benchmarks/scaling.py [--ranks 1 8 64 256 1024] [--batch 32]

A step takes the longer of making its images, and of computing with the part of the exchange of gradients that is not
hidden behind the backward pass:

    compute  = fixed + images / rate                        the form that fits here: results/ranks.json
    exchange = ring inside a machine + ring between machines (latency + bytes / bandwidth each way)
    step     = max(compute + max(0, exchange - overlap x backward), images / decoded)

What cannot be measured here is an assumption, given on the command line and printed with the result: nothing of it was
measured on such a cluster.
"""

import argparse
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """Rates of one GPU and its share of a machine; seconds, bytes and images."""

    rate: float = 1650.0
    """images/s of a GPU in large batches: FFCV's 16 passes at 160 to 192 pixels in 14.9 minutes on 8 A100, by pixels"""
    fixed: float = 0.004
    """seconds of a step that do not depend on the batch: kernels that are started one by one"""
    machine: int = 8
    """GPUs of a machine"""
    inside: float = 230e9
    """bytes/s each way between GPUs of a machine"""
    between: float = 20e9
    """bytes/s each way between machines, for each GPU"""
    latency: float = 15e-6
    """seconds of a message"""
    cores: float = 12
    """CPU cores of a GPU's share of its machine"""
    decoded: float = 900
    """images/s that a core decodes: results/decode.json"""
    photograph: float = 110e3
    """bytes of an image"""


@dataclass(frozen=True)
class Step:
    """Of one rank, in seconds."""

    compute: float
    exchange: float
    shown: float
    """the part of the exchange that is waited for"""
    data: float

    @property
    def total(self) -> float:
        """The whole step."""
        return max(self.compute + self.shown, self.data)


def exchange(ranks: int, size: float, cluster: Cluster) -> float:
    """A ring inside each machine and one between machines over each GPU's own link (reduce, then distribute)."""
    here, machines = min(ranks, cluster.machine), math.ceil(ranks / cluster.machine)
    inside = 2 * (here - 1) * (cluster.latency + size / here / cluster.inside)
    outside = 2 * (machines - 1) * size / here / machines / cluster.between
    rounds = 2 * math.ceil(math.log2(machines)) * cluster.latency if machines > 1 else 0.0  # as trees, as NCCL has them
    return inside + outside + rounds


def step(ranks: int, images: int, size: float, cluster: Cluster, overlap: float = 0.8) -> Step:
    """A step of ``images`` on each of so many ranks, with gradients of ``size`` bytes."""
    compute = cluster.fixed + images / cluster.rate
    took = exchange(ranks, size, cluster) if ranks > 1 else 0.0
    backward = compute * 2 / 3
    return Step(compute, took, max(0.0, took - overlap * backward), images / (cluster.cores * cluster.decoded))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 8, 64, 256, 1024])
    parser.add_argument("--batch", type=int, default=32, help="images of a rank")
    parser.add_argument("--parameters", type=float, default=25.56e6)
    for name in ("rate", "between", "cores", "decoded", "fixed"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Cluster, name))
    options = parser.parse_args()
    cluster = Cluster(
        rate=options.rate, between=options.between, cores=options.cores, decoded=options.decoded, fixed=options.fixed
    )
    size = 4 * options.parameters
    print(f"{cluster}\ngradients of {size / 1e6:.0f} MB, {options.batch} images a rank\n")
    print("| GPUs | batch | step, ms | exchange, ms (waited for) | images/s | efficiency | read, GB/s | a pass, s |")
    print("|---|---|---|---|---|---|---|---|")
    alone = step(1, options.batch, size, cluster).total
    for ranks in options.ranks:
        found = step(ranks, options.batch, size, cluster)
        rate = ranks * options.batch / found.total
        print(
            f"| {ranks:,} | {ranks * options.batch:,} | {1e3 * found.total:.1f} | {1e3 * found.exchange:.1f} "
            f"({1e3 * found.shown:.1f}) | {rate:,.0f} | {100 * alone / found.total:.0f} % | "
            f"{rate * cluster.photograph / 1e9:,.1f} | {1_281_167 / rate:,.1f} |"
        )


if __name__ == "__main__":
    main()
