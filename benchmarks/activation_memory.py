"""Peak memory of a training step by depth, with and without activation checkpointing.

    python benchmarks/activation_memory.py

A step of forward, backward and update at batch 128 on CIFAR-sized images, each in a process of its own, whose
greatest resident memory is what the system says (less what the process holds before the first step).
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS = 2


def measure(name: str, batch: int, checkpointed: bool, precision: str) -> dict[str, float]:
    """One process's measurement: bytes above the start, seconds of the second step."""
    import torch
    from torch.nn import functional as F

    from reslab.nets import build
    from reslab.train.optim import Optimizer
    from reslab.train.recipe import Sgd

    began = time.perf_counter()
    net = build(name).to(memory_format=torch.channels_last)
    built = time.perf_counter() - began
    net.fuse().checkpoint_activations(checkpointed)
    optimizer = Optimizer.of(net, Sgd())
    if checkpointed:
        optimizer.reserve()  # as a training does
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = 0.0
    for _ in range(STEPS):
        start = time.perf_counter()
        optimizer.set_lr(0.01)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = net(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"bytes": peak - before, "peak_bytes": peak, "seconds": seconds, "built_in": built}


def apart(name: str, batch: int, checkpointed: bool, precision: str) -> dict[str, float]:
    """The same in a new process: memory once asked for is not given back."""
    words = [sys.executable, __file__, "--one", name, "--batch", str(batch), "--precision", precision]
    words += ["--checkpointed"] if checkpointed else []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed (out of memory?): {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=[f"cifar_resnet(depth={d})" for d in (110, 218, 434)])
    parser.add_argument("--only-checkpointed", nargs="*", default=["resnet1202", "preresnet1001"], help="with it alone")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "activation_memory.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--checkpointed", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.batch, args.checkpointed, args.precision)))
        return
    from reslab.runs import made, write_json

    rows = []
    print(f"{'network':<24} {'without':>9} {'with':>9} {'less':>6} {'time':>7}   batch {args.batch}, {args.precision}")
    for name in [*args.nets, *args.only_checkpointed]:
        both = {
            way: apart(name, args.batch, way == "with", args.precision)
            for way in ("without", "with")
            if way == "with" or name in args.nets
        }
        rows.append({"net": name, **both})
        a, b = both.get("without"), both["with"]
        text = [f"{a['bytes'] / 1e9:>7.2f}GB" if a else " " * 9, f"{b['bytes'] / 1e9:>7.2f}GB"]
        text += [f"{a['bytes'] / b['bytes']:>5.1f}x", f"{b['seconds'] / a['seconds']:>6.2f}x"] if a else []
        print(f"{name:<24} {' '.join(text)}   built in {b['built_in']:.1f} s", flush=True)
    record = {"what": __doc__.splitlines()[0] if __doc__ else "", **made()}
    write_json(args.out, record | {"batch": args.batch, "precision": args.precision, "rows": rows})


if __name__ == "__main__":
    main()
