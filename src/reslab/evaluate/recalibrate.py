"""BN's statistics as true averages over training images, in the place of the running averages of the training.

The networks that He et al. released had such statistics: computed after the training, with the weights as they ended.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from reslab.errors import InputError
from reslab.evaluate.metrics import autocast
from reslab.nets.layers import DropPath

_NORM = nn.modules.batchnorm._BatchNorm


class InBatches(Protocol):
    """Images with their labels, so many at a time: `reslab.data.loader.Eval`, `reslab.probes.seam.Sample`."""

    @property
    def batch(self) -> int:
        """Images at a time."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


def has_statistics(net: nn.Module) -> bool:
    """Whether there is a BN layer whose running statistics could be computed anew."""
    return any(isinstance(module, _NORM) and module.track_running_stats for module in net.modules())


def recalibrate(net: nn.Module, images: InBatches, *, device: torch.device, precision: str = "fp32") -> int:
    """Sets the mean and variance of each BN layer to the plain average of those of the batches.

    mean = 1/B sum_b mean_b, var = 1/B sum_b var_b, with the unbiased variance of each batch over images and positions.
    Dropout and stochastic depth are off meanwhile: the statistics are to be used without them.

    Args:
        net: its modules keep their modes, their momentum and, but for the statistics, their state.
        images: training images, mixed, as the network sees them in an evaluation. A last batch that is not full is left
            out, since each batch counts the same.
        device: where the network is.
        precision: "bf16" or "fp32".

    Returns:
        The number of images that were averaged over.

    Raises:
        InputError: the network has no BN, or there are fewer than two images.
    """
    norms = [module for module in net.modules() if isinstance(module, _NORM) and module.track_running_stats]
    if not norms:
        raise InputError("the network has no BN whose statistics could be computed anew; leave out --recalibrate-bn")
    if len(images) < 2:
        raise InputError(f"BN's statistics are of two images or more, got {len(images)}")
    size = min(images.batch, len(images))
    modes = {module: module.training for module in net.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    drops = {module: module.p for module in net.modules() if isinstance(module, nn.modules.dropout._DropoutNd)}
    paths = {module: module.rate for module in net.modules() if isinstance(module, DropPath)}
    try:
        for drop in drops:
            drop.p = 0.0
        for path in paths:
            path.rate = 0.0
        with autocast(device, precision):
            update_bn(_full(images, size), net)
    finally:
        for module, training in modes.items():
            module.training = training
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for drop, p in drops.items():
            drop.p = p
        for path, rate in paths.items():
            path.rate = rate
    return len(images) // size * size


def _full(images: InBatches, size: int) -> Iterator[Tensor]:
    for x, _ in images:
        if len(x) == size:
            yield x
