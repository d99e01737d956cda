"""The module trees of well-known repositories, rewritten: the same names, shapes and order of operations.

Sizes are parameters here, so that tests are quick; the defaults are the repositories'.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv3x3(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, 1, bias=False)


# --- akamaster/pytorch_resnet_cifar10 ------------------------------------------------------------------------------


class LambdaLayer(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class AkamasterBlock(nn.Module):
    def __init__(self, before: int, planes: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = conv3x3(before, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or before != planes:
            quarter = planes // 4
            if option == "A":
                self.shortcut = LambdaLayer(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter)))
            else:
                self.shortcut = nn.Sequential(nn.Conv2d(before, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut: Tensor = self.shortcut(x)
        return F.relu(out + shortcut)


class Akamaster(nn.Module):
    def __init__(self, blocks: int = 3, option: str = "A") -> None:
        super().__init__()
        self.conv1 = conv3x3(3, 16)
        self.bn1 = nn.BatchNorm2d(16)
        before = 16
        for stage, planes in enumerate((16, 32, 64), 1):
            layers = []
            for stride in [1 if stage == 1 else 2] + [1] * (blocks - 1):
                layers.append(AkamasterBlock(before, planes, stride, option))
                before = planes
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            out = getattr(self, f"layer{stage}")(out)
        out = F.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))  # type: ignore[no-any-return]


# --- kuangliu/pytorch-cifar ----------------------------------------------------------------------------------------


class KuangliuBasic(nn.Module):
    expansion = 1

    def __init__(self, before: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(before, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(before, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = out + self.shortcut(x)
        return F.relu(out)


class KuangliuBottleneck(nn.Module):
    expansion = 4

    def __init__(self, before: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != 4 * planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out = out + self.shortcut(x)
        return F.relu(out)


class KuangliuPreActBlock(nn.Module):
    expansion = 1

    def __init__(self, before: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = conv3x3(before, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes)
        if stride != 1 or before != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(before, planes, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv1(out)
        out = self.conv2(F.relu(self.bn2(out)))
        return out + shortcut  # type: ignore[no-any-return]


class Kuangliu(nn.Module):
    """``ResNet18`` and the like; with `KuangliuPreActBlock`, ``PreActResNet18``, which has no BN in its stem."""

    def __init__(
        self, block: Any = KuangliuBasic, blocks: Sequence[int] = (2, 2, 2, 2), width: int = 64, classes: int = 10
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, width)
        self.pre = block is KuangliuPreActBlock
        if not self.pre:
            self.bn1 = nn.BatchNorm2d(width)
        before = width
        for stage, count in enumerate(blocks):
            layers = []
            for stride in [1 if stage == 0 else 2] + [1] * (count - 1):
                layers.append(block(before, width * 2**stage, stride))
                before = width * 2**stage * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.linear = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x) if self.pre else F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            out = getattr(self, f"layer{stage + 1}")(out)
        out = F.avg_pool2d(out, 4)
        return self.linear(out.view(out.size(0), -1))  # type: ignore[no-any-return]


# --- weiaicunzai/pytorch-cifar100 ----------------------------------------------------------------------------------


class WeiaicunzaiBlock(nn.Module):
    def __init__(self, before: int, planes: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        after = 4 * planes if bottleneck else planes
        if bottleneck:
            self.residual_function = nn.Sequential(
                nn.Conv2d(before, planes, 1, bias=False),
                nn.BatchNorm2d(planes),
                nn.ReLU(inplace=True),
                nn.Conv2d(planes, planes, 3, stride, 1, bias=False),
                nn.BatchNorm2d(planes),
                nn.ReLU(inplace=True),
                nn.Conv2d(planes, after, 1, bias=False),
                nn.BatchNorm2d(after),
            )
        else:
            self.residual_function = nn.Sequential(
                nn.Conv2d(before, planes, 3, stride, 1, bias=False),
                nn.BatchNorm2d(planes),
                nn.ReLU(inplace=True),
                nn.Conv2d(planes, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
            )
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual_function(x) + self.shortcut(x))


class Weiaicunzai(nn.Module):
    def __init__(
        self, blocks: Sequence[int] = (2, 2, 2, 2), bottleneck: bool = False, width: int = 64, classes: int = 100
    ) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv3x3(3, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        before = width
        for stage, count in enumerate(blocks):
            layers = []
            for stride in [1 if stage == 0 else 2] + [1] * (count - 1):
                layers.append(WeiaicunzaiBlock(before, width * 2**stage, stride, bottleneck))
                before = width * 2**stage * (4 if bottleneck else 1)
            setattr(self, f"conv{stage + 2}_x", nn.Sequential(*layers))
        self.stages = len(blocks)
        self.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        for stage in range(self.stages):
            out = getattr(self, f"conv{stage + 2}_x")(out)
        return self.fc(self.avg_pool(out).flatten(1))  # type: ignore[no-any-return]


# --- xternalz/WideResNet-pytorch -----------------------------------------------------------------------------------


class XternalzBlock(nn.Module):
    def __init__(self, before: int, planes: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(before, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(planes, planes)
        self.droprate = dropout
        self.equalInOut = before == planes
        self.convShortcut: nn.Module | None = None
        if not self.equalInOut:
            self.convShortcut = nn.Conv2d(before, planes, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.equalInOut:
            x = self.relu1(self.bn1(x))
            out = x
        else:
            out = self.relu1(self.bn1(x))
        out = self.conv1(out)
        if self.droprate > 0:
            out = F.dropout(out, p=self.droprate, training=self.training)
        out = self.conv2(self.relu2(self.bn2(out)))
        return torch.add(x if self.convShortcut is None else self.convShortcut(x), out)


class XternalzGroup(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layer = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class Xternalz(nn.Module):
    def __init__(self, depth: int = 28, factor: int = 10, dropout: float = 0.3, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = conv3x3(3, 16)
        before = 16
        for stage in range(3):
            layers = []
            for stride in [1 if stage == 0 else 2] + [1] * ((depth - 4) // 6 - 1):
                layers.append(XternalzBlock(before, 16 * 2**stage * factor, stride, dropout))
                before = 16 * 2**stage * factor
            setattr(self, f"block{stage + 1}", XternalzGroup(layers))
        self.bn1 = nn.BatchNorm2d(before)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        for stage in (1, 2, 3):
            out = getattr(self, f"block{stage}")(out)
        out = F.avg_pool2d(self.relu(self.bn1(out)), 8)
        return self.fc(out.flatten(1))  # type: ignore[no-any-return]


# --- transformers' ResNetForImageClassification --------------------------------------------------------------------


class TransformersConv(nn.Module):
    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.normalization = nn.BatchNorm2d(after)
        self.activation = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.normalization(self.convolution(x)))  # type: ignore[no-any-return]


class TransformersBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int, bottleneck: bool, in_bottleneck: bool) -> None:
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride != 1:
            self.shortcut = TransformersConv(before, after, 1, stride, relu=False)
        if bottleneck:
            inner = after // 4
            self.layer = nn.Sequential(
                TransformersConv(before, inner, 1, stride if in_bottleneck else 1),
                TransformersConv(inner, inner, 3, 1 if in_bottleneck else stride),
                TransformersConv(inner, after, 1, relu=False),
            )
        else:
            self.layer = nn.Sequential(
                TransformersConv(before, after, 3, stride), TransformersConv(after, after, 3, relu=False)
            )
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer(x) + self.shortcut(x))  # type: ignore[no-any-return]


class _Embeddings(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedder = TransformersConv(3, width, 7, 2)
        self.pooler = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pooler(self.embedder(x))  # type: ignore[no-any-return]


class _Stage(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)


class _Encoder(nn.Module):
    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)


class _Backbone(nn.Module):
    def __init__(self, width: int, encoder: _Encoder) -> None:
        super().__init__()
        self.embedder = _Embeddings(width)
        self.encoder = encoder


class Transformers(nn.Module):
    def __init__(
        self,
        depths: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (256, 512, 1024, 2048),
        *,
        stem: int = 64,
        bottleneck: bool = True,
        in_bottleneck: bool = False,
        in_first_stage: bool = False,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        before, stages = stem, []
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            layers = []
            for stride in [2 if stage or in_first_stage else 1] + [1] * (depth - 1):
                layers.append(TransformersBlock(before, width, stride, bottleneck, in_bottleneck))
                before = width
            stages.append(_Stage(layers))
        self.resnet = _Backbone(stem, _Encoder(stages))
        self.pooler = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(before, classes))

    def forward(self, x: Tensor) -> Tensor:
        out = self.resnet.embedder(x)
        for stage in self.resnet.encoder.stages:
            assert isinstance(stage, _Stage)
            out = stage.layers(out)
        return self.classifier(self.pooler(out))  # type: ignore[no-any-return]
