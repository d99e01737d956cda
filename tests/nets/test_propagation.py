"""He 2016, sections 2 and 3.1: what identity shortcuts pass on, forward and backward, and what other shortcuts do."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.nets.network import Network, build
from reslab.nets.spec import Identity, Scale

PRE_ACTIVATED = (
    "cifar_resnet(depth=26, width=4, order='full-preactivation')",
    "cifar_resnet(depth=26, width=4, order='relu-only-preactivation')",
    "cifar_bottleneck(depth=38, width=4, order='full-preactivation')",
    "cifar_wide(depth=28, factor=1)",
)


class Stage(NamedTuple):
    """The blocks of a stage behind its first, which changes the shape or starts behind an activation."""

    signals: list[Tensor]
    """x_l before each block, and the one that leaves the last"""
    branches: list[Tensor]
    """F(x_l), with the factor of its block"""
    gradients: list[Tensor]
    """dE/dx_l of each signal, E being the network's loss"""


def trained(name: str, *, sever: bool = False) -> list[Stage]:
    """Forward and backward of a step in training, in fp64 and with a BN that is never the identity.

    ``sever``: no gradient enters the branches, so that shortcuts alone carry it.
    """
    net = build(name, size=(8, 8), seed=1).double().train()
    draw = torch.Generator().manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=draw)
            nn.init.normal_(module.bias, 0, 0.3, generator=draw)
    stages = [_watched(net, number, sever=sever) for number in range(1, len(net.stages) + 1)]
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=draw)
    loss = F.cross_entropy(net(x), torch.arange(4))
    for stage in stages:
        stage.gradients.extend(torch.autograd.grad(loss, stage.signals, retain_graph=True))
        assert all(gradient.any() for gradient in stage.gradients)
    return stages


def _watched(net: Network, number: int, *, sever: bool) -> Stage:
    stage = Stage([], [], [])

    def at_addition(_: nn.Module, terms: tuple[Tensor, Tensor]) -> Any:
        stage.branches.append(terms[0])
        return (terms[0].detach(), terms[1]) if sever else None

    followers = list(net.stages[number - 1])[1:]
    for block in followers:
        spec = net.spec.named_blocks[next(name for name, module in net.named_blocks.items() if module is block)]
        assert isinstance(spec.shortcut, Identity | Scale)
        assert not spec.preactivated_shortcut
        block.register_forward_pre_hook(lambda _, given: stage.signals.append(given[0]))
        block.get_submodule("add").register_forward_pre_hook(at_addition)
    followers[-1].register_forward_hook(lambda _, __, out: stage.signals.append(out))
    return stage


def pairs(stage: Stage) -> list[tuple[int, int]]:
    """All l < L of a stage."""
    assert len(stage.signals) == len(stage.branches) + 1 >= 4
    return [(low, high) for high in range(1, len(stage.signals)) for low in range(high)]


@pytest.mark.parametrize("name", PRE_ACTIVATED)
def test_signals_add_up(name: str) -> None:
    """Eq. 4: x_L = x_l + sum of F(x_i) for i from l to L - 1, for any l and L."""
    for stage in trained(name):
        for low, high in pairs(stage):
            total = stage.signals[low] + torch.stack(stage.branches[low:high]).sum(0)
            torch.testing.assert_close(stage.signals[high], total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PRE_ACTIVATED)
def test_gradients_add_up(name: str) -> None:
    """Eq. 5: dE/dx_l = dE/dx_L + dE/dx_L d(sum of F)/dx_l, for any l and L."""
    for stage in trained(name):
        for low, high in pairs(stage):
            arriving = stage.gradients[high]
            total = torch.stack(stage.branches[low:high]).sum(0)
            (through,) = torch.autograd.grad(total, stage.signals[low], arriving, retain_graph=True)
            assert float(through.norm()) > 1e-3 * float(arriving.norm())
            torch.testing.assert_close(stage.gradients[low], arriving + through, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", PRE_ACTIVATED)
def test_the_gradient_arrives_unchanged(name: str) -> None:
    """The first term of eq. 5, bit for bit: what is left of the gradient when no branch passes any on."""
    for stage in trained(name, sever=True):
        for low, high in pairs(stage):
            assert torch.equal(stage.gradients[low], stage.gradients[high])


def test_a_relu_behind_the_addition_lets_part_of_it_pass() -> None:
    """Of the original order the paper says that it holds only approximately: each ReLU cuts the gradient."""
    for stage in trained("cifar_resnet(depth=26, width=4)", sever=True):
        for low, high in pairs(stage):
            open_ = torch.stack([signal > 0 for signal in stage.signals[low + 1 : high + 1]]).all(0)
            arriving = stage.gradients[high]
            assert torch.equal(stage.gradients[low], arriving * open_)
            assert not torch.equal(arriving * open_, arriving)


def test_a_factor_on_the_shortcut_is_raised_to_the_depth() -> None:
    """Eq. 7 and 8: with x_(l+1) = s x_l + F, both ways carry the product of all s in between."""
    name = "cifar_resnet(depth=26, width=4, order='full-preactivation', skip='constant-scaling', scales=(0.5, 0.25))"
    for stage in trained(name, sever=True):
        for low, high in pairs(stage):
            assert torch.equal(stage.gradients[low], 0.5 ** (high - low) * stage.gradients[high])
            total = 0.5 ** (high - low) * stage.signals[low]
            for i in range(low, high):
                total = total + 0.5 ** (high - 1 - i) * stage.branches[i]
            torch.testing.assert_close(stage.signals[high], total, rtol=1e-12, atol=1e-12)
