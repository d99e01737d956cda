"""Gradient norms of a linear chain, and what no branch has touched."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reslab.errors import InputError
from reslab.nets import resolve
from reslab.nets.spec import Identity, NoShortcut, ZeroPad
from reslab.probes.gradients import at_initialisation, gradients, twins
from reslab.probes.seam import Sample

from .tiny import PLAIN, PREACTIVATION, RESIDUAL, chain, network, sample, silence, vectors


@pytest.mark.parametrize("residual", [True, False])
def test_a_linear_chain(residual: bool) -> None:
    n, w = 5, 0.5
    found = gradients(chain(n, w, residual=residual), vectors())
    factor = 1 + w if residual else w
    assert found.norm / found.norm[-1] == pytest.approx(factor ** np.arange(n, -1, -1), rel=1e-4)
    assert found.ratio[:-1] == pytest.approx(factor, rel=1e-4)
    assert np.isnan(found.ratio[-1])
    assert found.by_shortcuts == (pytest.approx(1) if residual else pytest.approx([np.nan] * n + [1], nan_ok=True))
    assert found.block[-1] == "end"


@pytest.mark.parametrize("name", [RESIDUAL, PREACTIVATION, PLAIN])
def test_the_norms_are_those_of_autograd(name: str) -> None:
    net, data = network(name), sample(7)
    seen: list[Tensor] = []
    handles = [
        block.register_forward_pre_hook(lambda _block, inputs: seen.append(inputs[0])) for block in net.blocks
    ]  # fmt: skip
    loss = F.cross_entropy(net(data.x), data.labels, reduction="sum")
    for handle in handles:
        handle.remove()
    for i, gradient in enumerate(torch.autograd.grad(loss, seen)):
        norms = gradient.flatten(1).norm(dim=1).double()
        found = gradients(net, data)
        assert found.norm[i] == pytest.approx(float(norms.quantile(0.5)), rel=1e-4)
        assert found.norm_high[i] == pytest.approx(float(norms.quantile(0.9)), rel=1e-4)


def test_the_term_that_arrives_undiminished() -> None:
    """In a pre-activation network 1 within the last stage; the ReLU behind the addition lets a part pass."""
    found = gradients(network(PREACTIVATION), sample())
    last = [i for i, name in enumerate(found.block) if name in ("layer3.1", "layer3.2", "end")]
    assert found.by_shortcuts[last] == pytest.approx(1)
    assert found.by_shortcuts[0] < 1  # option A drops positions
    original = gradients(network(RESIDUAL), sample())
    assert original.by_shortcuts[-2] < 1
    assert np.isnan(gradients(network(PLAIN), sample()).by_shortcuts[:-1]).all()


def test_a_silent_block_preserves_the_norm() -> None:
    net = network(PREACTIVATION)
    silence(net, "layer2.1")
    found = gradients(net, sample())
    assert found.ratio[found.block.index("layer2.1")] == pytest.approx(1, rel=1e-5)


def test_twins_differ_in_shortcuts_and_bn_alone() -> None:
    spec = resolve(RESIDUAL)
    found = twins(spec)
    assert list(found) == ["plain", "plain_bn", "residual", "residual_bn"]
    assert found["residual_bn"].stages == spec.stages
    assert found["residual"].norm is None
    assert not found["plain"].is_residual
    assert found["plain_bn"].norm == spec.norm
    made = twins(resolve(PLAIN))
    kinds = [type(block.shortcut) for block in made["residual"].blocks]
    assert kinds == [Identity, Identity, ZeroPad, Identity, ZeroPad, Identity]
    assert all(isinstance(block.shortcut, NoShortcut) for block in made["plain"].blocks)
    with pytest.raises(InputError, match=r"has no twin .*zero-pad cannot go from 8 channels down to 4"):
        twins(resolve("cifar_plain(depth=8, width=(8, 4, 2))"))


def test_norms_at_initialisation_of_fully_connected_networks() -> None:
    """A He layer with a ReLU keeps the mean square of a gradient, so that a branch beside an identity doubles it."""
    spec = resolve("mlp(depth=14, width=256)", in_channels=20, num_classes=50)
    data = Sample(torch.randn(32, 20, generator=torch.Generator().manual_seed(0)), torch.arange(32))
    found = at_initialisation(spec, data, seeds=2)
    assert found.block == (*[f"layer1.{i}" for i in range(6)], "end")
    assert found.plain[-1] == found.residual_bn[-1] == 1
    assert found.plain[0] == pytest.approx(1, rel=0.5)
    # The ReLU behind the addition halves at first, and less the more of the signal is positive.
    assert 1.1**6 < found.residual[0] < 2**6
    assert found.residual[0] > found.residual_bn[0] > 0.5
    again = at_initialisation(spec, data, seeds=2)
    assert list(again.residual) == list(found.residual)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="1 seed or more, got 0"):
        at_initialisation(resolve(RESIDUAL), sample(), seeds=0)
    with pytest.raises(InputError, match="takes 2 images or more, got 1"):
        at_initialisation(resolve(RESIDUAL), sample(1))
