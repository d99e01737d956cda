"""How far the gates of a Highway network are open (Srivastava, Greff, Schmidhuber 2015, arXiv 1507.06228, Fig. 2)."""

from dataclasses import dataclass

import torch
from torch import nn

from reslab.errors import InputError
from reslab.probes.result import Floats, Result, as_floats
from reslab.probes.seam import Sample, computing, opened, outputs_of, own


@dataclass(frozen=True)
class Gates(Result):
    """The gate g of each gated block: 1 lets the branch pass, 0 the input."""

    block: tuple[str, ...]
    bias: Floats
    """mean of the gate's biases"""
    mean: Floats
    """of g over images, channels and positions"""
    across: Floats
    """standard deviation over the images of an image's own mean: how much the routing depends on the input"""
    open: Floats
    """share of the numbers above 0.9"""
    shut: Floats
    """share of the numbers below 0.1"""
    n_images: int


@torch.no_grad()
def gates(net: nn.Module, sample: Sample) -> Gates:
    """The openness of every gate, g = sigmoid(W x + b), over the images."""
    net = own(net, "the probe of gates")
    gated = {name: block.gate for name, block in net.named_blocks.items() if block.gate is not None}
    if not gated:
        raise InputError(f"the probe of gates needs gated blocks, and '{net.spec.name}' has none; highway19 has")
    means: dict[str, list[torch.Tensor]] = {name: [] for name in gated}
    beyond = {name: [0.0, 0.0] for name in gated}
    with opened(net), outputs_of(dict(gated)) as seen:
        for x, _ in sample:
            with computing(sample):
                net(x)
            for name, opening in seen.items():
                values = opening.float().flatten(1)
                means[name].append(values.mean(1).double().cpu())
                beyond[name][0] += float((values > 0.9).double().mean(1).sum())
                beyond[name][1] += float((values < 0.1).double().mean(1).sum())
    by_image = {name: torch.cat(parts) for name, parts in means.items()}
    biases = []
    for gate in gated.values():
        assert gate.conv.bias is not None
        biases.append(float(gate.conv.bias.mean()))
    return Gates(
        block=tuple(gated),
        bias=as_floats(biases),
        mean=as_floats([float(values.mean()) for values in by_image.values()]),
        across=as_floats([float(values.std(correction=0)) for values in by_image.values()]),
        open=as_floats([beyond[name][0] / len(sample) for name in gated]),
        shut=as_floats([beyond[name][1] / len(sample) for name in gated]),
        n_images=len(sample),
    )
