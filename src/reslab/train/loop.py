"""The training loop: from a recipe and its data to a run directory."""

import errno
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from reslab import runs
from reslab.data.sources import AnyDataset
from reslab.data.spec import Source
from reslab.errors import InputError
from reslab.evaluate.metrics import Result
from reslab.nets.spec import NetSpec
from reslab.runs import RunDir
from reslab.train import state as checkpoints
from reslab.train.device import Execution, is_out_of_memory
from reslab.train.distributed import World, is_loss, lost
from reslab.train.ending import evaluated, finish
from reslab.train.progress import TrainingProgress, say
from reslab.train.recipe import Plateau, Recipe
from reslab.train.sharing import why_not_shared
from reslab.train.start import InitialWeights, begin, prepared
from reslab.train.tally import Clock
from reslab.train.tensorboard import Events
from reslab.train.trainer import NonFiniteLoss, Trainer

__all__ = ["NonFiniteLoss", "Stopped", "Trainer", "train"]

CHECKPOINT_SECONDS = 120
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT)
"""What a folder that cannot be written makes of a write."""


class Stopped(Exception):
    """A run was asked to stop, and left a checkpoint to go on from."""


def train(
    recipe: Recipe,
    data: AnyDataset,
    out: Path,
    *,
    execution: Execution,
    source: Source | None = None,
    title: str | None = None,
    checkpoint_every: int | None = None,
    weights: InitialWeights | None = None,
    stop: Callable[[], bool] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Trains a recipe to its end in ``out``, going on from its last checkpoint if there is one.

    Args:
        recipe: what to train.
        data: what to train it on; must be what the recipe describes.
        out: the run directory, new, empty, or holding a run of the same recipe.
        execution: device and mode.
        source: what the data was loaded by, so that a resumed run finds it again.
        title: of the progress bar.
        checkpoint_every: iterations between checkpoints; default at evaluations and every two minutes.
        weights: start from these instead of drawn ones.
        stop: asked after each iteration (of several ranks every tenth); once it says yes, a checkpoint is written and
            `Stopped` raised.
        quiet: no progress.

    Returns:
        The content of ``result.json``: errors in per cent, iterations, parameters, times.

    Raises:
        Stopped: ``stop`` said so; the run can be gone on with.
        InputError: the data does not fit, ``out`` holds another run, the loss is not finite, the disk is full.
    """
    with in_words(execution.world) as under_way:
        trainer, env = begin(
            recipe, data, RunDir(out), execution, source=source, weights=weights, checkpoint_every=checkpoint_every
        )
        under_way.append(trainer)
        if trainer.plan is not None and execution.world.leads and not quiet:
            say(trainer.plan.said())
        if not execution.world.leads:
            return _follow(trainer, RunDir(out), checkpoint_every)
        return _lead(
            trainer, RunDir(out), env, title=title, checkpoint_every=checkpoint_every, weights=weights, stop=stop,
            quiet=quiet,
        )  # fmt: skip


@contextmanager
def in_words(world: World) -> Iterator[list[Trainer]]:
    """Replaces the libraries' errors about memory and lost ranks by advice.

    Yields a list for the trainer, once there is one; ends what runs beside it.
    """
    under_way: list[Trainer] = []
    try:
        try:
            yield under_way
        finally:
            for trainer in under_way:
                trainer.feed.close()
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise (_too_large(under_way[0]) if under_way else _too_large_to_begin(error)) from None
        if "signal: Terminated" in str(error):  # a whole group of processes is told to end, by `timeout` or a scheduler
            raise InputError(
                "a process that decodes photographs was told to end (SIGTERM), and the training with it; "
                "continue by --resume"
            ) from None
        if "shm" in str(error) or "DataLoader worker" in str(error):
            raise InputError(
                "a process that decodes photographs was ended by the system, for lack of memory or because /dev/shm is "
                "full; go on by --resume with fewer --workers, or give shared memory more room (Docker: --shm-size)"
            ) from None
        if world.alone or not isinstance(error, RuntimeError) or not is_loss(error):
            raise
        raise lost(error, under_way[0].iteration if under_way else 0) from None


def _lead(
    trainer: Trainer, run: RunDir, env: dict[str, Any], *, title: str | None, checkpoint_every: int | None,
    weights: InitialWeights | None, stop: Callable[[], bool] | None, quiet: bool,
) -> dict[str, Any]:  # fmt: skip
    """Trains on the only or first rank, which alone reads and writes the run's folder."""
    recipe, world = trainer.recipe, trainer.world
    # What can be refused is refused before anything is written.
    plain = prepared(trainer, run, env, weights)
    with run.lock():
        run.create(plain, env)
        if run.finished:
            world.from_lead(Start())
            return dict(runs.read_json(run.result))
        saved = checkpoints.newest_checkpoint(run.checkpoints)
        if not world.alone:
            world.from_lead(Start(saved, None if saved else trainer.weights()))
        if saved is not None:
            trainer.restore(*saved)
        try:
            run.clean()
            run.truncate_metrics(trainer.iteration)
            _fit(trainer, run, title or recipe.net.name, checkpoint_every, stop, quiet)
            return finish(trainer, run)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            last = sorted(run.checkpoints.glob("iteration-*.safetensors"))
            kept = f"the last good checkpoint, {last[-1].name}, is intact" if last else "no checkpoint was written yet"
            raise InputError(
                f"stopped at iteration {trainer.iteration}: {run.path} cannot be written ({error.strerror or error}); "
                f"{kept}: make room, then go on with --resume {run.path}"
            ) from None


def _too_large_to_begin(error: BaseException) -> InputError:
    where = "the GPU" if isinstance(error, torch.OutOfMemoryError) or "CUDA" in str(error) else "this machine"
    return InputError(
        f"out of memory on {where} before the first iteration: the data set, the network and its optimiser do not fit; "
        "free memory that other processes hold, choose another --device, a smaller --net, or --memory-budget"
    )


def _too_large(trainer: Trainer) -> InputError:
    """Out of memory: the same training can be had in less."""
    if trainer.evaluating:
        images = trainer.test if trainer.validation is None else trainer.validation
        return InputError(
            f"out of memory on {trainer.device} in the evaluation after iteration {trainer.iteration}, with "
            f"{images.batch} images at a time, whatever the batch of the training; free memory that other processes "
            "hold, or choose another --device, then go on with --resume"
        )
    batch, parts = trainer.recipe.global_batch, trainer.world.size * trainer.accumulate
    ways = []
    ranks, synced = trainer.world.size, trainer.execution.sync_bn
    if not why_not_shared(trainer.recipe, trainer.net, 2 * parts, ranks=ranks, synced=synced):
        ways.append(f"--accumulate {2 * trainer.accumulate} (the same training, each batch in parts)")
    if isinstance(trainer.recipe.net, NetSpec) and trainer.execution.checkpoint_activations is not True:
        ways.append("--checkpoint-activations (the same training, about a third slower)")
    ways.append(f"a smaller batch (--batch-size {max(2, batch // 2)}, another training)")
    return InputError(
        f"out of memory on {trainer.device} at iteration {trainer.iteration + 1}, with {batch // parts} images of "
        f"{trainer.recipe.data.size[0]}x{trainer.recipe.data.size[1]} at a time; try {', or '.join(ways)}"
    )


@dataclass(frozen=True)
class Start:
    """The state to start from, as the first rank sends it to the others; empty if the run is finished."""

    saved: tuple[dict[str, Tensor], dict[str, Any]] | None = None
    weights: dict[str, Tensor] | None = None


def _follow(trainer: Trainer, run: RunDir, checkpoint_every: int | None) -> dict[str, Any]:
    """Trains on the other ranks: the same steps and evaluations from the first rank's state, writing nothing."""
    start = trainer.world.from_lead(Start())
    if start.saved is not None:
        trainer.restore(*start.saved)
    elif start.weights is not None:
        trainer.net.load_state_dict(start.weights)
    else:
        return {}
    _fit(trainer, run, "", checkpoint_every, None, quiet=True)
    return finish(trainer, run)


def _fit(
    trainer: Trainer,
    run: RunDir,
    title: str,
    checkpoint_every: int | None,
    stop: Callable[[], bool] | None,
    quiet: bool,
) -> None:
    recipe = trainer.recipe
    saved_at = time.monotonic()
    # CUDA runs ahead of the host: looking too often would make it wait.
    glance = 10 if trainer.device.type == "cpu" else 50
    world = trainer.world
    with (
        TrainingProgress(title, recipe.iterations, trainer.iteration, quiet=quiet) as progress,
        Events(run.path, trainer.iteration) if world.leads else nullcontext() as events,
    ):
        if not trainer.iteration and recipe.transfer is not None and trainer.best is None:
            _begin_with(trainer, run)
        trainer.training_mode()
        # Asked while data were read, memory measured or kernels compiled: there is no step to wait for.
        if trainer.iteration < recipe.iterations and world.from_lead(stop is not None and stop()):
            _leave(trainer, run)
        while trainer.iteration < recipe.iterations and not trainer.gave_up:
            trainer.step()
            i = trainer.iteration
            last = i == recipe.iterations
            # Of a fine-tuning the test images are read once, whether there are others to look at before or not.
            looking = recipe.transfer is None or trainer.validation is not None
            evaluate_now = last or (looking and i % recipe.evaluate_every == 0)
            log_now = i % recipe.log_every == 0 or evaluate_now
            due = i % checkpoint_every == 0 if checkpoint_every else evaluate_now
            ends_window = recipe.warm_up is not None and i % recipe.warm_up.window == 0
            looks = i % glance == 0 or log_now or due or last or ends_window
            leave, late = False, False
            if world.alone or looks:  # what the clock or the caller decides is decided by one for all
                leave = stop is not None and not last and stop()
                late = time.monotonic() - saved_at > CHECKPOINT_SECONDS
                leave, late = world.from_lead((leave, late))
            save_now = due or last or leave or late
            if looks or save_now:
                trainer.settle()
                trainer.look()
                window = trainer.window
                progress.update(
                    i,
                    window.mean_loss(),
                    window.error(),
                    trainer.recent.images_per_second,
                    trainer.recent.waiting,
                )
            if log_now:
                _record(trainer, run, events, evaluate_now)
            if leave:
                _leave(trainer, run)
            if save_now:
                _save(trainer, run)
                saved_at = time.monotonic()


def _begin_with(trainer: Trainer, run: RunDir) -> None:
    """Evaluates the weights that fine-tuning starts from; if no step improves on them, they are kept."""
    line: dict[str, Any] = {"iteration": 0, "epoch": 0.0, "lr": 0.0, "train_loss": None, "train_error": None}
    if trainer.validation is not None:
        result = evaluated(trainer, trainer.validation)
        _keep_best(trainer, run, "validation", result)
        line |= {"validation_error": result.top1_error, "validation_loss": result.loss}
    if trainer.world.leads:
        runs.append_line(run.metrics, _finite(line))
    _save(trainer, run)


def _finite(line: dict[str, Any]) -> dict[str, Any]:
    """A loss can be finite in training and overflow in evaluation; JSON has no word for infinity."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}


def _save(trainer: Trainer, run: RunDir) -> None:
    """A checkpoint of where the training is; of several ranks the first writes it."""
    state = trainer.state()
    if trainer.world.leads:
        checkpoints.save_checkpoint(run.checkpoints, trainer.iteration, *state)


def _leave(trainer: Trainer, run: RunDir) -> NoReturn:
    _save(trainer, run)
    raise Stopped(f"stopped at iteration {trainer.iteration} of {trainer.recipe.iterations}; --resume continues it")


def _record(trainer: Trainer, run: RunDir, events: Events | None, evaluate_now: bool) -> None:
    recipe, i = trainer.recipe, trainer.iteration
    window = trainer.window.over(trainer.world)
    line: dict[str, Any] = {
        "iteration": i,
        "epoch": round(i * recipe.global_batch / trainer.feed.n, 4),
        "lr": trainer.optimizer.lr,
        "train_loss": window.mean_loss(),
        "train_error": window.error(),
    }
    trainer.plateau.train(int(window.wrong), window.seen)
    if evaluate_now:
        name, images = ("test", trainer.test) if trainer.validation is None else ("validation", trainer.validation)
        with trainer.averaged():
            result = evaluated(trainer, images)
            _keep_best(trainer, run, name, result)
        line |= {f"{name}_error": result.top1_error, f"{name}_loss": result.loss}
        if isinstance(recipe.schedule, Plateau):
            of_training = trainer.plateau.training_error()
            trainer.plateau.look(recipe.schedule, of_training if name == "test" else result.top1_error)
        if images is trainer.test:
            trainer.newest = (i, result)
    line = _finite(line)
    speed = {
        "images_per_second": trainer.recent.images_per_second,
        "waiting_for_data": trainer.recent.waiting,
    }
    if events is not None:
        runs.append_line(run.metrics, line)
        runs.append_line(run.speed, {"iteration": i, **speed})
        events.add(i, line | speed)
    trainer.window.clear()
    trainer.recent = Clock()


def _keep_best(trainer: Trainer, run: RunDir, split_name: str, result: Result) -> None:
    known = trainer.best
    if known is None or (result.top1_error, result.loss) < (known["error"], known.get("loss", -math.inf)):
        trainer.best = {"iteration": trainer.iteration, "error": result.top1_error, "loss": result.loss}
        if trainer.recipe.select == "best-validation" and trainer.world.leads:
            checkpoints.save(
                run.checkpoints / "best.safetensors",
                dict(trainer.net.state_dict()),
                trainer.header() | {"iteration": trainer.iteration, f"{split_name}_error": result.top1_error},
            )
