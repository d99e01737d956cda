"""What a network costs, against figures from the paper, the module itself and PyTorch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reslab.nets.catalog import resolve
from reslab.nets.cifar import cifar_plain, cifar_resnet
from reslab.nets.cost import cost
from reslab.nets.network import Network
from reslab.nets.spec import Block, ConvStem, NetSpec, NoShortcut, Projection, ZeroPad


def on_meta(spec: NetSpec) -> Network:
    """The module without storage, so that large networks cost nothing."""
    with torch.device("meta"):
        return Network(spec)


def counted_macs(spec: NetSpec, size: tuple[int, int]) -> int:
    net = on_meta(spec).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.empty(1, spec.in_channels, *size, device="meta"))
    flops = int(counter.get_total_flops())
    assert flops % 2 == 0
    return flops // 2


def test_option_b_adds_two_projections() -> None:
    """1x1 from 16 to 32 and from 32 to 64 channels, with BN: 576 and 2,176 parameters."""
    assert cost(resolve("resnet20(shortcut='B')")).params == 269_722 + (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


def test_multiply_adds_are_pinned() -> None:
    """ResNet-20 has 41 million (0.44 M in the stem, 14.2 M, 13.0 M and 13.0 M in the stages, 640 in the head)."""
    parts = {part.name: part.macs for part in cost(resolve("resnet20")).parts}
    assert parts == {
        "stem": 442_368,
        "layer1": 6 * 2_359_296,
        "layer2": 1_179_648 + 5 * 2_359_296,
        "layer3": 1_179_648 + 5 * 2_359_296,
        "head": 640,
    }
    assert cost(resolve("resnet20")).flops == 2 * cost(resolve("resnet20")).macs


SPECS = [
    cifar_resnet(8),
    cifar_plain(14, num_classes=3),
    cifar_resnet(8, shortcut="B", width=(3, 5, 11), in_channels=1),
    cifar_resnet(14, shortcut="C", width=4, num_classes=100),
    NetSpec(
        name="odd",
        in_channels=2,
        stem=ConvStem(width=6, kernel=7, stride=2),
        stages=(
            (Block(width=9, stride=3, shortcut=Projection()), Block(width=9, shortcut=NoShortcut())),
            (Block(width=10, stride=2, shortcut=ZeroPad()),),
        ),
    ),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("size", [(32, 32), (33, 17), (9, 14), (5, 5)])
def test_against_the_module_and_the_counter(spec: NetSpec, size: tuple[int, int]) -> None:
    counted = cost(spec, size)
    net = on_meta(spec)
    assert counted.macs == counted_macs(spec, size)
    assert counted.params == sum(p.numel() for p in net.parameters())
    shapes = net.features(torch.empty(2, spec.in_channels, *size, device="meta"))
    for part in counted.parts[:-1]:
        assert shapes[part.name].shape == (2, part.out_channels, *part.out_size)
        module = [net.conv1, net.bn1] if part.name == "stem" else [getattr(net, part.name)]
        assert part.params == sum(p.numel() for m in module for p in m.parameters())
    assert sum(part.layers for part in counted.parts) == spec.depth


def test_the_size_is_the_specifications_own_by_default() -> None:
    spec = cifar_resnet(8, size=(12, 20))
    assert cost(spec) == cost(spec, (12, 20)) != cost(spec, (32, 32))
