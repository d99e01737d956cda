"""Networks as training leaves them, no deeper than their kind needs."""

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from reslab.nets import build
from reslab.nets.catalog import CATALOG, REFERENCES, resolve
from reslab.nets.network import Network, build_any
from reslab.nets.spec import NetSpec, WhiteningStem

BLOCKS = 2
"""Blocks that are left of each stage: the first, which may change the shape, and one that does not."""
WIDE = 512
"""Channels of a block from which on a network is thinned."""
LEAST = 16
"""Channels that are left at least."""


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


def thinned(name: str) -> NetSpec:
    """The same with a quarter of the channels where there are hundreds: files are written of layers of any width.

    A convolution in groups stays one: as many channels in each, and no fewer than two groups.
    """
    spec = shortened(name)
    if isinstance(spec.stem, WhiteningStem) or max(block.width for block in spec.blocks) < WIDE:
        return spec
    return NetSpec.model_validate(_quarter(spec.model_dump()))


def _quarter(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_quarter(each) for each in value)
    if not isinstance(value, dict):
        return value
    new = {key: _quarter(each) for key, each in value.items()}
    for key in {"width", "inner"} & value.keys():
        new[key] = max(LEAST, value[key] // 4)
    if "before" in value:
        new["before"] = tuple(max(LEAST, width // 4) for width in value["before"])
    if "inner" in value and value["groups"] > 1:
        new["groups"] = max(2, new["inner"] * value["groups"] // value["inner"])
    return new


def of_catalogue(name: str) -> nn.Module:
    """Any network that has a name, short."""
    return _built(name, shortened)


def thin(name: str) -> nn.Module:
    """Any network that has a name, short and thin."""
    return _built(name, thinned)


def _built(name: str, made: Callable[[str], NetSpec]) -> nn.Module:
    if name in REFERENCES:
        return trained(build_any(name, num_classes=10))
    net = build(made(name))
    assert isinstance(net, Network)
    return trained(net)


NAMES = (*CATALOG, *REFERENCES)


def images(count: int = 2, side: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def distinct() -> list[str]:
    """Of the names whose short networks differ in widths at most, one: a depth is lost in shortening.

    Of another library's families one each, which takes ten seconds; those that are left out differ in depth and width.
    """
    found = {name: name for name in ("vgg16-bn", "densenet121")}
    for name in CATALOG:
        same = shortened(name).model_dump(exclude={"name", "cite"})
        found.setdefault(json.dumps(_without_widths(same)), name)
    return list(found.values())


def _without_widths(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_without_widths(each) for each in value]
    if not isinstance(value, dict):
        return value
    new = {key: _without_widths(each) for key, each in value.items() if key not in ("width", "inner")}
    for key, kind in (("groups", lambda groups: groups > 1), ("before", len)):
        if key in value:
            new[key] = kind(value[key])
    return new
