"""The families of the papers: their arguments, and what they refuse."""

import re
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from reslab.errors import InputError
from reslab.nets.catalog import resolve
from reslab.nets.cifar import Skip, cifar_resnet
from reslab.nets.cost import cost
from reslab.nets.network import build
from reslab.nets.spec import NetSpec, Order
from reslab.train.optim import trained

SMALL = [
    *(f"cifar_resnet(depth=8, width=4, order='{order}')" for order in get_args(Order)),
    *(f"cifar_resnet(depth=14, width=4, skip='{skip}')" for skip in get_args(Skip)),
    *(f"cifar_bottleneck(depth=11, width=4, order='{order}')" for order in get_args(Order)),
    "cifar_resnet(depth=14, width=4, drop_path=0.5)",
    "cifar_wide(depth=10, factor=1, dropout=0.3)",
    "cifar_resnext(depth=11, cardinality=2, base_width=4)",
    "cifar_highway(widths=(4, 6, 8), gated=(1, 2, 1))",
    "cifar_fast(widths=(8, 16), blocks=(1, 2), convs=2)",
    "cifar_fast(widths=(8, 16, 8), stem='4x4', shortcut='none', logit_scale=1.0)",
    "imagenet_resnet(depth=18, stem='deep', downsample='pool', num_classes=10, size=(33, 33))",
    "imagenet_resnet(depth=18, order='full-preactivation', num_classes=10, size=(33, 33))",
]


@pytest.mark.parametrize("name", SMALL)
def test_it_trains_and_costs_what_it_has(name: str) -> None:
    spec = resolve(name)
    network = build(spec).train()
    learned = trained(network)
    assert sum(p.numel() for p in learned.values()) == cost(spec).params
    loss = network(torch.randn(4, 3, *spec.size)).square().sum()
    loss.backward()
    for key, parameter in learned.items():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("residual", [True, False])
def test_a_network_for_vectors(residual: bool) -> None:
    network = build(f"mlp(depth=10, width=8, residual={residual}, layers=2, in_channels=5)")
    y = network(torch.randn(6, 5))
    assert y.shape == (6, 10)
    y.sum().backward()
    assert sum(p.numel() for p in network.parameters()) == cost(network.spec).params
    assert [type(m) for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)] == [nn.Linear] * 10


def test_gates_start_by_carrying() -> None:
    """With bias b the gate starts near sigmoid(b): at -6 almost the whole shortcut passes (He 2016, section 3.1)."""
    for kind, of_branch in (("exclusive-gating", 0.0025), ("shortcut-only-gating", 1.0)):
        network = build(f"cifar_resnet(depth=8, width=4, skip='{kind}')").eval()
        block = network.blocks[0]
        assert block.gate is not None
        nn.init.zeros_(block.gate.conv.weight)
        x = torch.randn(2, 4, 8, 8)
        plain = block.bn2(block.conv2(block.relu1(block.bn1(block.conv1(x)))))  # type: ignore[operator]
        joined = block._join(x, plain, x)
        torch.testing.assert_close(joined, of_branch * plain + (1 - 0.0025) * x, rtol=0.05, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("imagenet_resnet(depth=20)", "depth 18, 34, 50, 101, 152, 200, got 20"),
        ("resnet50(shortcut='D')", "options are A, B, C"),
        ("cifar_bottleneck(depth=21)", r"9n\+2, got depth 21; try 20 or 29"),
        ("mlp(depth=9, layers=2)", r"depth 2n\+2, got 9"),
        ("cifar_resnet(depth=8, skip='nothing')", "skip is one of"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(name: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        resolve(name)


def test_groups_must_divide_the_widths() -> None:
    spec = resolve("cifar_resnext(depth=11, cardinality=2, base_width=4)").model_dump()
    spec["stages"][0][0]["branch"]["groups"] = 3
    with pytest.raises(ValidationError, match="a convolution of 3 groups cannot go from 8 to 8 channels"):
        NetSpec.model_validate(spec)


def test_stochastic_depth_grows_linearly_and_rests_in_evaluation() -> None:
    spec = cifar_resnet(20, drop_path=0.5)
    assert [round(block.drop_path, 6) for block in spec.blocks] == [round(0.5 * i / 9, 6) for i in range(1, 10)]
    network = build(spec).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(x), build(cifar_resnet(20)).eval()(x))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("widths=(8, 16)", "as many widths as numbers of blocks, got 2 and 3"),
        ("convs=0", "one or more convs and no negative blocks, got convs=0"),
        ("blocks=(1, -1, 1)", "no negative blocks"),
        ("stem='3x3'", "stem is one of 2x2, 4x4, got '3x3'"),
        ("shortcut='A'", "shortcut is identity or none, got 'A'"),
    ],
)
def test_a_fast_network_that_cannot_be(arguments: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        resolve(f"cifar_fast({arguments})")


def test_the_large_patches_halve_the_size_once() -> None:
    small, large = resolve("cifar_fast()"), resolve("cifar_fast(stem='4x4')")
    assert [block.stride for block in small.blocks] == [2, 1, 2, 1, 2, 1]
    assert [block.stride for block in large.blocks] == [1, 1, 2, 1, 2, 1]
    assert [part.out_size for part in cost(large).parts[:2]] == [(16, 16), (16, 16)]
