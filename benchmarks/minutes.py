"""Minutes to an accuracy: a recipe's command from its start to its end, several seeds one after the other.

    python benchmarks/minutes.py fast_cifar --data path/to/cifar10 [--seeds 3] [--goal 91.25]

The time is of the whole process, start and final evaluation included, on a machine that does nothing else; the
accuracy is of all test images. Runs that are there are not run again, and keep the time that they took.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from reslab import recipes, runs
from reslab.data.sources import load
from reslab.runs import RunDir

ROOT = Path(__file__).parents[1]


def timed(recipe: str, data: str, seed: int, folder: Path, more: list[str]) -> dict[str, Any]:
    """One run in a process of its own; what it came to, and its wall time in seconds."""
    note = folder / "wall.json"
    if note.exists():
        entry = recipes.find(recipe)
        now = entry.make(entry.net, load(data).info, seed=seed).model_dump(mode="json")
        there = runs.read_json(RunDir(folder).recipe)
        changed = [key for key, value in now.items() if key != "precision" and there.get(key) != value]
        if changed and not more:
            raise SystemExit(f"{folder} holds a run of another {recipe} ({', '.join(changed)}); remove it")
    else:
        command = [
            sys.executable, "-m", "reslab", "train", recipe, "--data", data, "--seed", str(seed), "--out", str(folder),
            *more,
        ]  # fmt: skip
        if RunDir(folder).exists:
            raise SystemExit(f"{folder} holds a run that was cut short, whose time is not known; remove it")
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        runs.write_json(note, {"seconds": round(time.perf_counter() - start, 1)})
    result = runs.read_json(RunDir(folder).result)
    kept = ("test_error", "test_loss", "train_error", "iterations", "images_per_second", "protocol", "params", "net")
    env = runs.read_json(RunDir(folder).env)
    about = {"seed": seed, "wall_seconds": runs.read_json(note)["seconds"], "git_commit": env["git_commit"]}
    return about | {key: result[key] for key in kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=recipes.RECIPES)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--goal", type=float, help="accuracy in per cent that the mean is to reach")
    parser.add_argument("--runs", type=Path, help="by default runs/minutes-RECIPE")
    parser.add_argument("--out", type=Path, help="by default results/minutes_RECIPE.json")
    parser.add_argument("more", nargs="*", help="further words of the command, behind --")
    options = parser.parse_args()
    folder = options.runs or ROOT / "runs" / f"minutes-{options.recipe}"
    found = []
    for seed in range(options.seeds):
        each = timed(options.recipe, options.data, seed, folder / f"seed{seed}", options.more)
        found.append(each)
        Console().print(f"seed {seed}: {100 - each['test_error']:.2f} % after {each['wall_seconds'] / 60:.2f} minutes")
    accuracies = [100 - each["test_error"] for each in found]
    minutes = [each["wall_seconds"] / 60 for each in found]
    summary: dict[str, Any] = {
        "accuracy": round(statistics.mean(accuracies), 3),
        "std": round(statistics.stdev(accuracies), 3) if len(found) > 1 else None,
        "minutes": round(statistics.mean(minutes), 2),
        "goal": options.goal,
    }
    runs.write_json(
        options.out or ROOT / "results" / f"minutes_{options.recipe}.json",
        {
            **runs.made(threads=torch.get_num_threads()),
            **summary,
            "runs": found,
            "recipe": runs.read_json(RunDir(folder / "seed0").recipe),
        },
    )
    Console().print(summary)


if __name__ == "__main__":
    main()
