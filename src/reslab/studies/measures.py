"""Measurements of a trained network beside its errors; cached in the run's folder."""

import io
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from reslab import runs
from reslab.data.loader import Eval
from reslab.data.sources import Dataset
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.evaluate.protocols import OneCrop
from reslab.evaluate.scores import log_scores
from reslab.nets.network import Network, build
from reslab.probes.seam import outputs_of
from reslab.runs import RunDir
from reslab.runs.files import write_bytes
from reslab.train.recipe import Recipe
from reslab.weights.load import load

Measured = dict[str, float]
FILE, SCORES = "measures.json", "test_scores.npy"
IMAGES = 256
"""Of the training set, that gradients are taken over."""


def gradients(recipe: Recipe, data: Dataset, run: RunDir, device: torch.device) -> Measured:
    """How much of the gradient arrives at the first block, before and after training.

    log10 of the norm of dE/dx at the first block's output over that at the last block's, E being the mean
    cross-entropy of 256 training images, BN normalising by its batch as in training. 0: none is lost; -1: a tenth
    arrives. He 2015, section 4.1, argues that with BN "backward propagated gradients exhibit healthy norms".
    """
    trained = load(run.path).network()
    images = data.train.images[:IMAGES]
    normalizer = Normalizer.for_(recipe.data, data.train.images)
    x, labels = normalizer(images).to(device), data.train.labels[:IMAGES].to(device)
    found = {}
    for name, net in (("start", build(recipe.own_net, seed=recipe.seed)), ("end", trained)):
        net.group_norm_statistics(recipe.bn_group)
        found[f"log10_gradient_ratio_{name}"] = _ratio(net.to(device).train(), x, labels)
    return found


def _ratio(net: Network, x: Tensor, labels: Tensor) -> float:
    with outputs_of({"first": net.blocks[0], "last": net.blocks[-1]}) as seen:
        loss = F.cross_entropy(net(x), labels)
    first, last = (float(g.norm()) for g in torch.autograd.grad(loss, (seen["first"], seen["last"])))
    return round(math.log10(max(first, 1e-30) / max(last, 1e-30)), 4)


def keep_scores(recipe: Recipe, data: Dataset, run: RunDir, device: torch.device) -> Measured:
    """Keeps the softmax scores (N, classes) of the test images, which ensembles are made of."""
    net = load(run.path).network().to(device).eval()
    normalizer = Normalizer.for_(recipe.data, data.train.images)
    precision = runs.read_json(run.recipe)["precision"]
    images = Eval(data.test, normalizer, batch=500, device=device)
    found = log_scores(net, images, normalizer, OneCrop(crop=data.info.size), device=device, precision=precision)
    content = io.BytesIO()
    np.save(content, found.logs.exp().numpy())
    write_bytes(run.path / SCORES, content.getvalue())
    return {}


def speed(recipe: Recipe, data: Dataset, run: RunDir, device: torch.device) -> Measured:
    """log2 of the images that were trained on in a second, so that a difference is the logarithm of a ratio."""
    return {"log2_images_per_second": round(math.log2(runs.read_json(run.result)["images_per_second"]), 4)}


MEASURES: dict[str, Callable[[Recipe, Dataset, RunDir, torch.device], Measured]] = {
    "gradients": gradients,
    "test-scores": keep_scores,
    "speed": speed,
}


def measure(name: str, recipe: Recipe, data: Dataset, run: RunDir, device: torch.device) -> Measured:
    """Measures a finished run, unless that was done."""
    kept: dict[str, Measured] = runs.read_json(run.path / FILE) if (run.path / FILE).exists() else {}
    if name not in kept:
        kept[name] = MEASURES[name](recipe, data, run, device)
        runs.write_json(run.path / FILE, kept)
    return kept[name]


def scores_of(run: RunDir) -> npt.NDArray[np.float32]:
    """The scores that `keep_scores` saved."""
    try:
        return np.asarray(np.load(run.path / SCORES, allow_pickle=False), dtype=np.float32)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{run.path / SCORES} cannot be read ({error}); remove {FILE} next to it, and run the study again"
        ) from None
