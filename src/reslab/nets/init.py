"""He initialisation (He et al. 2015, arXiv 1502.01852), each weight drawn from its own stream.

The stream of a weight depends on the seed and on the weight's name alone. So a plain network and its
residual twin start from the same weights, and a layer does not change because another was added.
"""

import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from reslab.errors import InputError
from reslab.nets.blocks import Block
from reslab.nets.layers import Gate
from reslab.nets.spec import NetSpec


def _scrambled(seed: int) -> int:
    """A bijection of 32-bit integers with good avalanche ("lowbias32", Wellons 2018); 0 stays 0."""
    x = seed
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def _stream(seed: int, name: str) -> torch.Generator:
    # PyTorch's generator for the CPU reads the low 32 bits of its seed and ignores the others.
    return torch.Generator().manual_seed(_scrambled(seed) ^ zlib.crc32(name.encode()))


class Undrawn(TorchFunctionMode):
    """New layers keep what their memory holds, without PyTorch's random numbers, which `initialise` would replace."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if func in (nn.init.kaiming_uniform_, nn.init.uniform_):
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


@torch.no_grad()
def initialise(net: nn.Module, spec: NetSpec, seed: int, *, held: Collection[str] = ()) -> None:
    """Draws all weights: He normal for convolutions and the last layer, BN at scale 1 and shift 0, biases at 0.

    The convolutions and linear layers named in ``held`` (``"fc.weight"``) are not drawn: stored weights replace them.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"the seed of the initial weights is a whole number from 0 to 2**32 - 1, got {seed}")
    gain = 2.0  # of the ReLU: half of the signal passes
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if module.bias is not None:
                module.bias.zero_()
            if f"{name}.weight" in held:
                continue
            weight = module.weight
            receptive = weight[0][0].numel() if weight.dim() > 2 else 1
            groups = module.groups if isinstance(module, nn.Conv2d) else 1
            fan = receptive * (weight.shape[1] if spec.init.fan == "in" else weight.shape[0] // groups)
            drawn = torch.empty(weight.shape).normal_(
                0.0, (gain / fan) ** 0.5, generator=_stream(seed, f"{name}.weight")
            )
            weight.copy_(drawn)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()
    for module in net.modules():
        if isinstance(module, Gate):
            assert module.conv.bias is not None
            module.conv.bias.fill_(module.initial_bias)
        if isinstance(module, Block) and module.has_shortcut and spec.init.zero_gamma:
            last = module.last_norm if module.last_norm is not None else module.last_layer
            for name, parameter in last.named_parameters(recurse=False):
                if name == "weight" or module.last_norm is None:
                    parameter.zero_()
