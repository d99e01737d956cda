"""How a run begins or goes on: what it has in common with other ranks, with its folder, and with its earlier self."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from reslab import __version__, runs
from reslab.data.names import KNOWN
from reslab.data.sources import AnyDataset
from reslab.data.spec import Source
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any
from reslab.nets.spec import AnyNet
from reslab.runs import RunDir
from reslab.train import state as checkpoints
from reslab.train.device import Execution, resolve_precision
from reslab.train.recipe import Finite, Recipe
from reslab.train.trainer import Trainer
from reslab.weights.load import Weights, load
from reslab.weights.names import Which, is_hub


@dataclass(frozen=True)
class InitialWeights:
    """Weights that a training starts from in place of drawn ones."""

    source: str
    """a file, a run, or a hub's name"""
    new_head: bool = False
    """they may be of another number of classes, or have no head: the last layer is then drawn"""
    which: Which | None = None
    """whether to use raw or averaged weights of a file that has both; by default the average"""
    loaded: Weights | None = None
    """what was read already, so that it is not read twice"""

    @property
    def lasting(self) -> str:
        """The source as it is found from another folder too."""
        return self.source if is_hub(self.source) else str(Path(self.source).expanduser().resolve())

    def read(self, net: AnyNet) -> Weights:
        """The weights for a network. Raises `InputError` where they do not fit."""
        if self.loaded is not None:
            own = {"num_classes": net.num_classes} if self.new_head or self.loaded.head == "none" else {}
            if resolve_any(self.loaded.spec, size=net.size, **own) == net:
                return self.loaded
        return load(self.source, net=net, num_classes=net.num_classes if self.new_head else None, which=self.which)


def _facts(
    recipe: Recipe, data: AnyDataset, execution: Execution, weights: InitialWeights | None,
    checkpoint_every: int | None,
) -> dict[str, str]:  # fmt: skip
    """Facts that must be the same on all ranks."""
    return {
        "recipe": recipe.model_dump_json(),
        "images": data.info.fingerprint,
        "weights to start from": "none" if weights is None else f"{weights.source} ({weights.which or 'as usual'})",
        "iterations between checkpoints": str(checkpoint_every),
        "--sync-bn": str(execution.sync_bn),
        "memory budget": str(execution.memory_budget),
        "kind of device": execution.device.type,
        "precision": resolve_precision(recipe.precision, execution.device),
        "version of reslab": __version__,
        "version of torch": torch.__version__,
    }


def as_saved(run: RunDir, recipe: Finite) -> dict[str, Any]:
    """The recipe as plain values; as they stand in the run's folder, if what stands there means the same.

    A field that came with a later version, at its default, makes no other recipe.
    """
    if run.exists:
        saved: dict[str, Any] = runs.read_json(run.recipe)
        try:
            if type(recipe).model_validate(saved) == recipe:
                return saved
        except ValidationError:
            pass  # another version's, or damaged: refused as another recipe
    return recipe.model_dump(mode="json")


def _as_begun(run: RunDir, execution: Execution) -> Execution:
    """Keeps the recomputation plan that a run began with, because rounding depends on it."""
    if execution.memory_budget is None or execution.checkpoint_activations is not None:
        return execution
    chosen = None
    if execution.world.leads and run.exists:
        env = runs.read_json(run.env)
        chosen = env["checkpoint_activations"] if env.get("memory_budget") == execution.memory_budget else None
    chosen = execution.world.from_lead(chosen)
    return replace(execution, checkpoint_activations=tuple(chosen) if isinstance(chosen, list) else chosen)


