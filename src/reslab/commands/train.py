"""``reslab train``."""

import json
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from reslab import recipes, runs
from reslab.commands.execution import asked_to_stop, start
from reslab.commands.options.train import Options
from reslab.commands.train_length import fitted
from reslab.commands.train_plan import show
from reslab.data.layouts.found import FLAT_TESTS, TESTS
from reslab.data.names import KNOWN
from reslab.data.sources import AnyDataset, load, load_photographs
from reslab.data.spec import Augment, DataInfo, Source
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any
from reslab.nets.spec import AnyNet, NetSpec
from reslab.report.words import plural
from reslab.runs import RunDir
from reslab.train.device import Execution, describe, resolve_precision
from reslab.train.distributed import World, joined, local_rank
from reslab.train.length import doubts
from reslab.train.loop import Stopped, train
from reslab.train.memory import size_of
from reslab.train.recipe import Recipe, validated
from reslab.train.rehearsal import rehearse
from reslab.train.start import InitialWeights
from reslab.weights.load import Weights
from reslab.weights.load import load as load_weights

SIDE = 224
"""Pixels of the square that a network for photographs sees."""


def run(options: Options) -> None:
    """Trains, or goes on with a run, and prints its result."""
    if options.checkpoint_every is not None and options.checkpoint_every < 1:
        raise InputError(f"--checkpoint-every takes 1 or more iterations, got {options.checkpoint_every}")
    if options.memory_budget is not None and options.checkpoint_activations is not None:
        raise InputError("--memory-budget chooses the --checkpoint-activations itself; give one of the two")
    if options.resume is not None:
        options = _as_before(options)
    if options.compile:
        _check_compile(options)
    execution = start(
        options.device,
        options.threads,
        fused_kernels=options.fused is not False,
        compile=bool(options.compile),
        deterministic=bool(options.deterministic),
        checkpoint_activations=options.checkpointed or options.checkpoint_activations,
        memory_budget=options.memory_bytes if options.memory_budget is None else size_of(options.memory_budget),
        accumulate=1 if options.accumulate is None else options.accumulate,
        workers=options.workers,
        damaged=options.damaged,
        sync_bn=bool(options.sync_bn),
    )
    with joined(execution.device) as world:
        _run(options, replace(execution, world=world), Console(stderr=True, quiet=not world.leads))


def _check_compile(options: Options) -> None:
    """The compiler decides itself what is kept for backward, and compiles no talk between ranks."""
    clashes = {
        "--checkpoint-activations": options.checkpointed or options.checkpoint_activations,
        "--memory-budget": options.memory_budget or options.memory_bytes,
        "--sync-bn": options.sync_bn,
    }
    if clash := [name for name, value in clashes.items() if value]:
        raise InputError(f"--compile does not go with {', '.join(clash)}; leave out one or the other")


