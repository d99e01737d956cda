"""What blocks add: known of a linear chain, and of a branch that was silenced."""

import numpy as np
import pytest

from reslab.probes.shares import residual_share

from .tiny import PREACTIVATION, RESIDUAL, chain, network, sample, silence, vectors


@pytest.mark.parametrize("weight", [0.25, -0.5, 2.0])
def test_a_linear_chain(weight: float) -> None:
    found = residual_share(chain(3, weight), vectors())
    assert found.block == ("layer1.0", "layer1.1", "layer1.2")
    assert found.ratio == pytest.approx(abs(weight))
    assert found.ratio_low == pytest.approx(abs(weight))
    assert found.cosine == pytest.approx(np.sign(weight))
    assert found.distance == pytest.approx(abs(weight))


@pytest.mark.parametrize("name", [RESIDUAL, PREACTIVATION])
def test_a_silent_branch_is_an_identity(name: str) -> None:
    net = network(name)
    silence(net, "layer1.1", "layer3.1")
    found = residual_share(net, sample())
    off = [found.block.index(block) for block in ("layer1.1", "layer3.1")]
    assert found.switched_off() == ("layer1.1", "layer3.1")
    assert found.ratio[off] == pytest.approx(0)
    assert found.distance[off] == pytest.approx(0)
    others = np.setdiff1d(np.arange(len(found.block)), off)
    assert found.ratio[others].min() > 0.05
    changing = [found.block.index(block) for block in ("layer2.0", "layer3.0")]
    assert np.isnan(found.distance[changing]).all()
    assert not np.isnan(found.ratio).any()
    assert found.to_dict()["distance"][changing[0]] is None


def test_images_count_alike_in_whatever_batches() -> None:
    net = network()
    one, many = residual_share(net, sample(30, batch=30)), residual_share(net, sample(30, batch=7))
    assert one.ratio == pytest.approx(many.ratio, rel=1e-4)
    assert (one.ratio_low <= one.ratio).all()
    assert (one.ratio <= one.ratio_high).all()
    assert one.ratio_low[0] < one.ratio_high[0]