def _environment(
    data: AnyDataset,
    source: Source | None,
    execution: Execution,
    weights: InitialWeights | None,
    checkpoint_every: int | None,
) -> dict[str, Any]:
    """The contents of ``env.json``: machine, versions, and everything that affects rounding only."""
    # A name means the known data set even where a folder of that name lies about.
    by_path = source is not None and source.name not in KNOWN and Path(source.name).expanduser().exists()
    gpu = torch.cuda.get_device_name(execution.device) if execution.device.type == "cuda" else "none"
    return {
        "started": runs.now(),
        **runs.describe(),
        "device": str(execution.device) if execution.world.alone else execution.device.type,
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "fused": execution.fuses,
        "compile": execution.compile,
        "deterministic": execution.deterministic,
        "checkpoint_activations": execution.checkpoint_activations or False,
        "memory_budget": execution.memory_budget,
        "accumulate": execution.accumulate,
        "workers": execution.workers,
        "damaged_share": execution.damaged_share,
        "ranks": execution.world.size,
        "sync_bn": execution.sync_bn,
        "data": {
            "path": source and (str(Path(source.name).expanduser().resolve()) if by_path else source.name),
            **data.info.model_dump(mode="json"),
            "chosen_size": source and source.size,
            "labels": source and source.labels and str(Path(source.labels).expanduser().resolve()),
        },
        "weights": weights and weights.lasting,
        "new_head": weights is not None and weights.new_head,
        "which": weights and weights.which,
        "checkpoint_every": checkpoint_every,
    }


def _check_same_start(run: RunDir, env: dict[str, Any]) -> None:
    """The recipe names neither the images nor the weights that a run starts from; its ``env.json`` does."""
    before = runs.read_json(run.env)
    # Once there is a checkpoint, the weights that a run started from are not read again and may be gone. Where they
    # were read, they may lie elsewhere than they did.
    key = "weights_fingerprint" if {"weights_fingerprint"} <= env.keys() & before.keys() else "weights"
    starts = [
        ("on other images", before["data"]["fingerprint"], env["data"]["fingerprint"]),
        ("from other weights", before.get(key), env.get(key)),
    ]
    for what, was, now in starts:
        if was != now:
            raise InputError(
                f"the run in {run.path} was started {what}: expected {was}, got {now}; choose another --out folder"
            )


def begin(
    recipe: Recipe, data: AnyDataset, run: RunDir, execution: Execution, *, source: Source | None,
    weights: InitialWeights | None, checkpoint_every: int | None,
) -> tuple[Trainer, dict[str, Any]]:  # fmt: skip
    """The trainer, and what is to stand in ``env.json``. All ranks call it at the same time.

    Raises `InputError` where the ranks differ, or recipe, data and execution do not go together.
    """
    execution.world.agree(_facts(recipe, data, execution, weights, checkpoint_every))
    trainer = Trainer(recipe, data, _as_begun(run, execution))
    return trainer, _environment(data, source, trainer.execution, weights, checkpoint_every)


def prepared(trainer: Trainer, run: RunDir, env: dict[str, Any], weights: InitialWeights | None) -> dict[str, Any]:
    """The recipe as it is to stand in the run's folder; the trainer has the weights to start from, if there are any.

    Raises `InputError` where the run cannot start, or go on, in its folder. Writes nothing.
    """
    recipe = trainer.recipe
    plain = as_saved(run, recipe)
    run.check(plain)
    begins = not checkpoints.any_checkpoint(run.checkpoints) and not run.finished
    moved = run.exists and runs.read_json(run.env).get("weights") not in (None, env["weights"])
    if weights is not None and (begins or moved):
        start = weights.read(recipe.net)
        env["weights_fingerprint"] = start.fingerprint()
        if begins:
            trainer.start_from(start)
    if run.exists:
        _check_same_start(run, env)
    else:
        need, free = disk_of(trainer, run)
        if free < need:  # a night's run must not end at its first checkpoint
            raise InputError(
                f"--out {run.path} needs about {need / 1e6:.1f} MB for checkpoints, but only {free / 1e6:.1f} MB are "
                "free"
            )
    return plain


def disk_of(trainer: Trainer, run: RunDir) -> tuple[int, int]:
    """Bytes that a run takes at most, and that are free where it goes."""
    size = sum(p.numel() * p.element_size() for p in trainer.net.state_dict().values())
    need = size * (2 * (checkpoints.KEEP + 1) + 2)  # weights and velocities per checkpoint; best and final
    there = next(p for p in (run.path, *run.path.absolute().parents) if p.exists())
    return need, shutil.disk_usage(there).free