def _run(options: Options, execution: Execution, console: Console) -> None:
    begun = _begun(options, execution)
    recipe, data, out = begun.recipe, begun.data, begun.out
    if not recipe.data.holdout < data.info.n_train:
        raise InputError(
            f"--holdout takes 1 to {data.info.n_train - 1} of the {data.info.n_train} training images, "
            f"got {recipe.data.holdout}"
        )
    precision = resolve_precision(recipe.precision, execution.device)
    epochs = recipe.iterations * recipe.global_batch / (data.info.n_train - recipe.data.holdout)
    console.print(
        f"[bold]{escape(recipe.net.name)}[/] on {escape(data.info.name)}: "
        f"{plural(recipe.iterations, 'iteration')} of {recipe.global_batch} ({epochs:.1f} epochs), "
        f"into {escape(str(out))}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_images(data.info, recipe.data.holdout), highlight=False, soft_wrap=True, markup=False)
    unsure = doubts(recipe.iterations, recipe.global_batch, data.info.n_train - recipe.data.holdout)
    for text in (*begun.said, *([f"warning: {unsure}"] if unsure and not RunDir(out).finished else [])):
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    ours = isinstance(recipe.net, NetSpec)
    how = describe(execution.device, precision, execution.fuses and ours, execution.compile)
    if not execution.world.alone:
        how = f"{execution.world.size} ranks, each: {how}"
    if precision == "fp32" and resolve_precision("auto", execution.device) == "bf16" and not options.precision_given:
        how += " (bf16 is the default for Reslab's residual networks only: plain ones amplify its rounding)"
    console.print(how, highlight=False, soft_wrap=True, markup=False)
    if RunDir(out).finished:
        console.print(
            f"{out} already holds this run, finished; nothing is trained, and its result is shown. "
            "Choose another --out folder to train again",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip
    if options.dry_run:
        plan = rehearse(
            recipe,
            data,
            out,
            execution=execution,
            source=_source(options),
            weights=begun.weights,
            checkpoint_every=options.checkpoint_every,
        )
        if execution.world.leads:
            show(plan, recipe, how, as_json=options.json)
        return
    try:
        with asked_to_stop() as stop:
            result = train(
                recipe,
                data,
                out,
                execution=execution,
                source=_source(options),
                checkpoint_every=options.checkpoint_every,
                weights=begun.weights,
                stop=stop,
            )
    except (KeyboardInterrupt, Stopped):
        go_on = f"continue with: reslab train --resume {shlex.quote(str(out))}"
        raise KeyboardInterrupt(go_on if RunDir(out).exists else "nothing was written") from None
    if execution.world.leads:
        _print(result, out, options.json)


def _images(info: DataInfo, holdout: int) -> str:
    """Which images are for what: nobody should have to guess what a test error is of."""
    held = f", {holdout:,} of them held out for validation" if holdout else ""
    return f"images: {info.n_train:,} for training{held}, {info.n_test:,} for testing, from {info.source}"


def _source(options: Options) -> Source:
    assert options.data is not None
    return Source(
        name=options.data, size=options.size, labels=options.labels and str(options.labels), oriented=options.oriented
    )


def _loaded(options: Options, photographs: bool, world: World, *, tests: Sequence[str] = TESTS) -> AnyDataset:
    """The data of a run; photographs stay where they are."""
    assert options.data is not None
    if options.size is not None and options.size < 1:
        raise InputError(f"--size takes 1 or more pixels, got {options.size}")
    if not photographs:
        if options.labels is not None:
            raise InputError("--labels is for photographs on disk, whose validation images are not in class folders")
        return load(options.data, size=options.size, oriented=options.oriented)
    if options.data in KNOWN:
        raise InputError(
            f"the recipe is for photographs on disk, '{options.data}' is of small images; give the path of a folder, "
            "or another recipe"
        )
    side = options.size or SIDE
    for first in (True, False):  # of several ranks on a machine, one finds the names of the files for all
        if (local_rank() == 0) == first:
            found = load_photographs(
                Path(options.data).expanduser(),
                (side, side),
                labels=options.labels,
                oriented=options.oriented,
                tests=tests,
            )
        world.wait()
    return found


@dataclass(frozen=True)
class Begun:
    """What a command is to train, on what, into which folder."""

    recipe: Recipe
    data: AnyDataset
    out: Path
    weights: InitialWeights | None
    said: tuple[str, ...] = ()
    """what was changed of the recipe's own batch and length, so that they fit the data"""


def _begun(options: Options, execution: Execution) -> Begun:
    return _new(options, execution) if options.resume is None else _resumed(options, options.resume, execution.world)


def _new(options: Options, execution: Execution) -> Begun:
    if options.recipe is None:
        raise InputError(f"name a recipe ({', '.join(recipes.RECIPES)}), or resume a run with --resume DIR")
    entry = recipes.find(options.recipe)
    net: str | AnyNet = options.net or entry.net
    if options.data is None:
        what = "the path of a folder" if entry.photographs else "digits, cifar10, cifar100, synthetic, or a path"
        raise InputError(f"name the data: --data {what}")
    if options.iterations is not None and options.epochs is not None:
        raise InputError("--iterations and --epochs both set the length of training; give only one")
    for name, value in (
        ("iterations", options.iterations),
        ("epochs", options.epochs),
        ("batch-size", options.batch),
    ):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name} takes a number above 0, got {value}")
    # Names are checked before the data is read: a typo should not cost a minute of decoding.
    weights = None
    if options.weights is not None:
        weights = load_weights(options.weights, net=options.net, num_classes=options.num_classes, which=options.which)
        net = weights.spec
    elif options.num_classes is not None:
        net = resolve_any(net, num_classes=options.num_classes)
    else:
        resolve_any(net)
    data = _loaded(options, entry.photographs, execution.world)
    if weights is not None:
        net = _with_classes(options, weights, len(data.info.classes))
        for text in weights.said:
            Console(stderr=True).print(f"weights: {text}", soft_wrap=True, highlight=False, markup=False)
    recipe, said = fitted(options, entry.make, net, data.info, execution.world.size * execution.accumulate)
    default = Path("runs") / f"{recipe.name}-{_plain(recipe.net.name)}-{data.info.name}-seed{recipe.seed}"
    return Begun(recipe, data, options.out or default, _initial(options, weights), said)


def _initial(options: Options, loaded: Weights | None = None) -> InitialWeights | None:
    if options.weights is None:
        return None
    return InitialWeights(options.weights, options.num_classes is not None, options.which, loaded)


def _with_classes(options: Options, weights: Weights, classes: int) -> AnyNet:
    """The network of the weights; of a backbone, with a head for the classes of the data.

    Raises `InputError` where nobody has said what becomes of a head of another number of classes.
    """
    own = weights.spec.num_classes
    if weights.head == "none":
        Console(stderr=True).print(
            f"weights: the last layer is replaced by a randomly initialised one for the {classes} classes of the data"
        )
        return resolve_any(weights.spec, num_classes=classes)
    if options.num_classes is None and own != classes:
        keep = f", --num-classes {own} keeps it" if own > classes else ""
        raise InputError(
            f"{weights.origin} has {own} classes, the data has {classes}: --num-classes {classes} replaces the "
            f"head{keep}"
        )
    return weights.spec


def _plain(name: str) -> str:
    """A network's name as part of a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-")


def _as_before(options: Options) -> Options:
    """The options to go on with a run: what was not given is as when it was started, so that rounding is too."""
    assert options.resume is not None
    given = {
        "RECIPE": options.recipe,
        "--out": options.out,
        "--net": options.net,
        "--iterations": options.iterations,
        "--epochs": options.epochs,
        "--batch-size": options.batch,
        "--seed": options.seed,
        "--holdout": options.holdout,
        "--set (or --lr, --wd, --precision)": options.settings or None,
        "--weights": options.weights,
        "--num-classes": options.num_classes,
        "--which": options.which,
        "--size": options.size,
    }
    if clash := [name for name, value in given.items() if value is not None]:
        raise InputError(f"--resume takes the recipe from the run's folder; leave out {', '.join(clash)}")
    run_dir = RunDir(options.resume)
    if not run_dir.exists:
        raise InputError(f"--resume {options.resume}: expected a run (recipe.json in it), but there is none")
    env = runs.read_json(run_dir.env)
    kept = env.get("checkpoint_activations", False)
    if options.checkpoint_activations is not None or options.memory_budget is not None:
        kept = options.checkpoint_activations
    blocks = tuple(kept) if isinstance(kept, list) else None
    return replace(
        options,
        data=options.data or env["data"]["path"] or env["data"]["name"],
        device=options.device or env["device"],
        threads=options.threads or env["threads"],
        deterministic=env["deterministic"] if options.deterministic is None else options.deterministic,
        checkpoint_activations=bool(blocks) if isinstance(kept, list) else kept,
        checkpointed=blocks,
        memory_bytes=env.get("memory_budget") if options.memory_budget is None else None,
        checkpoint_every=env.get("checkpoint_every") if options.checkpoint_every is None else options.checkpoint_every,
        accumulate=env.get("accumulate", 1) if options.accumulate is None else options.accumulate,
        sync_bn=env.get("sync_bn", False) if options.sync_bn is None else options.sync_bn,
        fused=env["fused"] if options.fused is None else options.fused,
        compile=env.get("compile", False) if options.compile is None else options.compile,
        workers=env.get("workers") if options.workers is None else options.workers,
        damaged=env.get("damaged_share") if options.damaged is None else options.damaged,
        size=env["data"].get("chosen_size"),
        oriented=env["data"].get("oriented", False),
        labels=options.labels or (Path(env["data"]["labels"]) if env["data"].get("labels") else None),
        weights=env.get("weights"),
        which=env.get("which"),
        num_classes=runs.read_json(run_dir.recipe)["net"]["num_classes"] if env.get("new_head") else None,
    )


def _resumed(options: Options, folder: Path, world: World) -> Begun:
    recipe = validated(runs.read_json(RunDir(folder).recipe), str(RunDir(folder).recipe))
    photographs = not isinstance(recipe.data.augment, Augment)
    data = _loaded(options, photographs, world)
    begun_on = runs.read_json(RunDir(folder).env)["data"]["fingerprint"]
    if photographs and data.info.fingerprint != begun_on:  # an earlier version tested on val/ where there was test/ too
        before = _loaded(options, photographs, world, tests=FLAT_TESTS)
        data = before if before.info.fingerprint == begun_on else data
    return Begun(recipe, data, folder, _initial(options))


def _of(result: dict[str, Any]) -> str:
    """Over how many images the training error was averaged: those of the last point of its curve."""
    return f" (last {result['train_images']:,} images)" if "train_images" in result else ""


def _print(result: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"out": str(out), **result}, indent=2))
        return
    if result.get("damaged_images"):
        some = "; ".join(result["damaged"][:3])
        print(f"{result['damaged_images']} images could not be decoded and were left out: {some}", file=sys.stderr)
    if result.get("at_chance"):
        print(
            "warning: the network learned nothing: its training error is no lower than that of always predicting the "
            "most frequent class. Train longer (--epochs), try another learning rate (--lr), or check the labels",
            file=sys.stderr,
        )
    elif result.get("test_at_chance"):
        print(
            "warning: the test error is no lower than that of always predicting the most frequent class, although the "
            f"training error is {result['train_error']:.1f} %. Train longer (--epochs), or check the test images",
            file=sys.stderr,
        )
    print(
        f"training error {result['train_error']:.2f} %{_of(result)}, test error {result['test_error']:.2f} % "
        f"({result['selected']} iterate, {plural(result['iterations'], 'iteration')}, {result['seconds']:.0f} s)\n"
        f"weights: {out / 'checkpoints' / 'final.safetensors'}",
        file=sys.stdout,
    )
