"""Whether the fast mode trains what the module graph trains: ResNet-20 both ways, from the same seeds.

    python benchmarks/modes.py --data path/to/cifar10 [--seeds 3] [--iterations 2000] [--jobs 2]

Fast: bf16, channels-last, fused kernels. Reference: fp32, module by module. Two figures: how far the losses and the
weights are apart after 200 steps from one seed, beside how far two fp32 runs are apart whose rounding differs (fused
kernels or not); and the test errors after the iterations, over the seeds.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from reslab import recipes, runs
from reslab.data.sources import Dataset, load
from reslab.runs import RunDir
from reslab.studies.plan import of_no_study
from reslab.studies.runner import run_all
from reslab.studies.sequential import half_width
from reslab.train.device import Execution
from reslab.train.recipe import Precision, Recipe
from reslab.train.trainer import Trainer

ROOT = Path(__file__).parents[1]
STEPS = 200
CPU = torch.device("cpu")
MODES: dict[str, tuple[Precision, bool]] = {
    "reference": ("fp32", False), "fp32 fused": ("fp32", True), "fast": ("bf16", True)
}  # fmt: skip


def _recipe(data: Dataset, iterations: int, seed: int, precision: Precision) -> Recipe:
    recipe = recipes.he2015_cifar("resnet20", data.info, iterations=iterations, seed=seed)
    return recipe.model_copy(update={"precision": precision})


def side_by_side(data: Dataset) -> dict[str, Any]:
    """Losses of each step and the weights after `STEPS` of them, in each mode."""
    losses, weights = {}, {}
    for mode, (precision, fused) in MODES.items():
        trainer = Trainer(_recipe(data, 64_000, 0, precision), data, Execution(CPU, fused=fused))
        trainer.net.train()
        curve = []
        for _ in range(STEPS):
            trainer.window.clear()
            seen = trainer.iteration
            trainer.step()
            trainer.window.seen = (trainer.iteration - seen) * trainer.recipe.global_batch
            curve.append(trainer.window.mean_loss())
        losses[mode] = curve
        weights[mode] = torch.cat([p.detach().flatten() for p in trainer.net.parameters()])
    base = weights["reference"]
    return {
        "steps": STEPS,
        "mean_loss_of_last_50": {mode: round(statistics.mean(curve[-50:]), 5) for mode, curve in losses.items()},
        "first_loss": {mode: round(curve[0], 6) for mode, curve in losses.items()},
        "distance_of_weights": {
            mode: round(float((each - base).norm() / base.norm()), 5) for mode, each in weights.items()
        },
    }


def over_seeds(data: Dataset, source: str, folder: Path, seeds: int, iterations: int, jobs: int) -> dict[str, Any]:
    """Test errors in both modes, and their difference over paired seeds."""
    errors: dict[str, list[float]] = {}
    for mode in ("reference", "fast"):
        precision, fused = MODES[mode]
        planned = {f"{mode}-seed{seed}": _recipe(data, iterations, seed, precision) for seed in range(seeds)}
        run_all(
            of_no_study(planned),
            data,
            source,
            folder,
            execution=Execution(CPU, fused=fused),
            jobs=jobs,
            console=Console(),
        )
        errors[mode] = [runs.read_json(RunDir(folder / name).result)["test_error"] for name in planned]
    apart = [a - b for a, b in zip(errors["fast"], errors["reference"], strict=True)]
    return {
        "iterations": iterations,
        "test_error": errors,
        "difference": round(statistics.fmean(apart), 3),
        "half_width_95": round(half_width(apart, 0.025), 3) if len(apart) > 1 else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "modes")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "modes.json")
    options = parser.parse_args()
    data = load(options.data)
    found = {
        **runs.made(threads=torch.get_num_threads()),
        "side_by_side": side_by_side(data),
        "over_seeds": over_seeds(
            data, options.data, options.runs, options.seeds, options.iterations, options.jobs
        ),
    }  # fmt: skip
    runs.write_json(options.out, found)
    Console().print_json(data={key: found[key] for key in ("side_by_side", "over_seeds")})


if __name__ == "__main__":
    main()
