"""Networks whose answers are known, and a few images."""

from typing import Any

import torch
from torch import Tensor, nn

from reslab.nets import build
from reslab.nets.network import Network
from reslab.probes.seam import Sample

RESIDUAL = "cifar_resnet(depth=14, width=4)"
PREACTIVATION = "cifar_resnet(depth=20, width=4, order='full-preactivation')"
PLAIN = "cifar_plain(depth=14, width=4)"


def network(name: str = RESIDUAL, *, seed: int = 3, **given: Any) -> Network:
    """On 8x8 images, with statistics of BN that are not those of a fresh network."""
    net = build(name, size=(8, 8), seed=seed, **given).eval()
    draw = torch.Generator().manual_seed(5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=draw)
            module.running_var.uniform_(0.5, 1.5, generator=draw)
    return net


def sample(n: int = 30, *, batch: int = 13, seed: int = 0, precision: str = "fp32") -> Sample:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, 8, 8, generator=draw)
    return Sample(x, torch.arange(n) % 10, batch=batch, precision=precision)


def chain(blocks: int, weight: float, *, width: int = 6, residual: bool = True) -> Network:
    """A linear chain on vectors: x_(l+1) = x_l + w x_l, or w x_l where it is plain. No BN, no biases but zero."""
    net = build(
        f"mlp(depth={blocks + 2}, width={width}, layers=1, residual={residual})",
        in_channels=5, num_classes=3, norm=None, activation="identity", seed=1,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for block in net.blocks:
            layer = block.last_layer
            assert isinstance(layer, nn.Linear)
            layer.weight.copy_(weight * torch.eye(width))
    return net


def vectors(n: int = 40) -> Sample:
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(2))
    return Sample(x, torch.arange(n) % 3, batch=16)


@torch.no_grad()
def silence(net: Network, *names: str) -> None:
    """Sets the branches of blocks to zero by their weights: the last BN's, or the last layer's where none follows."""
    for name in names:
        block = net.named_blocks[name]
        last = block.last_norm if block.last_norm is not None else block.last_layer
        for parameter in last.parameters():
            parameter.zero_()


@torch.no_grad()
def logits(net: nn.Module, data: Sample) -> Tensor:
    return torch.cat([net(x) for x, _ in data])
