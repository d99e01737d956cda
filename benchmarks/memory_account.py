"""What `--memory-budget` reckons a training step takes, against what a process takes.

    python benchmarks/memory_account.py

Two steps of the CIFAR recipe on random images, each in a process of its own: how far its greatest resident memory
rises above that before the network was built, the heap trimmed and the compiler imported where it is needed.
"""

import argparse
import ctypes
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS = 3


def resident(what: str) -> int:
    """Bytes of this process: VmRSS now, or VmHWM at its highest."""
    found = re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def measure(name: str, batch: int, twice: int, precision: str) -> dict[str, float]:
    """One process's measurement and reckoning, in bytes; ``twice``: the first stages that are computed twice."""
    import torch

    from reslab.data.sources import load
    from reslab.kernels.build import library
    from reslab.recipes.he2015_cifar import he2015_cifar
    from reslab.train.device import Execution
    from reslab.train.memory import measure
    from reslab.train.recipe import override
    from reslab.train.trainer import Trainer

    library()
    data = load("synthetic")
    recipe = override(he2015_cifar(name, data.info, batch=batch), [f"precision={precision}"])
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    choice = tuple(range(1, twice + 1)) if twice else False
    execution = Execution(torch.device("cpu"), checkpoint_activations=choice, memory_budget=10**12)
    trainer = Trainer(recipe, data, execution)
    reckoned = trainer.account()
    trainer.net.train()
    for _ in range(STEPS):
        trainer.step()
    time = measure(trainer.net, recipe, trainer.device).more_time(twice)
    return {"bytes": resident("VmHWM") - before, "reckoned": reckoned.total, **vars(reckoned), "more_time": time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["resnet20", "resnet110", "cifar_resnet(depth=434)"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--twice", type=int, nargs="+", default=[0, 1, 3])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "memory_account.json")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.nets[0], args.batch, args.twice[0], args.precisions[0])))
        return
    from reslab.runs import made, write_json

    rows = []
    for name in args.nets:
        for precision in args.precisions:
            for twice in args.twice:
                words = [sys.executable, __file__, "--one", "--nets", name, "--batch", str(args.batch)]
                words += ["--twice", str(twice), "--precisions", precision]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                rows.append({"net": name, "precision": precision, "stages_twice": twice, **found})
                real, reckoned = found["bytes"] / 1e6, found["reckoned"] / 1e6
                print(
                    f"{name:<24} {precision} {twice} stages twice: reckoned {reckoned:>6.0f} MB, took {real:>6.0f} MB, "
                    f"{100 * (reckoned / real - 1):+.0f} %",
                    flush=True,
                )
    record = {"what": __doc__.splitlines()[0] if __doc__ else "", **made()}
    write_json(args.out, record | {"batch": args.batch, "steps": STEPS, "rows": rows})


if __name__ == "__main__":
    main()
