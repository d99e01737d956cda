"""How much each block adds to what its shortcut carries: which blocks a network has switched off by itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reslab.probes.result import Floats, Result, as_floats
from reslab.probes.seam import Passed, Sample, computing, opened, residual_blocks, watched

QUANTILES = (0.1, 0.5, 0.9)
"""Over the images: the band and the middle of a figure."""


@dataclass(frozen=True)
class Shares(Result):
    """Per block: medians over the images, and between which a tenth from either end lies."""

    block: tuple[str, ...]
    ratio: Floats
    """|F(x)| / |x|, x being what the shortcut brings to the addition"""
    ratio_low: Floats
    ratio_high: Floats
    cosine: Floats
    """of F(x) with x, -1 to 1: a branch below zero takes away from what it is added to"""
    distance: Floats
    """|y - x| / |x| from the block's input to its output; NaN where it changes the shape"""
    n_images: int

    def switched_off(self, below: float = 0.05) -> tuple[str, ...]:
        """The blocks whose branch adds less than this share of x to half of the images or more."""
        return tuple(name for name, ratio in zip(self.block, self.ratio, strict=True) if ratio < below)


def _measured(passed: Passed) -> dict[str, Tensor]:
    """Measures each image (N,), in fp32."""
    assert passed.branch is not None
    assert passed.shortcut is not None
    branch, shortcut = passed.branch.float().flatten(1), passed.shortcut.float().flatten(1)
    before, after = passed.input.float(), passed.output.float()
    tiny = torch.finfo(torch.float32).tiny
    size = shortcut.norm(dim=1).clamp_min(tiny)
    ratio = branch.norm(dim=1) / size
    cosine = (branch * shortcut).sum(1) / (size * branch.norm(dim=1).clamp_min(tiny))
    distance = torch.full_like(ratio, torch.nan)
    if before.shape == after.shape:
        x = before.flatten(1)
        distance = (after.flatten(1) - x).norm(dim=1) / x.norm(dim=1).clamp_min(tiny)
    return {"ratio": ratio, "cosine": cosine, "distance": distance}


@torch.no_grad()
def residual_share(net: nn.Module, sample: Sample) -> Shares:
    """The share of each block's branch in the sum: |F(x)| / |x|, the cosine of F(x) with x, the distance to identity.

    Norms are Euclidean, of all numbers of one image; each image counts alike. A block that adds little is nearly an
    identity, which is what residual learning makes easy to learn (He et al. 2015, section 3.1); Greff, Srivastava
    and Schmidhuber 2016 (arXiv 1612.07771) read it as the refinement of an estimate.
    """
    names = tuple(residual_blocks(net, "the residual share"))
    parts: dict[str, list[dict[str, Tensor]]] = {name: [] for name in names}
    with opened(net), watched(net) as seen:  # type: ignore[arg-type]
        for x, _ in sample:
            with computing(sample):
                net(x)
            for name in names:
                parts[name].append({key: value.cpu() for key, value in _measured(seen[name]).items()})

    def over_images(key: str, q: float) -> Floats:
        per_block: list[Any] = [torch.cat([part[key] for part in parts[name]]).double().numpy() for name in names]
        return as_floats([np.quantile(values, q) for values in per_block])

    low, middle, high = QUANTILES
    return Shares(
        block=names,
        ratio=over_images("ratio", middle),
        ratio_low=over_images("ratio", low),
        ratio_high=over_images("ratio", high),
        cosine=over_images("cosine", middle),
        distance=over_images("distance", middle),
        n_images=len(sample),
    )
