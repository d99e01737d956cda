"""Networks as training leaves them, no deeper than their kind needs."""

import torch
from torch import nn

from reslab.nets import build
from reslab.nets.catalog import CATALOG, REFERENCES, resolve
from reslab.nets.network import Network, build_any
from reslab.nets.spec import NetSpec

BLOCKS = 2
"""Blocks that are left of each stage: the first, which may change the shape, and one that does not."""


def trained(net: nn.Module) -> nn.Module:
    """With BN's scales, shifts and statistics drawn, so that none is the identity; some scales below zero."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2, generator=draw)
                module.running_var.uniform_(0.5, 1.5, generator=draw)
                module.bias.normal_(0, 0.2, generator=draw)
                if module.weight.requires_grad:
                    module.weight.uniform_(0.5, 1.5, generator=draw)
                    module.weight[:: max(2, len(module.weight) // 2)] *= -1
    return net.eval()


def shortened(name: str) -> NetSpec:
    """A network of the catalogue with two blocks a stage, for images of 32x32 pixels."""
    spec = resolve(name)
    stages = tuple(stage[:BLOCKS] for stage in spec.stages)
    return NetSpec.model_validate({**spec.model_dump(), "stages": stages, "size": (32, 32), "num_classes": 10})


def of_catalogue(name: str) -> nn.Module:
    """Any network that has a name, small."""
    if name in REFERENCES:
        return trained(build_any(name, num_classes=10))
    net = build(shortened(name))
    assert isinstance(net, Network)
    return trained(net)


NAMES = (*CATALOG, *REFERENCES)


def images(count: int = 2, side: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def distinct() -> list[str]:
    """Of the names whose short networks are the same but for their name, one: a depth is lost in shortening.

    Of another library's families one each, which takes ten seconds; those that are left out differ in depth and width.
    """
    found = {name: name for name in ("vgg16-bn", "densenet121")}
    for name in CATALOG:
        same = shortened(name).model_dump_json(exclude={"name", "cite"})
        found.setdefault(same, name)
    return list(found.values())
