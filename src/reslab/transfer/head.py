"""A last layer for embeddings that stay as they are: multinomial logistic regression, to its optimum.

Where nothing below the last layer is trained, an image's embedding never changes. It is computed once, and the last
layer is a convex problem: no learning rate, no number of epochs and no random seed are left to choose, only how
strongly weights are penalised, which cross-validation decides. The penalty is what keeps 20 images a class from being
learnt by heart (Kornblith 2019, arXiv 1805.08974, chooses it so for its fixed features).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from reslab.errors import InputError

HeadKind = Literal["linear", "bn-linear"]
"""linear: on the embeddings. bn-linear: on the embeddings brought to mean 0 and variance 1, as BatchNorm1d does before
a linear layer; the scaling is folded into the layer, so that both kinds are one linear layer in the end."""
PENALTIES = tuple(float(x) for x in np.logspace(-4, 2, 7))
"""Strengths that cross-validation chooses from: lambda of mean cross-entropy + lambda/2 |W|^2."""
FOLDS = 5
ITERATIONS = 200
_FLOOR = 1e-5
"""Added to a variance, as BatchNorm does."""

Embeddings = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Head:
    """A linear layer: logits = embeddings W^T + b."""

    weight: npt.NDArray[np.float32]
    """(classes, D)"""
    bias: npt.NDArray[np.float32]
    """(classes,)"""
    penalty: float
    """lambda, as chosen"""
    losses: tuple[tuple[float, float], ...]
    """mean cross-entropy on images left out, in nats, by penalty; of one penalty alone there is none"""

    def logits(self, embeddings: Embeddings) -> npt.NDArray[np.float32]:
        """Of embeddings (N, D): (N, classes)."""
        found: npt.NDArray[np.float32] = embeddings @ self.weight.T + self.bias
        return found


def fitted_head(
    embeddings: Embeddings, labels: Labels, classes: int, *, kind: HeadKind = "bn-linear", balanced: bool = False,
    penalties: Sequence[float] = PENALTIES, seed: int = 0,
) -> Head:  # fmt: skip
    """The head with the least penalised cross-entropy on these images, by L-BFGS.

    Args:
        embeddings: what the last layer takes, (N, D), finite.
        labels: the right class of each image (N,), 0 to classes - 1.
        classes: how many outputs the head has; one without images gets the smallest of the biases.
        kind: whether embeddings are normalised first.
        balanced: images of rare classes count for more, so that each class counts the same.
        penalties: to choose from by stratified cross-validation of `FOLDS` folds, fewer where a class has fewer images.
        seed: random seed of the folds.

    Raises:
        InputError: fewer than two classes have images, or an embedding is not finite.
    """
    present = np.unique(labels)
    if len(present) < 2:
        raise InputError(f"a head tells classes apart; expected images of two classes or more, got {len(present)}")
    if not np.isfinite(embeddings).all():
        bad = int((~np.isfinite(embeddings)).any(1).sum())
        raise InputError(f"{bad} of {len(embeddings)} embeddings are not finite; the network's weights are damaged")
    losses: list[tuple[float, float]] = []
    penalty = penalties[0]
    if len(penalties) > 1:
        losses = _left_out(embeddings, labels, kind, balanced, penalties, seed)
        # Of equal losses the stronger penalty: the simpler of two functions that do as well.
        penalty = min(losses, key=lambda each: (each[1], -each[0]))[0]
    mean, scale = _scaling(embeddings, kind)
    model = _fitted((embeddings - mean) * scale, labels, balanced, penalty)
    own, bias = _both_classes(model)
    weight = np.zeros((classes, embeddings.shape[1]), np.float32)
    shift = np.full(classes, bias.min(), np.float32)
    weight[present] = own * scale
    shift[present] = bias - (own * scale) @ mean
    return Head(weight, shift, penalty, tuple(losses))


def _scaling(embeddings: Embeddings, kind: HeadKind) -> tuple[Embeddings, Embeddings]:
    """Mean and 1/std (D,) of the embeddings; of kind 'linear' one size for all, so that penalties mean the same."""
    if kind == "linear":
        size = float(np.sqrt((embeddings.astype(np.float64) ** 2).mean()) or 1.0)
        width = embeddings.shape[1]
        return np.zeros(width, np.float32), np.full(width, 1 / size, np.float32)
    variance = embeddings.var(0, dtype=np.float64)
    scale = np.where(variance > _FLOOR * max(variance.max(), _FLOOR), 1 / np.sqrt(variance + 1e-12), 0.0)
    return embeddings.mean(0, dtype=np.float64).astype(np.float32), scale.astype(np.float32)


def _fitted(x: Embeddings, labels: Labels, balanced: bool, penalty: float, start: Any = None) -> Any:
    """scikit-learn minimises C sum(cross-entropy) + |W|^2 / 2, so that C = 1 / (N lambda)."""
    model = LogisticRegression(
        C=1 / (len(labels) * penalty), max_iter=ITERATIONS, class_weight="balanced" if balanced else None,
        warm_start=start is not None,
    )  # fmt: skip
    if start is not None:
        model.coef_, model.intercept_, model.classes_ = start.coef_, start.intercept_, start.classes_
    with warnings.catch_warnings():  # at a penalty near nothing the optimum is far away; validation sees to it
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, labels)


def _both_classes(model: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weights (present classes, D) and biases; of two classes scikit-learn keeps the difference alone."""
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:
        return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def _left_out(
    embeddings: Embeddings, labels: Labels, kind: HeadKind, balanced: bool, penalties: Sequence[float], seed: int
) -> list[tuple[float, float]]:
    """Mean cross-entropy on images left out, by penalty. Classes of one image stay in each training part."""
    counts = np.bincount(labels)
    single = np.isin(labels, np.flatnonzero(counts == 1))
    several = np.flatnonzero(~single)
    if not len(several):
        return [(penalty, 0.0) for penalty in penalties]
    folds = max(2, min(FOLDS, int(counts[counts > 1].min())))
    total = dict.fromkeys(sorted(penalties, reverse=True), 0.0)
    for kept, out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(several, labels[several]):
        train, test = np.concatenate([several[kept], np.flatnonzero(single)]), several[out]
        mean, scale = _scaling(embeddings[train], kind)
        x, held = (embeddings[train] - mean) * scale, (embeddings[test] - mean) * scale
        start = None
        for penalty in total:  # from the strongest on: each optimum is near the next
            start = _fitted(x, labels[train], balanced, penalty, start)
            column = np.searchsorted(start.classes_, labels[test])
            weight, bias = _both_classes(start)
            logs = log_softmax(held @ weight.T + bias, axis=1)[np.arange(len(test)), column]
            total[penalty] -= float(logs.sum())
    return [(penalty, total[penalty] / len(several)) for penalty in penalties]
