"""Builds a `torch.nn.Module` from a specification."""

import logging
from collections.abc import Collection, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.errors import InputError
from reslab.nets.blocks import Block
from reslab.nets.catalog import resolve, resolve_any
from reslab.nets.checkpointing import Stage, segment_length
from reslab.nets.init import Undrawn, initialise
from reslab.nets.layers import (
    ACTIVATIONS,
    BatchNorm2d,
    Conv2d,
    GlobalAveragePool,
    GlobalMaxPool,
    MaxPool2d,
    Pad,
    make_norm,
    norm_add_act,
)
from reslab.nets.spec import AnyNet, ConvStem, DenseStem, NetSpec, WhiteningStem, stem_size

_log = logging.getLogger("reslab")
SMALL = 48
"""Pixels a side up to which ImageNet's stem, which divides the size by four, throws most of an image away."""


class Network(nn.Module):
    """The network of a specification; parameters are named as in torchvision's ResNet."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self._build_stem(spec)
        width = spec.stem.width
        self.stage_names = tuple(f"layer{i}" for i in range(1, len(spec.stages) + 1))
        for name, stage in zip(self.stage_names, spec.stages, strict=True):
            blocks = []
            for block in stage:
                blocks.append(Block(width, block, spec))
                width = block.width
            setattr(self, name, Stage(*blocks))
        if spec.final != "none":
            dense = isinstance(spec.stem, DenseStem)
            self.bn_last = make_norm(width, spec, dense=dense) if spec.final == "norm-activation" else nn.Identity()
            self.relu_last = ACTIVATIONS[spec.activation]()
        self.avgpool = GlobalAveragePool() if spec.pool == "average" else GlobalMaxPool()
        self.dropout = nn.Dropout(spec.dropout) if spec.dropout else nn.Identity()
        self.fc = nn.Linear(width, spec.num_classes)

    def __repr__(self) -> str:
        """A line for each stage; the modules one by one are `torch.nn.Module.__repr__(net)`."""
        return f"Network {self.spec.outline()}"

    def _build_stem(self, spec: NetSpec) -> None:
        stem, bias = spec.stem, spec.norm is None
        if isinstance(stem, DenseStem):
            self.linear1 = nn.Linear(spec.in_channels, stem.width, bias=bias)
        elif isinstance(stem, WhiteningStem):
            whitening = nn.Conv2d(spec.in_channels, stem.width, stem.kernel, stem.stride, stem.padding)
            whitening.weight.requires_grad = False
            self.conv1: nn.Module = whitening
            self.relu = ACTIVATIONS[spec.activation]()
            return
        else:
            widths = (*stem.before, stem.width)
            layers: list[nn.Module] = []
            channels = spec.in_channels
            for i, width in enumerate(widths):
                stride = stem.stride if i == 0 else 1
                layers.append(Conv2d(channels, width, stem.kernel, stride, stem.kernel // 2, bias=bias))
                if i < len(widths) - 1:
                    layers += [make_norm(width, spec), ACTIVATIONS[spec.activation]()]
                channels = width
            # One convolution is `conv1`, as in torchvision; several are `conv1.0, conv1.1, ...`, as in timm.
            self.conv1 = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
            self.input_dropout = nn.Dropout(stem.dropout) if stem.dropout else nn.Identity()
        if stem.norm:
            self.bn1 = make_norm(stem.width, spec, dense=isinstance(stem, DenseStem))
            self.relu = ACTIVATIONS[spec.activation]()
        if isinstance(stem, ConvStem) and stem.pool:
            self.maxpool = MaxPool2d(3, 2, 1)

    def _stem(self, x: Tensor) -> Tensor:
        stem = self.spec.stem
        if isinstance(stem, WhiteningStem):
            return self.relu(self.conv1(x))  # type: ignore[no-any-return]
        y = self.linear1(x.flatten(1)) if isinstance(stem, DenseStem) else self.conv1(self.input_dropout(x))
        if stem.norm:
            y = norm_add_act(self.bn1, y, add=None, shortcut=None, act=self.relu)
        return self.maxpool(y) if isinstance(stem, ConvStem) and stem.pool else y  # type: ignore[no-any-return]

    @property
    def has_head(self) -> bool:
        """Whether its outputs are logits; of a backbone without a head they are its features."""
        return isinstance(self.fc, nn.Linear)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages, in the order of the signal."""
        return tuple(getattr(self, name) for name in self.stage_names)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in the order of the signal."""
        return tuple(block for stage in self.stages for block in stage if isinstance(block, Block))

    @property
    def named_blocks(self) -> dict[str, Block]:
        """All blocks by name, ``layer1.0`` and so on, in the order of the signal."""
        return dict(zip(self.spec.named_blocks, self.blocks, strict=True))

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """All stages by name: stem, layer1, ... (N, C, H, W), pool (N, C) and logits (N, classes).

        ``stem`` is what enters the first block: behind the max pool where there is one. Behind the last
        stage a pre-activation network has its final BN and activation, which ``pool`` averages.
        """
        y = self.enter(x)
        out = {"stem": y}
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            y = out[name] = stage(y)
        out["pool"], out["logits"] = self.leave(y)
        return out

    def enter(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> what enters the first block."""
        return self._stem(x)

    def leave(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the last block -> input of the last layer (N, C), and logits (N, classes)."""
        return self.classify(self._finished(y))

    def classify(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Output of `feature_map` -> input of the last layer (N, C), and logits (N, classes)."""
        pooled = self.avgpool(maps)
        return pooled, self._scaled(self.fc(self.dropout(pooled)))

    def _finished(self, y: Tensor) -> Tensor:
        """Output of the last block -> input of the global pooling: in some orders after BN and activation."""
        if self.spec.final == "none":
            return y
        return norm_add_act(self.bn_last, y, add=None, shortcut=None, act=self.relu_last)

    def _scaled(self, logits: Tensor) -> Tensor:
        return logits if self.spec.logit_scale == 1 else logits * self.spec.logit_scale

    def stage_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The output of each stage (N, C, H, W), finest first; the last is the input of the global pooling."""
        y, maps = self.enter(x), []
        for stage in self.stages:
            y = stage(y)
            maps.append(y)
        return (*maps[:-1], self._finished(y))

    def feature_map(self, x: Tensor) -> Tensor:
        """The input of the global pooling: images (N, C, H, W) of any size -> (N, width, H', W')."""
        return self.stage_maps(x)[-1]

    def dense_logits(self, maps: Tensor, window: tuple[int, int]) -> Tensor:
        """The head at each position: pooling over windows with stride 1, then the last layer as a 1x1 convolution.

        The fully convolutional form of He 2015, section 3.4 (after Sermanet 2013, arXiv 1312.6229, section 3.5). With a
        window of the whole map it is `forward`.

        Args:
            maps: what `feature_map` gives, (N, width, H, W).
            window: height and width that are pooled at a time, in positions; a smaller map is pooled as a whole.

        Returns:
            Logits (N, classes, H - height + 1, W - width + 1).
        """
        size = (min(window[0], maps.shape[2]), min(window[1], maps.shape[3]))
        pool = F.avg_pool2d if self.spec.pool == "average" else F.max_pool2d
        pooled = maps if size == (1, 1) else pool(maps, size, 1)
        return self._scaled(F.conv2d(self.dropout(pooled), self.fc.weight[:, :, None, None], self.fc.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        return self.features(x)["logits"]

    def fuse(self, on: bool = True) -> Self:
        """Switches fused execution on or off. The modules and their parameters stay what they are."""
        for module in self.modules():
            if isinstance(module, BatchNorm2d | Conv2d | MaxPool2d | Pad):
                module.fused = on
        return self

    @torch.no_grad()
    def whiten(self, images: Tensor) -> Self:
        """Sets the filters of a `WhiteningStem` from images (N, C, H, W) as the network takes them; else does nothing.

        Filter i is e_i / sqrt(lambda_i + 5e-4) with the eigenvectors and eigenvalues of the covariance of the patches,
        largest first (Jordan 2024, arXiv 2404.00498, section 3.2); the second half of the filters is the negative.
        """
        stem = self.spec.stem
        if isinstance(stem, WhiteningStem):
            assert isinstance(self.conv1, nn.Conv2d)
            total, count = torch.zeros(self.conv1.weight[0].numel(), self.conv1.weight[0].numel()).double(), 0
            for part in images.split(500):
                patches = F.unfold(part.float(), stem.kernel, padding=stem.padding, stride=stem.stride)  # (N, C k k, L)
                flat = patches.transpose(0, 1).flatten(1)
                total += (flat @ flat.T).double().to(total.device)
                count += flat.shape[1]
            variances, components = torch.linalg.eigh(total / count)
            chosen = components.flip(1)[:, : stem.width // 2] / (variances.flip(0)[: stem.width // 2] + 5e-4).sqrt()
            filters = chosen.T.reshape(-1, *self.conv1.weight.shape[1:])
            self.conv1.weight.copy_(torch.cat([filters, -filters]))
        return self

    def checkpoint_activations(self, on: bool | Collection[int] = True) -> Self:
        """Keeps few activations for the backward pass and computes the others again: less memory, more time.

        Args:
            on: of all stages or of none; or of these stages, counted from 1.
        """
        for number, stage in enumerate(self.stages, 1):
            checkpointed = on if isinstance(on, bool) else number in on
            stage.segment = segment_length(len(stage)) if checkpointed else None
            for module in stage.modules():
                if isinstance(module, Conv2d):
                    # With our own kernel on several threads the C library's heap keeps what checkpointing frees:
                    # ResNet-1202 then takes as much as with everything kept (docs/log.md).
                    module.direct = not checkpointed
        return self

    def group_norm_statistics(self, images: int | None) -> Self:
        """Sets how many images BN takes its statistics over while training; None is the whole batch."""
        for module in self.modules():
            if isinstance(module, BatchNorm2d):
                module.group = images
        return self


def check_size(spec: NetSpec, size: tuple[int, int]) -> None:
    """Raises `InputError` for images (height, width) that a network would shrink to less than a pixel."""
    smallest = 2 ** sum(block.stride > 1 for block in spec.blocks)
    if min(size) < smallest:
        raise InputError(
            f"network '{spec.name}' halves its input {smallest.bit_length() - 1} times, so images need at least "
            f"{smallest} pixels a side, got {size[0]}x{size[1]}"
        )


def build(net: str | NetSpec, *, seed: int = 0, **overrides: Any) -> Network:
    """Builds a network and draws its weights.

    Args:
        net: a name of the catalogue (``"resnet20"``), ``"cifar_resnet(depth=38)"``, or a specification.
        seed: of the initial weights; the same seed gives plain and residual twins the same weights.
        overrides: fields of the network: ``num_classes=100``, ``in_channels=1``, ``shortcut="B"``, ...

    Raises:
        InputError: the name is unknown, or the combination cannot be built.
    """
    return _made(resolve(net, **overrides), seed, {})


def _made(spec: NetSpec, seed: int, weights: Mapping[str, Tensor]) -> Network:
    check_size(spec, spec.size)
    if isinstance(spec.stem, ConvStem) and spec.stem.pool and min(spec.size) <= SMALL:
        _log.warning(
            "'%s' has a stem for ImageNet, which reduces %dx%d pixels to %dx%d; for small images use resnet20 or "
            "another network of the CIFAR family",
            spec.name, *spec.size, *stem_size(spec.size, spec.stem),
        )  # fmt: skip
    with Undrawn():
        network = Network(spec)
    initialise(network, spec, seed, held=weights)
    network.load_state_dict(weights, strict=False)
    return network


def build_any(net: str | AnyNet, *, seed: int = 0, **overrides: Any) -> nn.Module:
    """Like `build`, but also builds networks of other libraries (``vgg16``, ``timm:NAME``) as their modules."""
    return with_weights(resolve_any(net, **overrides), {}, seed=seed)


def with_weights(spec: AnyNet, weights: Mapping[str, Tensor], *, seed: int = 0) -> nn.Module:
    """Builds a network with these weights, by parameter names; only those that are missing are drawn from ``seed``."""
    if isinstance(spec, NetSpec):
        return _made(spec, seed, weights)
    from reslab.nets.reference import build_reference

    module = build_reference(spec, seed=seed)
    module.load_state_dict(weights, strict=False)
    return module
