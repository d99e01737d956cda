"""How far a network's scores can be taken for probabilities, and the one number that mends them: a temperature."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from reslab.errors import InputError
from reslab.evaluate.figures import BINS, Labels, Logs, predicted, wilson

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures looked at. Of images that are all right, or all wrong, the best one lies at infinity; these bound it."""


@dataclass(frozen=True)
class Bin:
    """The images whose highest score lies in (low, high]. Shares are from 0 to 1."""

    low: float
    high: float
    n_images: int
    confidence: float
    """mean of the highest scores"""
    accuracy: float
    interval: tuple[float, float]
    """95 % interval of the accuracy (Wilson)"""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def scaled(logs: Logs, temperature: float) -> Logs:
    """Log scores (N, classes) of softmax(logits / temperature); ``logs`` are logits, or log scores of temperature 1.

    log_softmax(logits / T) = log_softmax(log_softmax(logits) / T), since a softmax does not see a constant.
    """
    found: Logs = log_softmax(logs.astype(np.float64) / temperature, axis=1).astype(np.float32)
    return found


def fitted_temperature(logs: Logs, labels: Labels) -> float:
    """The temperature T with the least mean cross-entropy of softmax(logits / T) (Guo 2017, arXiv 1706.04599, 4.2).

    It changes no prediction. It is to be fitted on images that were not trained on, and judged on others again.

    Args:
        logs: logits or log scores (N, classes), all finite.
        labels: the right class of each image (N,).

    Returns:
        T, between 0.05 and 20: above 1 where the network was too sure of itself, below 1 where it was not sure enough.

    Raises:
        InputError: there is no image, or a score is not finite.
    """
    if not len(labels):
        raise InputError("a temperature is fitted on images with labels, got none; hold some out for validation")
    if not np.isfinite(logs).all():
        raise InputError("a temperature is fitted on finite scores; the network gave some that are not numbers")
    exact = logs.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(inverse: float) -> float:
        return float(-log_softmax(exact * inverse, axis=1)[rows, labels].mean())

    # In 1/T the loss is convex (a log-sum-exp of linear functions), so that the one minimum is found.
    found = minimize_scalar(loss, bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded", options={"xatol": 1e-6})
    return 1 / float(found.x)


def reliability(logs: Logs, labels: Labels, bins: int = BINS) -> list[Bin]:
    """The reliability diagram (Guo 2017, Fig. 1): bins of equal width that hold images, by rising confidence.

    The images' mean of |accuracy - confidence| over these bins is `figures.calibration_error`.
    """
    chosen = predicted(logs)
    highest: npt.NDArray[np.float64] = np.exp(logs[np.arange(len(labels)), chosen].astype(np.float64))
    hit = chosen == labels
    which = np.clip(np.ceil(highest * bins).astype(np.int64) - 1, 0, bins - 1)
    found = []
    for number in range(bins):
        inside = which == number
        if n := int(inside.sum()):
            hits = int(hit[inside].sum())
            mean = math.fsum(highest[inside]) / n
            found.append(Bin(number / bins, (number + 1) / bins, n, mean, hits / n, wilson(hits, n)))
    return found
