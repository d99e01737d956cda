"""How a run ends: the weights that are its result, their error on the test set, and what is said of them."""

import math
from typing import Any

from torch import Tensor

from reslab import runs
from reslab.data.loader import Eval
from reslab.data.photographs import PhotographEval
from reslab.evaluate.figures import at_chance
from reslab.evaluate.metrics import Result, evaluate
from reslab.runs import RunDir
from reslab.train import state as checkpoints
from reslab.train.feed import OnDisk, share_of_commonest
from reslab.train.optim import trained
from reslab.train.trainer import Trainer
from reslab.train.turns import rest
from reslab.weights.files import read_safetensors


def evaluated(trainer: Trainer, images: Eval | PhotographEval) -> Result:
    """The error of the network as it is, each image counted once over all ranks."""
    recipe = trainer.recipe
    trainer.evaluating = True

    def total(sums: Tensor) -> Tensor:
        rest(trainer.device)
        return trainer.world.total(sums)

    found = evaluate(trainer.net, images, precision=recipe.precision, test_time=recipe.test_time, total=total)
    trainer.evaluating = False  # left as it is where memory ends, which is said then
    return found


def finish(trainer: Trainer, run: RunDir) -> dict[str, Any]:
    """Writes and returns the result of a run whose last iteration is done; of several ranks the first does."""
    recipe = trainer.recipe
    chosen = trainer.iteration
    trainer.stay_averaged()
    if recipe.select == "best-validation":
        found = read_safetensors(run.checkpoints / "best.safetensors") if trainer.world.leads else None
        weights, about = trainer.world.from_lead(found)  # type: ignore[misc]
        trainer.net.load_state_dict(weights)
        chosen = int(about["iteration"])
    if trainer.newest is not None and trainer.newest[0] == chosen == trainer.iteration:
        test = trainer.newest[1]
    else:  # weights of an earlier iteration, or a run whose process ended between its last iteration and here
        test = evaluated(trainer, trainer.test)
    damaged = trainer.gathered_damage()
    if not trainer.world.leads:
        return {}
    history = run.read_metrics()
    position = next(i for i, line in enumerate(history) if line["iteration"] == chosen)
    at, before = history[position], history[position - 1]["iteration"] if position else 0
    images = (chosen - before) * recipe.global_batch
    result: dict[str, Any] = {
        "net": recipe.net.name,
        "seed": recipe.seed,
        "iterations": recipe.iterations,
        "params": sum(p.numel() for p in trained(trainer.net).values()),
        "selected": recipe.select,
        "protocol": test.protocol,
        "selected_iteration": chosen,
        "train_error": at["train_error"],
        "train_loss": at["train_loss"],
        "train_images": images,
        "at_chance": _guesses(at["train_error"], images, trainer.feed.commonest) if images else _tested(trainer, test),
        "test_at_chance": _tested(trainer, test),
        "test_error": test.top1_error,
        "test_loss": test.loss if math.isfinite(test.loss) else None,
        "n_test_images": test.n_images,
        "warm_up_ended_at": trainer.warm_up.ended_at,
        "seconds": round(trainer.seconds, 1),
        "finished": runs.now(),
        "images_per_second": round(trainer.total.images_per_second, 1),
        "waiting_for_data": round(trainer.total.waiting, 4),
    }
    if isinstance(trainer.feed, OnDisk):
        every = [why for found in damaged.values() for _, why in found]
        result |= {"damaged_images": len(every), "damaged": every[:20]}
    if trainer.validation is not None:
        result["validation_error"] = at["validation_error"]
    elif history[-1].get("test_error") is not None:
        # Recorded so that nobody has to guess: the lowest point of the test curve, which chose nothing.
        result["best_test_error"] = min(line["test_error"] for line in history if "test_error" in line)
    checkpoints.save(
        run.checkpoints / "final.safetensors",
        dict(trainer.net.state_dict()),
        trainer.header() | {"recipe": recipe.name, "iteration": chosen, "test_error": test.top1_error},
    )
    runs.write_json(run.result, result)
    return result


def _tested(trainer: Trainer, test: Result) -> bool:
    """Like `_guesses`, by the test error."""
    return _guesses(test.top1_error, test.n_images, share_of_commonest(trainer.test.labels))


def _guesses(error: float | None, images: int, commonest: float) -> bool:
    """Whether a training error in per cent, of so many images, is that of always naming the most frequent class.

    ``commonest`` is that class's share of the training images.
    """
    if error is None:  # not finite
        return True
    return at_chance(images - round(error * images / 100), images, commonest * images)
