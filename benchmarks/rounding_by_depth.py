"""How much of a network's output is rounding: bf16 against fp32 at initialisation, by depth.

    python benchmarks/rounding_by_depth.py [--out results/rounding_by_depth.json]

Plain and residual networks with the same initial weights see the same 64 CIFAR-sized images of noise, with
BN in training mode. Printed is |f_bf16(x) - f_fp32(x)| / |f_fp32(x) - its mean over the images|: near 0 the
two agree, near 1.4 they have nothing to do with each other. Mean over seeds.
"""

import argparse
import statistics
from pathlib import Path

import torch

from reslab import runs
from reslab.nets import build

DEPTHS = (8, 14, 20, 32, 44, 56)
SEEDS = 3


def difference(net: str, seed: int) -> float:
    """Relative difference of the logits between bf16 and fp32."""
    network = build(net, seed=seed).to(memory_format=torch.channels_last).train()
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        exact = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(images).float()
    return float((rounded - exact).norm() / (exact - exact.mean(0)).norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    rows = []
    print("depth   plain   residual")
    for depth in DEPTHS:
        row = {
            kind: statistics.mean(difference(f"cifar_{kind}(depth={depth})", seed) for seed in range(SEEDS))
            for kind in ("plain", "resnet")
        }
        rows.append({"depth": depth, "plain": round(row["plain"], 4), "residual": round(row["resnet"], 4)})
        print(f"{depth:5d}   {row['plain']:.3f}   {row['resnet']:.3f}", flush=True)
    if options.out:
        found = {**runs.made(), "seeds": SEEDS, "rows": rows}
        runs.write_json(options.out, found)


if __name__ == "__main__":
    main()
