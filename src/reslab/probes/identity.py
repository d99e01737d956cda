"""Fitting the identity: stacks of layers trained to put out what they are given (He et al. 2015, section 3.1).

Residual learning was proposed on the thought that several layers find it hard to approximate an identity, which a
branch that goes to zero is at once.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from reslab.errors import InputError
from reslab.nets.network import Network, build
from reslab.nets.vectors import mlp
from reslab.probes.result import Floats, Ints, Result, as_floats, as_ints
from reslab.train.optim import make_optimizer
from reslab.train.recipe import Sgd

LAYERS = 2
"""Of a block."""


@dataclass(frozen=True)
class Fits(Result):
    """The remaining error after training, by depth: mean of |y - x|^2 / |x|^2 over new vectors; medians."""

    depth: Ints
    """weighted layers between input and output"""
    plain: Floats
    plain_low: Floats
    """the least over the seeds"""
    plain_high: Floats
    residual: Floats
    residual_low: Floats
    residual_high: Floats
    steps: int
    seeds: int


def stack(blocks: int, width: int, *, residual: bool, seed: int) -> Network:
    """A stack of fully connected blocks of two layers, without BN; only its blocks are used."""
    spec = mlp(LAYERS * blocks + 2, width=width, residual=residual, layers=LAYERS, in_channels=width, norm=None)
    return build(spec, seed=seed)


def fit_identity(
    *,
    blocks: tuple[int, ...] = (1, 2, 4, 8),
    width: int = 32,
    steps: int = 300,
    batch: int = 64,
    lr: float = 0.1,
    seeds: int = 3,
) -> Fits:
    """Trains plain and residual stacks of several depths to copy random vectors, and measures what they leave.

    Blocks are those of the paper, y = relu(F(x)) and y = relu(F(x) + x) with F two layers and a ReLU between; inputs
    are |standard normal|, since what leaves a block is not negative. The loss is the mean square of y - x. Gradients
    are clipped to a norm of 1, so that no depth diverges for its rate alone.

    Args:
        blocks: of each stack, two layers each.
        width: units of a layer, and of the vectors.
        steps: of SGD with momentum 0.9, the rate falling linearly.
        batch: vectors of a step, fresh ones each time.
        lr: rate of the first step.
        seeds: stacks of each kind and depth.
    """
    if min(blocks) < 1 or steps < 1 or seeds < 1:
        raise InputError(f"fitting takes 1 block, step and seed or more, got {min(blocks)}, {steps} and {seeds}")
    found: dict[str, list[Floats]] = {"plain": [], "residual": []}
    for count in blocks:
        for name, errors in found.items():
            each = [
                _left(
                    stack(count, width, residual=name == "residual", seed=seed),
                    steps=steps, batch=batch, lr=lr, width=width, seed=seed,
                )
                for seed in range(seeds)
            ]  # fmt: skip
            errors.append(as_floats([np.median(each), np.min(each), np.max(each)]))
    plain, residual = (np.stack(errors).T for errors in found.values())
    return Fits(
        depth=as_ints([LAYERS * count for count in blocks]),
        plain=plain[0],
        plain_low=plain[1],
        plain_high=plain[2],
        residual=residual[0],
        residual_low=residual[1],
        residual_high=residual[2],
        steps=steps,
        seeds=seeds,
    )


def _left(net: Network, *, steps: int, batch: int, lr: float, width: int, seed: int) -> float:
    """Trains the blocks of a network to copy, and returns the relative error on vectors that it has not seen."""
    body = nn.Sequential(*net.blocks)
    parameters = list(body.parameters())
    optimizer = make_optimizer(body, Sgd(lr=lr, weight_decay=0.0))
    draw = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for step in range(steps):
            optimizer.set_lr(lr * (1 - step / steps))
            x = torch.randn(batch, width, generator=draw).abs()
            loss = (body(x) - x).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
    with torch.no_grad():
        x = torch.randn(1000, width, generator=draw).abs()
        return float((body(x) - x).square().sum() / x.square().sum())
