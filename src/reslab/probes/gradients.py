"""Gradients by depth: their norm at each block, what a block does to it, and what arrives by shortcuts alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets.network import build
from reslab.nets.spec import Block, Identity, Init, NetSpec, Norm, NoShortcut, ZeroPad
from reslab.probes.backward import Backward, norms
from reslab.probes.result import Floats, Result, as_floats
from reslab.probes.seam import Sample, opened, own


@dataclass(frozen=True)
class Gradients(Result):
    """At each block's input, and behind the last block (``end``). Medians over the images."""

    block: tuple[str, ...]
    norm: Floats
    """|dE/dx| of each image's own cross-entropy E"""
    norm_low: Floats
    """a tenth of the images is at or below it"""
    norm_high: Floats
    ratio: Floats
    """|dE/dx_l| / |dE/dx_(l+1)| across the block; 1 preserves the norm; NaN for ``end``"""
    by_shortcuts: Floats
    """norm of what comes back from the end by shortcuts alone, as a share of the norm there; NaN before a block
    without one"""
    n_images: int


def gradients(net: nn.Module, sample: Sample, *, images: int = 64) -> Gradients:
    """The norm of dE/dx by depth, the ratio across each block, and the part that no branch has touched.

    In a pre-activation network x_L = x_l + sum F(x_i), so that dE/dx_l = dE/dx_L (1 + d/dx_l sum F(x_i)): the first
    term arrives undiminished (He et al. 2016, arXiv 1603.05027, eq. 5), where ``by_shortcuts`` is 1. In the original
    order the ReLU behind each addition lets only a part of it pass. The ratio across a block is that of Zaeemzadeh,
    Rahnavard and Shah 2018 (arXiv 1805.07477), who find it near 1 in residual networks, the nearer the deeper.

    Args:
        net: the network; BN has its running statistics, so that each image's gradient is its own.
        sample: the images, of which ``images`` are taken.
        images: how many.
    """
    net = own(net, "the probe of gradients")
    sample = sample.some(images)
    norm, untouched = [], []
    with opened(net):
        for batch in sample.parts():
            back = Backward(net, batch)
            norm.append(torch.stack([norms(gradient) for gradient in back.gradients()]))
            untouched.append(_by_shortcuts(back))
    whole = torch.cat(norm, 1)  # (blocks + 1, N)
    tiny = torch.finfo(torch.float64).tiny
    ratio = whole[:-1] / whole[1:].clamp_min(tiny)
    return Gradients(
        block=(*net.named_blocks, "end"),
        norm=_quantile(whole, 0.5),
        norm_low=_quantile(whole, 0.1),
        norm_high=_quantile(whole, 0.9),
        ratio=np.append(_quantile(ratio, 0.5), np.nan),
        by_shortcuts=_quantile(torch.cat(untouched, 1), 0.5),
        n_images=len(sample),
    )


def _quantile(values: Tensor, q: float) -> Floats:
    return as_floats(values.quantile(q, dim=1).numpy())


def _by_shortcuts(back: Backward) -> Tensor:
    """The gradient through the shortcuts alone, for each image (blocks + 1, N)."""
    start = norms(back.at_end)
    found = [torch.ones_like(start)]
    gradient = back.at_end
    for piece in reversed(back.pieces):
        if not piece.residual:
            break
        gradient = piece.back(gradient, "shortcut")
        found.append(norms(gradient) / start.clamp_min(torch.finfo(torch.float64).tiny))
    missing = len(back.pieces) + 1 - len(found)
    return torch.stack([torch.full_like(start, torch.nan)] * missing + found[::-1])


@dataclass(frozen=True)
class Initial(Result):
    """Gradient norms at initialisation, of four networks that differ in shortcuts and BN alone.

    At each block's input and behind the last, as a multiple of the norm there; geometric means over the seeds.
    """

    block: tuple[str, ...]
    plain: Floats
    """without BN"""
    plain_bn: Floats
    residual: Floats
    residual_bn: Floats
    seeds: int
    n_images: int


def at_initialisation(spec: NetSpec, sample: Sample, *, seeds: int = 3, images: int = 64) -> Initial:
    """Gradient norms by depth of fresh networks: plain against residual, with and without BN.

    The gradient is of a random direction of the logits, the same for all, since the loss of an untrained network
    depends on how large its logits happen to be. BN normalises with the batch's statistics, as in training. He et
    al. 2015 (section 4.1) argue that plain networks with BN do not suffer from vanishing gradients.

    Args:
        spec: a network, whose twins are made from it.
        sample: the images, of which ``images`` are taken.
        seeds: networks of each kind.
        images: how many.
    """
    if seeds < 1:
        raise InputError(f"gradients at initialisation need 1 seed or more, got {seeds}")
    sample = sample.some(images)
    sample.need(2, "gradients at initialisation, where BN takes the batch's statistics,")
    found: dict[str, Floats] = {}
    for name, twin in twins(spec).items():
        logs = [np.log(np.maximum(_fresh(twin, sample, seed), 1e-300)) for seed in range(seeds)]
        found[name] = as_floats(np.exp(np.mean(logs, 0)))
    return Initial(block=(*spec.named_blocks, "end"), **found, seeds=seeds, n_images=len(sample))


def _fresh(spec: NetSpec, sample: Sample, seed: int) -> Floats:
    net = build(spec, seed=seed).to(sample.x.device)
    draw = torch.Generator().manual_seed(seed)
    direction = torch.randn(spec.num_classes, generator=draw).to(sample.x.device)
    with opened(net, statistics="batch"):
        back = Backward(net, sample, direction)
        sizes = [float(norms(gradient).square().mean().sqrt()) for gradient in back.gradients()]
    return as_floats(sizes) / sizes[-1] if sizes[-1] else np.full(len(sizes), np.nan)


def twins(spec: NetSpec) -> Mapping[str, NetSpec]:
    """The network plain and residual, without BN and with it, all else the same; both as they are drawn by He.

    A plain network's blocks are given the identity where the shape stays and option A where it changes. Raises
    `InputError` where no shortcut fits.
    """
    stages = {
        "plain": _with_shortcuts(spec, residual=False),
        "residual": spec.stages if spec.is_residual else _with_shortcuts(spec, residual=True),
    }
    found: dict[str, NetSpec] = {}
    for kind, blocks in stages.items():
        for suffix, norm in (("", None), ("_bn", spec.norm or Norm())):
            found[kind + suffix] = _checked(spec, f"{kind}{suffix} twin of {spec.name}", blocks, norm)
    return found


def _checked(spec: NetSpec, name: str, stages: tuple[tuple[Block, ...], ...], norm: Norm | None) -> NetSpec:
    init = Init(fan=spec.init.fan)  # branches that start at zero would hide what depth does
    try:
        return NetSpec.model_validate({**dict(spec), "name": name, "stages": stages, "norm": norm, "init": init})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"'{spec.name}' has no twin to compare with: {reason}") from None


def _with_shortcuts(spec: NetSpec, *, residual: bool) -> tuple[tuple[Block, ...], ...]:
    width = spec.stem.width
    stages = []
    for stage in spec.stages:
        blocks = []
        for block in stage:
            same = block.width == width and block.stride == 1
            shortcut = (Identity() if same else ZeroPad()) if residual else NoShortcut()
            changes = {"shortcut": shortcut, "drop_path": 0.0, "preactivated_shortcut": False}
            blocks.append(block.model_copy(update=changes))
            width = block.width
        stages.append(tuple(blocks))
    return tuple(stages)
