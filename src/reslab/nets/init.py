"""He initialisation (He et al. 2015, arXiv 1502.01852), each weight drawn from its own stream.

The stream of a weight depends on the seed and on the weight's name alone. So a plain network and its
residual twin start from the same weights, and a layer does not change because another was added.
"""

import zlib

import torch
from torch import nn

from reslab.nets.blocks import Block
from reslab.nets.spec import NetSpec


def _stream(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed((seed << 32) ^ zlib.crc32(name.encode()))


@torch.no_grad()
def initialise(net: nn.Module, spec: NetSpec, seed: int) -> None:
    """Draws all weights: He normal for convolutions and the last layer, BN at scale 1 and shift 0, biases at 0."""
    gain = 2.0  # of the ReLU: half of the signal passes
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight
            receptive = weight[0][0].numel() if weight.dim() > 2 else 1
            fan = weight.shape[1 if spec.init.fan == "in" else 0] * receptive
            drawn = torch.empty(weight.shape).normal_(
                0.0, (gain / fan) ** 0.5, generator=_stream(seed, f"{name}.weight")
            )
            weight.copy_(drawn)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    if spec.init.zero_gamma:
        for module in net.modules():
            if isinstance(module, Block) and module.has_shortcut:
                module.last_norm.weight.zero_()
