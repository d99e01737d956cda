"""Cross-validation: each image is tested on once, by a network that was not trained on it or on its twin."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from reslab.data.layouts.found import Found
from reslab.errors import InputError
from reslab.evaluate.figures import wilson
from reslab.runs import RunDir, read_json
from reslab.train.device import Execution
from reslab.transfer import finetune
from reslab.transfer.divide import Division, grouped, once, set_aside
from reslab.transfer.look import TEST, TRAIN, VALIDATION, Look
from reslab.transfer.recipe import Choice
from reslab.weights.load import Weights


@dataclass(frozen=True)
class Folded:
    """What the folds came to. Accuracies in per cent."""

    accuracies: tuple[float, ...]
    hits: int
    images: int

    @property
    def mean(self) -> float:
        """Of the folds."""
        return math.fsum(self.accuracies) / len(self.accuracies)

    @property
    def spread(self) -> float:
        """Standard deviation over the folds (n - 1)."""
        mean = self.mean
        return math.sqrt(math.fsum((each - mean) ** 2 for each in self.accuracies) / (len(self.accuracies) - 1))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share of all images that are classified correctly (Wilson), in per cent."""
        low, high = wilson(self.hits, self.images)
        return 100 * low, 100 * high

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "folds": list(self.accuracies), "accuracy": self.mean, "standard_deviation": self.spread,
            "accuracy_interval": list(self.interval), "n_test_images": self.images,
        }  # fmt: skip


def folds(look: Look, count: int, *, validation: float | None = None, seed: int = 0) -> Iterator[Division]:
    """Divisions of the images, a fold each; a test split of the data set's own takes no part.

    A validation split is that of each fold; without one, a share of what each fold trains on is set aside.

    Classes are spread over the folds in their shares as far as they divide, twins lie in one.

    Raises:
        InputError: fewer than two folds, or a class of fewer pictures than folds.
    """
    kept = once(look, look.whole & ~look.of(TEST))
    whole = kept & look.of(TRAIN)
    group = grouped(look)
    pictures = np.array(
        [len(set(group[whole & (look.labels == label)].tolist())) for label in range(len(look.classes))]
    )
    if count < 2 or count > pictures.min():
        rarest = look.classes[int(pictures.argmin())]
        raise InputError(
            f"--folds takes 2 to {pictures.min()}, as many as the rarest class, {rarest!r}, has pictures; got {count}"
        )
    members = np.flatnonzero(whole)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for rest, test in splitter.split(members, look.labels[members], group[members]):
        among = kept & look.of(VALIDATION)
        among[members[rest]] = True
        chosen = set_aside(look, among, validation, seed=seed)
        yield Division(
            train=np.flatnonzero(among & ~chosen), validation=np.flatnonzero(chosen), test=np.sort(members[test]),
            left_out=np.empty(0, np.int64), held_out=True,
        )  # fmt: skip


def cross_validated(
    found: Found, looked: Look, weights: Weights, choice: Choice, count: int, out: Path, *, source: str,
    execution: Execution, size: int | None = None, validation: float | None = None, oriented: bool = True,
    stop: Callable[[], bool] | None = None, told: Callable[[int, float], None] = lambda fold, accuracy: None,
    quiet: bool = False,
) -> Folded:  # fmt: skip
    """Trains and tests a network for each fold, in ``out/fold-1`` and so on; finished ones are not trained again.

    Args:
        found: the images.
        looked: the same, looked at.
        weights: to start from.
        choice: what a person chose of the recipe.
        count: number of folds.
        out: the folder.
        source: of the weights.
        execution: device and mode.
        size: pixels of a side that the network sees.
        validation: share of each fold's training images that is set aside.
        oriented: whether a camera's orientation is applied.
        stop: as of `reslab.train.loop.train`.
        told: is given the number of each fold, from 1, and its accuracy in per cent.
        quiet: no progress.

    Raises:
        InputError: fewer images of a class than folds.
    """
    accuracies, hits, images = [], 0, 0
    for number, division in enumerate(folds(looked, count, validation=validation, seed=choice.seed), 1):
        prepared = finetune.prepare_found(
            found, looked, weights, choice, source=source, size=size, oriented=oriented, division=division
        )
        run = out / f"fold-{number}"
        finetune.fit(prepared, run, execution=execution, title=f"fold {number} of {count}", stop=stop, quiet=quiet)
        result = read_json(RunDir(run).result)
        accuracies.append(100 - result["test_error"])
        images += result["n_test_images"]
        hits += round(accuracies[-1] * result["n_test_images"] / 100)
        told(number, accuracies[-1])
    return Folded(tuple(accuracies), hits, images)
