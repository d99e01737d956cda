"""What keeping the memory of activations from step to step is worth on the CPU, for networks of small and large images.

    python benchmarks/kept_memory.py [--rounds 5]

glibc gives blocks above 32 MB back to the system when they are freed, and the next step pays for clean pages again.
The same step is timed both ways by turns; so is torchvision's ResNet-50 in fp32, which has larger activations still.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from reslab import runs
from reslab.bench import peers, works
from reslab.bench.paired import seconds_of
from reslab.nets.catalog import resolve_any
from reslab.train.device import Execution, keep_freed_memory, resolve_precision

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
CASES = (("resnet20", 128), ("fast-resnet8", 500), ("fast-resnet8-wide", 500), ("resnet50", 32))


def both_ways(step: Callable[[], object], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a step with memory kept and given back, by turns."""
    found: dict[str, list[float]] = {"kept": [], "given back": []}
    for number in range(-1, rounds):
        for name in found:
            keep_freed_memory(name == "kept")
            step()  # what the other way left behind
            seconds = seconds_of(step, 1.0, CPU)
            if number >= 0:  # the first round warms up
                found[name].append(round(1e3 * seconds, 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "kept_memory.json")
    options = parser.parse_args()
    found = {}
    for net, batch in CASES:
        case = works.Case(resolve_any(net), batch, Execution(CPU), resolve_precision("auto", CPU))
        found[f"{net}, batch {batch}"] = both_ways(works.training(case).step, options.rounds)
    case = works.Case(resolve_any("resnet50"), 32, Execution(CPU), "fp32")
    found["torchvision resnet50 in fp32, batch 32"] = both_ways(
        peers.peer_training(case, "torchvision"), options.rounds
    )
    for name, ways in found.items():
        kept, given = (statistics.median(ways[way]) for way in ("kept", "given back"))
        Console().print(f"{name}: {kept:,.0f} ms kept, {given:,.0f} given back, {given / kept:.2f} x", highlight=False)
    runs.write_json(
        options.out,
        {
            **runs.made(threads=torch.get_num_threads()),
            "milliseconds": found,
        },
    )


if __name__ == "__main__":
    main()
