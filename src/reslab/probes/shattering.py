"""Shattered gradients: how alike the gradients at neighbouring inputs are, by depth (Balduzzi et al. 2017).

"The Shattered Gradients Problem: If resnets are the answer, then what is the question?", arXiv 1702.08591. Along a line
of inputs the gradient of a shallow network resembles brown noise, that of a deep plain one white noise.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reslab.errors import InputError
from reslab.nets.network import Network, build
from reslab.nets.spec import Block, Dense, DenseStem, NetSpec, Norm, NoShortcut, Scale, Stack
from reslab.probes.gradients import twins
from reslab.probes.result import Floats, Ints, Result, as_floats, as_ints
from reslab.probes.seam import Sample, opened

Kind = Literal["plain", "plain-bn", "residual", "residual-bn"]
KINDS: tuple[Kind, ...] = ("plain", "plain-bn", "residual", "residual-bn")


@dataclass(frozen=True)
class Shattering(Result):
    """Autocorrelation of the gradient along a line of inputs, for networks of several depths, and for noise."""

    depth: Ints
    """layers with a ReLU"""
    lag: Ints
    """points of the grid between two inputs"""
    plain: Floats
    """(depths, lags): mean over the networks, without BN"""
    plain_bn: Floats
    residual: Floats
    residual_bn: Floats
    white: Floats
    """(lags): of white noise as long as the grid, by the same estimate"""
    brown: Floats
    """of its running sum"""
    seeds: int
    width: int

    def rows(self) -> list[dict[str, Any]]:
        """A row for each depth and lag."""
        kinds = ("plain", "plain_bn", "residual", "residual_bn")
        return [
            {"depth": int(depth), "lag": int(lag)}
            | {kind: float(getattr(self, kind)[i, j]) for kind in kinds}
            | {"white": float(self.white[j]), "brown": float(self.brown[j])}
            for i, depth in enumerate(self.depth)
            for j, lag in enumerate(self.lag)
        ]


def _layers(kind: Kind, depth: int, width: int, scale: float) -> NetSpec:
    """The fully connected network of that paper: one input, ``depth`` layers W relu(x), one output."""
    residual = kind.startswith("residual")
    block = Block(
        branch=Stack(layers=(Dense(width=width),)),
        width=width,
        shortcut=Scale(shortcut=1.0, residual=scale) if residual else NoShortcut(),
        order="full-preactivation",
    )
    return NetSpec(
        name=f"{kind} of {depth}",
        in_channels=1,
        size=(1, 1),
        num_classes=1,
        stem=DenseStem(width=width, norm=False),
        stages=((block,) * depth,),
        norm=Norm() if kind.endswith("bn") else None,
        cite="Balduzzi et al. 2017, arXiv 1702.08591, section 2",
    )


def make(kind: Kind, depth: int, *, width: int = 200, seed: int = 0, scale: float = 1.0) -> Network:
    """A fresh network of a kind: y_l = W relu(BN(y_(l-1))), or y_l = y_(l-1) + scale W relu(BN(y_(l-1))).

    Weights are He's; biases, which the paper does not mention, are drawn with the variance of the weights' inputs in
    the first layer alone, so that its ReLUs open at different inputs.
    """
    net = build(_layers(kind, depth, width, scale), seed=seed)
    draw = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        # Networks with BN have none of their own.
        net.linear1.bias = nn.Parameter(torch.empty(width).normal_(0.0, 2**0.5, generator=draw))
    return net


def gradient_along(net: Network, inputs: Tensor) -> Floats:
    """df/dx (n,) of a network of one input and one output at inputs (n,); BN takes its statistics over all of them."""
    with opened(net), _batch_statistics(net), torch.enable_grad():
        x = inputs.detach().clone().view(-1, 1).requires_grad_()
        (found,) = torch.autograd.grad(net(x).sum(), x)
    return as_floats(found.squeeze(1).cpu().numpy())


@contextmanager
def _batch_statistics(net: Network) -> Iterator[None]:
    """BN with the statistics of what passes, held: or the gradient at one input would be mixed with the others'."""

    def normalised(module: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> Tensor:
        assert isinstance(module, _BatchNorm)
        x = inputs[0]
        over = [dim for dim in range(x.dim()) if dim != 1]
        var, mean = torch.var_mean(x.detach(), over, correction=0, keepdim=True)
        shape = mean.shape
        scale = 1.0 if module.weight is None else module.weight.view(shape)
        shift = 0.0 if module.bias is None else module.bias.view(shape)
        return (x - mean) * (var + module.eps).rsqrt() * scale + shift

    with ExitStack() as hooks:
        for module in net.modules():
            if isinstance(module, _BatchNorm):
                hooks.callback(module.register_forward_hook(normalised).remove)
        yield


def autocorrelation(values: Floats, lags: Ints) -> Floats:
    """sum <v_i - m, v_(i+lag) - m> / sum |v_i - m|^2 for each lag, of numbers (n,) or vectors (n, d) with mean m.

    It is 1 at lag 0, and about 0 beyond it for white noise.
    """
    vectors = values.reshape(len(values), -1)
    centred = vectors - vectors.mean(0)
    power = float((centred**2).sum())
    if power == 0:
        return np.full(len(lags), np.nan)
    return as_floats([float((centred[: len(centred) - lag] * centred[lag:]).sum()) / power for lag in lags])


def shattering(
    *,
    depths: tuple[int, ...] = (1, 4, 10, 24, 50),
    width: int = 200,
    points: int = 256,
    lags: int = 15,
    seeds: int = 10,
    scale: float = 1.0,
) -> Shattering:
    """Gradients of fresh fully connected networks over a grid of inputs from -2 to 2, and noise to compare with.

    It is BN that shatters plain networks on such a line: it centres each unit, so that it is active for half of the
    inputs, as the paper's theorems assume. Without it most units stay open or shut all along the line.

    Args:
        depths: layers with a ReLU.
        width: units of a layer; the paper has 200.
        points: of the grid; the paper has 256.
        lags: up to this distance on the grid.
        seeds: networks of each kind and depth.
        scale: factor of the branches with BN (the paper's beta); without BN it is 1.
    """
    if seeds < 1 or not 1 <= lags < points:
        raise InputError(f"shattering takes 1 seed or more and fewer lags than points, got {seeds}, {lags} of {points}")
    grid = torch.linspace(-2, 2, points)
    distance = as_ints(range(lags + 1))
    found: dict[Kind, list[Floats]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for depth in depths:
            each = [
                autocorrelation(
                    gradient_along(
                        make(kind, depth, width=width, seed=seed, scale=scale if kind == "residual-bn" else 1.0), grid
                    ),
                    distance,
                )
                for seed in range(seeds)
            ]
            found[kind].append(as_floats(np.nanmean(each, 0)))
    random = np.random.default_rng(0)
    noise = random.standard_normal((max(seeds, 20), points))
    white = np.mean([autocorrelation(row, distance) for row in noise], 0)
    brown = np.mean([autocorrelation(np.cumsum(row), distance) for row in noise], 0)
    return Shattering(
        depth=as_ints(depths),
        lag=distance,
        plain=np.stack(found["plain"]),
        plain_bn=np.stack(found["plain-bn"]),
        residual=np.stack(found["residual"]),
        residual_bn=np.stack(found["residual-bn"]),
        white=as_floats(white),
        brown=as_floats(brown),
        seeds=seeds,
        width=width,
    )


@dataclass(frozen=True)
class AlongImages(Result):
    """Autocorrelation of the gradient at the image along a line from one image to another, of fresh networks."""

    lag: Ints
    """points of the line between two inputs"""
    plain: Floats
    plain_bn: Floats
    residual: Floats
    residual_bn: Floats
    points: int
    seeds: int


def along_images(spec: NetSpec, sample: Sample, *, points: int = 64, lags: int = 15, seeds: int = 3) -> AlongImages:
    """The same for convolutional networks: plain and residual twins, with BN and without.

    The gradient is of a random direction of the logits; BN takes its statistics over the line.

    Args:
        spec: a network, whose twins are made from it.
        sample: images, of which line ``seed`` joins two.
        points: of the line.
        lags: up to this distance on the line.
        seeds: networks of each kind, each along a line of its own.
    """
    if seeds < 1 or not 1 <= lags < points:
        raise InputError(f"shattering takes 1 seed or more and fewer lags than points, got {seeds}, {lags} of {points}")
    sample.need(2 * seeds, "shattering along lines between images")
    distance = as_ints(range(lags + 1))
    found: dict[str, Floats] = {}
    for name, twin in twins(spec).items():
        each = []
        for seed in range(seeds):
            net = build(twin, seed=seed).to(sample.x.device)
            first, second = sample.x[2 * seed], sample.x[2 * seed + 1]
            at = torch.linspace(0, 1, points, device=sample.x.device).view(-1, *[1] * first.dim())
            direction = torch.randn(spec.num_classes, generator=torch.Generator().manual_seed(seed))
            with opened(net), _batch_statistics(net), torch.enable_grad():
                x = (first + at * (second - first)).requires_grad_()
                (gradient,) = torch.autograd.grad((net(x) * direction.to(x.device)).sum(), x)
            each.append(autocorrelation(as_floats(gradient.flatten(1).cpu().numpy()), distance))
        found[name] = as_floats(np.nanmean(each, 0))
    return AlongImages(lag=distance, **found, points=points, seeds=seeds)


@dataclass(frozen=True)
class Decay(Result):
    """Correlation of the gradients at two unlike inputs against depth, and the law fitted to it."""

    depth: Ints
    plain: Floats
    residual: Floats
    residual_bn: Floats
    plain_base: float
    """b of the fit b^L; the paper's is 1/2"""
    residual_base: float
    """the same; the paper's is 3/4"""
    residual_bn_power: float
    """p of the fit (L + 1)^p; the paper's, for great depths, is -1/2"""
    networks: int


def decay_laws(*, depths: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12), width: int = 128, networks: int = 64) -> Decay:
    """The correlation of gradients at two inputs, over many fresh networks, and how it falls with depth.

    The theorems assume that each unit is active for half of the inputs, and for two inputs together for a quarter of
    them. Here that holds by construction: which units are active is drawn by coins, independently for the two inputs,
    while the weights are the same for both. Fits are of least squares.

    Args:
        depths: layers.
        width: units of each.
        networks: of each kind and depth, over which products and powers are summed.
    """
    if networks < 2 or min(depths) < 1:
        raise InputError(f"decay laws take 2 networks or more and depths from 1, got {networks} and {min(depths)}")
    laws: tuple[Kind, ...] = ("plain", "residual", "residual-bn")
    found = {kind: as_floats([_correlation(kind, depth, width, networks) for depth in depths]) for kind in laws}
    layers = as_floats(depths)
    return Decay(
        depth=as_ints(depths),
        plain=found["plain"],
        residual=found["residual"],
        residual_bn=found["residual-bn"],
        plain_base=_fitted(lambda b: b**layers, found["plain"], (0.0, 1.0)),
        residual_base=_fitted(lambda b: b**layers, found["residual"], (0.0, 1.0)),
        residual_bn_power=_fitted(lambda p: (layers + 1) ** p, found["residual-bn"], (-3.0, 0.0)),
        networks=networks,
    )


def _fitted(law: Callable[[float], Floats], values: Floats, bounds: tuple[float, float]) -> float:
    """The parameter of least squares."""
    best = minimize_scalar(lambda p: float(((law(p) - values) ** 2).sum()), bounds=bounds, method="bounded")
    return float(best.x)


def _correlation(kind: Kind, depth: int, width: int, networks: int) -> float:
    """Correlation of the gradients at two inputs, over units and networks.

    Backwards through layer l: g <- s D W^T g (plain), or g <- g + s D W^T g, with D the coins, half of which are 1.
    W has variance 2 / width, so that D W^T keeps the mean square. With BN the layer's input, whose variance is l
    after l unit branches, is divided by its root: s = 1 / sqrt(l).
    """
    draw = torch.Generator().manual_seed(depth)
    products = powers = 0.0
    for _ in range(networks):
        first = second = torch.randn(width, generator=draw)
        for layer in range(depth, 0, -1):
            weights = torch.randn(width, width, generator=draw) * (2 / width) ** 0.5
            coins = torch.randint(0, 2, (2, width), generator=draw)
            scale = layer**-0.5 if kind == "residual-bn" else 1.0
            one, two = (scale * coin * (weights.T @ g) for coin, g in zip(coins, (first, second), strict=True))
            first, second = (one, two) if kind == "plain" else (first + one, second + two)
        products += float(first @ second)
        powers += float((first @ first + second @ second) / 2)
    return products / powers
