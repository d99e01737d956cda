"""Perturbations of linear networks keep their relative size; shifts are borne by the pool."""

import numpy as np
import pytest
import torch

from reslab.errors import InputError
from reslab.nets import build
from reslab.probes.perturbations import _shifted, amplification, translation
from reslab.probes.seam import Sample

from .tiny import PLAIN, RESIDUAL, chain, network, sample, vectors


def test_a_linear_chain_amplifies_nothing() -> None:
    """What all blocks multiply alike keeps its share; only the first layer, which is random, may change it."""
    found = amplification(chain(4, 0.5), vectors())
    assert found.block == ("layer1.0", "layer1.1", "layer1.2", "layer1.3", "end")
    assert found.growth == pytest.approx(found.growth[0], rel=1e-3)
    assert found.growth[0] > 0.1
    assert found.low[2] == pytest.approx(found.low[0], rel=1e-3)


@pytest.mark.parametrize("name", [RESIDUAL, PLAIN])
def test_a_small_change_grows_alike_whatever_its_size(name: str) -> None:
    net, data = network(name), sample()
    one, two = amplification(net, data, size=1e-3), amplification(net, data, size=5e-4)
    assert one.growth == pytest.approx(two.growth, rel=0.05)
    assert list(one.growth) == list(amplification(net, data, size=1e-3).growth)
    assert list(one.growth) != list(amplification(net, data, size=1e-3, seed=1).growth)
    assert (one.low <= one.growth).all()
    assert (one.growth <= one.high).all()


def test_no_shift_changes_nothing() -> None:
    found = translation(network(), sample(), shifts=(0, 3, -3))
    assert found.agrees[0] == 1
    assert found.pooled[0] == pytest.approx(1)
    assert found.unpooled[0] == pytest.approx(1)
    assert found.unpooled[1] < 0.999


def test_the_pool_does_not_see_where() -> None:
    """Without BN and biases nothing comes of nothing, so a spot that moves by the total stride moves in all maps."""
    net = build("cifar_resnet(depth=8, width=4)", size=(32, 32), norm=None, seed=2).eval()
    x = torch.zeros(6, 3, 64, 64)
    x[:, :, 28:36, 24:32] = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = translation(net, Sample(x, torch.zeros(6, dtype=torch.int64)), shifts=(0, 1, 4))
    assert found.pooled[2] == pytest.approx(1, abs=1e-5)
    assert found.pooled[1] < found.pooled[2]
    assert found.unpooled[2] < 0.95
    assert found.agrees[2] == 1
    assert found.error[0] == found.error[2]


def test_how_an_image_is_shifted() -> None:
    x = torch.arange(4.0).view(1, 1, 1, 4)
    assert _shifted(x, 1).flatten().tolist() == [0, 0, 1, 2]
    assert _shifted(x, -2).flatten().tolist() == [2, 3, 0, 0]
    assert torch.equal(_shifted(x, 0), x)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="above 0 and below 1, got 0"):
        amplification(network(), sample(), size=0)
    with pytest.raises(InputError, match="below the images' width, got 8 of 8"):
        translation(network(), sample(), shifts=(8,))
    with pytest.raises(InputError, match="below the images' width"):
        translation(chain(2, 0.5), vectors())
    assert np.isfinite(amplification(network(), sample(1)).growth).all()
