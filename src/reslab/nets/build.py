"""From a specification to a `torch.nn.Module`."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets.blocks import ACTIVATIONS, BatchNorm2d, Block, norm_add_act
from reslab.nets.catalog import resolve
from reslab.nets.init import initialise
from reslab.nets.spec import NetSpec


class Network(nn.Module):
    """The network of a specification; parameters are named as in torchvision's ResNet."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        stem = spec.stem
        self.conv1 = nn.Conv2d(spec.in_channels, stem.width, stem.kernel, stem.stride, stem.kernel // 2, bias=False)
        self.bn1 = BatchNorm2d(stem.width, eps=spec.norm.eps, momentum=spec.norm.momentum)
        self.relu = ACTIVATIONS[spec.activation]()
        width = stem.width
        self.stage_names = tuple(f"layer{i}" for i in range(1, len(spec.stages) + 1))
        for name, stage in zip(self.stage_names, spec.stages, strict=True):
            blocks = []
            for block in stage:
                blocks.append(Block(width, block, spec))
                width = block.width
            setattr(self, name, nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, spec.num_classes)

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The stages, in the order of the signal."""
        return tuple(getattr(self, name) for name in self.stage_names)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in the order of the signal."""
        return tuple(block for stage in self.stages for block in stage if isinstance(block, Block))

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """All stages by name: stem, layer1, ... (N, C, H, W), pool (N, C) and logits (N, classes)."""
        out = {"stem": norm_add_act(self.bn1, self.conv1(x), add=None, shortcut=None, act=self.relu)}
        y = out["stem"]
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            y = out[name] = stage(y)
        out["pool"] = torch.flatten(self.avgpool(y), 1)
        out["logits"] = self.fc(out["pool"])
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        return self.features(x)["logits"]

    def fuse(self, on: bool = True) -> Self:
        """Switches fused execution on or off. The modules and their parameters stay what they are."""
        for module in self.modules():
            if isinstance(module, BatchNorm2d):
                module.fused = on
        return self

    def group_norm_statistics(self, images: int | None) -> Self:
        """Sets how many images BN takes its statistics over while training; None is the whole batch."""
        for module in self.modules():
            if isinstance(module, BatchNorm2d):
                module.group = images
        return self


def build(net: str | NetSpec, *, seed: int = 0, **overrides: Any) -> Network:
    """Builds a network and draws its weights.

    Args:
        net: a name of the catalogue (``"resnet20"``), ``"cifar_resnet(depth=38)"``, or a specification.
        seed: of the initial weights; the same seed gives plain and residual twins the same weights.
        overrides: fields of the network: ``num_classes=100``, ``in_channels=1``, ``shortcut="B"``, ...

    Raises:
        InputError: the name is unknown, or the combination cannot be built.
    """
    spec = resolve(net, **overrides)
    smallest = 2 ** sum(block.stride > 1 for block in spec.blocks)
    if min(spec.size) < smallest:
        raise InputError(
            f"network '{spec.name}' halves its input {smallest.bit_length() - 1} times, so images need at least "
            f"{smallest} pixels a side, got {spec.size[0]}x{spec.size[1]}"
        )
    network = Network(spec)
    initialise(network, spec, seed)
    return network
