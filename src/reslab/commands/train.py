"""``reslab train``."""

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from reslab import recipes, runs
from reslab.data.sources import Dataset, load
from reslab.errors import InputError
from reslab.nets import fused
from reslab.runs import RunDir
from reslab.train.device import Execution, describe, pick_device, resolve_precision
from reslab.train.loop import train
from reslab.train.recipe import Recipe, override, validated


@dataclass(frozen=True)
class Options:
    """The options of the command, as they were given."""

    recipe: str | None
    net: str
    data: str | None
    out: Path | None
    iterations: int | None
    epochs: float | None
    batch: int | None
    seed: int
    holdout: int
    settings: tuple[str, ...]
    device: str | None
    threads: int | None
    weights: Path | None
    resume: Path | None
    checkpoint_every: int | None
    deterministic: bool
    fused: bool
    json: bool


def run(options: Options) -> None:
    """Trains, or goes on with a run, and prints its result."""
    console = Console(stderr=True)
    logging.basicConfig(format="reslab: %(message)s", level=logging.WARNING)
    execution = start(options.device, options.threads, fused_kernels=options.fused, deterministic=options.deterministic)
    if options.resume is not None:
        recipe, data, out = _resumed(options)
    else:
        recipe, data, out = _new(options)
    precision = resolve_precision(recipe.precision, execution.device)
    epochs = recipe.iterations * recipe.global_batch / (data.info.n_train - recipe.data.holdout)
    console.print(
        f"[bold]{recipe.net.name}[/] on {data.info.name}: {recipe.iterations:,} iterations of {recipe.global_batch} "
        f"({epochs:.1f} epochs), into {out}",
        highlight=False,
    )
    console.print(
        describe(execution.device, precision, execution.fused and fused.library() is not None),
        highlight=False,
    )
    result = train(
        recipe,
        data,
        out,
        execution=execution,
        source=options.data,
        checkpoint_every=options.checkpoint_every,
        weights=options.weights,
    )
    _print(result, out, options.json)


def start(
    device: str | None, threads: int | None = None, *, fused_kernels: bool = True, deterministic: bool = False
) -> Execution:
    """Resolves where to run, and sets the number of threads."""
    if threads is not None:
        if threads < 1:
            raise InputError(f"--threads takes 1 or more, got {threads}")
        torch.set_num_threads(threads)
    return Execution(pick_device(device), fused=fused_kernels, deterministic=deterministic)


def _new(options: Options) -> tuple[Recipe, Dataset, Path]:
    if options.recipe is None:
        raise InputError(f"name a recipe ({', '.join(recipes.RECIPES)}), or go on with a run by --resume DIR")
    make = recipes.find(options.recipe)
    if options.data is None:
        raise InputError("name the data: --data digits, cifar10, cifar100, synthetic, or a path")
    if options.iterations is not None and options.epochs is not None:
        raise InputError("--iterations and --epochs are two ways to say the same; give one")
    for name, value in (
        ("iterations", options.iterations),
        ("epochs", options.epochs),
        ("batch-size", options.batch),
    ):
        if value is not None and value <= 0:
            raise InputError(f"--{name} takes a number above 0, got {value}")
    # Names are checked before the data is read: a typo should not cost a minute of decoding.
    from reslab.nets import resolve

    resolve(options.net)
    data = load(options.data)
    arguments: dict[str, Any] = {"holdout": options.holdout, "seed": options.seed}
    if options.batch is not None:
        arguments["batch"] = options.batch
    if options.epochs is not None:
        batch = options.batch or make(options.net, data.info).global_batch
        arguments["iterations"] = max(1, round(options.epochs * (data.info.n_train - options.holdout) / batch))
    if options.iterations is not None:
        arguments["iterations"] = options.iterations
    recipe = override(make(options.net, data.info, **arguments), options.settings)
    default = Path("runs") / f"{recipe.name}-{_plain(recipe.net.name)}-{data.info.name}-seed{recipe.seed}"
    return recipe, data, options.out or default


def _plain(name: str) -> str:
    """A network's name as part of a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-")


def _resumed(options: Options) -> tuple[Recipe, Dataset, Path]:
    assert options.resume is not None
    given = {
        "RECIPE": options.recipe,
        "--out": options.out,
        "--set": options.settings,
        "--weights": options.weights,
    }
    if clash := [name for name, value in given.items() if value]:
        raise InputError(f"--resume takes the recipe from the run's folder; leave out {', '.join(clash)}")
    run_dir = RunDir(options.resume)
    if not run_dir.exists:
        raise InputError(f"--resume {options.resume}: expected a run (recipe.json in it), but there is none")
    recipe = validated(runs.read_json(run_dir.recipe), str(run_dir.recipe))
    source = runs.read_json(run_dir.env)["data"]
    where = source["path"] or source["name"]
    data = load(options.data or where)
    if data.info.fingerprint != source["fingerprint"]:
        raise InputError(
            f"the run was started on other images: expected {source['name']} with fingerprint "
            f"{source['fingerprint']}, but {options.data or where} has {data.info.fingerprint}"
        )
    return recipe, data, options.resume


def _print(result: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"out": str(out), **result}, indent=2))
        return
    print(
        f"training error {result['train_error']:.2f} %, test error {result['test_error']:.2f} % "
        f"({result['selected']} iterate, {result['iterations']:,} iterations, {result['seconds']:.0f} s)\n"
        f"weights: {out / 'checkpoints' / 'final.safetensors'}",
        file=sys.stdout,
    )
