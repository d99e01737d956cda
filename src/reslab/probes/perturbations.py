"""Small changes of the input on their way through a network, and how well it bears a shifted image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.probes.result import Floats, Ints, Result, as_floats, as_ints
from reslab.probes.seam import Passed, Sample, computing, opened, own, watched


@dataclass(frozen=True)
class Amplification(Result):
    """How a small change of the image has grown at each block's input, and behind the last (``end``)."""

    block: tuple[str, ...]
    growth: Floats
    """(|change of x| / |x|) over the same of the image: below 1 it dies out, above 1 it is amplified; a median"""
    low: Floats
    """a tenth of the images is at or below it"""
    high: Floats
    size: float
    """|change| / |image|"""
    n_images: int


@torch.no_grad()
def amplification(net: nn.Module, sample: Sample, *, size: float = 1e-3, seed: int = 0) -> Amplification:
    """The growth of a small random change of the image with depth.

    The change is drawn from a normal distribution and scaled to ``size`` times the norm of each image; at depth l its
    growth is (|x_l' - x_l| / |x_l|) / size. Residual networks have been likened to differential amplifiers: what two
    inputs share passes by the shortcuts, what sets them apart is worked on by the branches.

    Args:
        net: the network.
        sample: the images.
        size: of the change, small enough to stay in the linear range and large enough for fp32.
        seed: of the drawing.
    """
    net = own(net, "the probe of perturbations")
    if not 0 < size < 1:
        raise InputError(f"a perturbation is a share of the image's norm, above 0 and below 1, got {size:g}")
    draw = torch.Generator().manual_seed(seed)
    names = (*net.named_blocks, "end")
    grown: list[list[Tensor]] = [[] for _ in names]
    with opened(net), watched(net) as seen:
        for x, _ in sample:
            noise = torch.randn(x.shape, generator=draw).to(x)
            whole = x.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
            # In fp32 whatever the sample says: the change is below bf16's resolution.
            net(x)
            still = _along(seen)
            net(x + size * noise * whole.view(-1, *[1] * (x.dim() - 1)))
            moved = _along(seen)
            for i, (before, after) in enumerate(zip(still, moved, strict=True)):
                change = (after.float() - before.float()).flatten(1).norm(dim=1)
                grown[i].append((change / before.float().flatten(1).norm(dim=1).clamp_min(1e-30) / size).cpu())
    values = [torch.cat(parts).double().numpy() for parts in grown]
    low, middle, high = (as_floats([np.quantile(part, q) for part in values]) for q in (0.1, 0.5, 0.9))
    return Amplification(names, middle, low, high, size, len(sample))


def _along(seen: dict[str, Passed]) -> list[Tensor]:
    passed = list(seen.values())
    return [*(each.input for each in passed), passed[-1].output]


@dataclass(frozen=True)
class Translation(Result):
    """The effect of shifting an image, with the border filled with the mean."""

    shift: Ints
    """pixels, to the right"""
    error: Floats
    """per cent"""
    agrees: Floats
    """share of the images whose class stays what it was, 0 to 1"""
    pooled: Floats
    """mean cosine of what leaves the global average pool with that of the image as it is"""
    unpooled: Floats
    """the same of what enters the pool, position by position: what a network without the pool would be given"""
    n_images: int


@torch.no_grad()
def translation(net: nn.Module, sample: Sample, *, shifts: Sequence[int] = (0, 1, 2, 4, 8)) -> Translation:
    """Error and representation under shifts of the image, with the global average pool and without it.

    What the pool averages does not know where it was, so that a shift by a multiple of the total stride changes it
    at the borders alone; what enters the pool moves with the image.

    Args:
        net: a network with convolutions.
        sample: the images, normalised, so that 0 is the mean.
        shifts: in pixels.
    """
    net = own(net, "the probe of translation")
    if sample.x.dim() != 4 or max(map(abs, shifts)) >= sample.x.shape[3]:
        raise InputError(f"shifts are below the images' width, got {max(map(abs, shifts))} of {sample.x.shape[-1]}")
    totals = np.zeros((len(shifts), 4))
    with opened(net):
        for x, labels in sample:
            with computing(sample):
                base = _view(net, x)
                views = [_view(net, _shifted(x, shift)) for shift in shifts]
            for i, (ends, pooled, logits) in enumerate(views):
                best = logits.argmax(1)
                totals[i] += (
                    int((best != labels).sum()),
                    int((best == base[2].argmax(1)).sum()),
                    float(F.cosine_similarity(pooled.float(), base[1].float()).sum()),
                    float(F.cosine_similarity(ends.float().flatten(1), base[0].float().flatten(1)).sum()),
                )
    error, agrees, pooled, unpooled = (totals / len(sample)).T
    return Translation(as_ints(shifts), 100 * error, agrees, pooled, unpooled, len(sample))


def _view(net: Network, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Input and output of the global pool, and the logits."""
    seen: list[Tensor] = []

    def enters(_pool: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])

    handle = net.avgpool.register_forward_pre_hook(enters)
    try:
        features = net.features(x)
    finally:
        handle.remove()
    return seen[0], features["pool"], features["logits"]


def _shifted(x: Tensor, shift: int) -> Tensor:
    """Images moved to the right by so many pixels, zeros coming in."""
    width = x.shape[3]
    return F.pad(x, (max(shift, 0), max(-shift, 0)))[:, :, :, max(-shift, 0) : max(-shift, 0) + width]
