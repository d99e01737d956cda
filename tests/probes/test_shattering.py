"""Noise whose autocorrelation is known, and the laws of the paper."""

import numpy as np
import pytest
import torch
from scipy.special import gammaln

from reslab.errors import InputError
from reslab.nets import resolve
from reslab.probes.result import as_floats, as_ints
from reslab.probes.seam import opened
from reslab.probes.shattering import (
    _batch_statistics,
    along_images,
    autocorrelation,
    decay_laws,
    gradient_along,
    make,
    shattering,
)

from .tiny import RESIDUAL, sample


def test_autocorrelation_of_known_series() -> None:
    lags = as_ints([0, 1, 2])
    # 1, -1, 1, -1: n - lag products of alternating sign, over n.
    assert autocorrelation(as_floats([1, -1, 1, -1]), lags) == pytest.approx([1, -3 / 4, 2 / 4])
    white = np.random.default_rng(0).standard_normal(20_000)
    assert autocorrelation(white, lags) == pytest.approx([1, 0, 0], abs=0.03)
    assert autocorrelation(np.cumsum(white), lags)[1] > 0.99
    assert np.isnan(autocorrelation(np.ones(5), lags)).all()
    vectors = np.stack([white, -white], 1)
    assert autocorrelation(vectors, lags) == pytest.approx(autocorrelation(white, lags))


def test_gradients_by_differences() -> None:
    """The derivative along the grid is what a small step changes."""
    for kind in ("plain", "residual"):
        net = make(kind, 3, width=20, seed=1).double()
        x = torch.linspace(-2, 2, 9, dtype=torch.float64)
        step = 1e-7
        with torch.no_grad():
            rise = (net((x + step).view(-1, 1)) - net(x.view(-1, 1))).squeeze(1) / step
        assert gradient_along(net, x) == pytest.approx(rise.numpy(), rel=1e-3, abs=1e-5)


def test_bn_holds_its_statistics() -> None:
    """The gradient at an input is that of its own output: of another's it is zero, though they share a batch."""
    net = make("residual-bn", 4, width=16)
    grid = torch.linspace(-2, 2, 32)
    with opened(net), _batch_statistics(net), torch.enable_grad():
        x = grid.view(-1, 1).requires_grad_()
        (own,) = torch.autograd.grad(net(x)[3], x)
    assert int((own != 0).sum()) == 1
    assert gradient_along(net, grid)[3] == pytest.approx(float(own[3]), rel=1e-4)


def test_deep_plain_networks_shatter_first() -> None:
    found = shattering(depths=(1, 24), width=64, points=128, lags=5, seeds=4)
    shallow, deep = 0, 1
    assert found.plain_bn[shallow, 1] > 0.8
    assert abs(found.plain_bn[deep, 1]) < 0.2, "as good as white noise"
    assert found.residual_bn[deep, 1] > found.plain_bn[deep, 1] + 0.3
    assert found.plain[deep, 1] > found.plain_bn[deep, 1] + 0.3, "without BN units stay open or shut along the line"
    assert found.brown[1] > 0.9
    assert abs(found.white[1]) < 0.1
    assert found.plain.shape == (2, 6)
    assert found.plain[:, 0] == pytest.approx(1)
    assert list(found.lag) == [0, 1, 2, 3, 4, 5]


def test_the_laws_of_decay() -> None:
    found = decay_laws(depths=(1, 2, 3, 4, 6), width=96, networks=48)
    assert found.plain_base == pytest.approx(0.5, abs=0.04)
    assert found.residual_base == pytest.approx(0.75, abs=0.04)
    # With BN the product of (l + 1/2) / (l + 1), which goes as L^-1/2.
    layers = found.depth.astype(float)
    product = np.exp(gammaln(layers + 1.5) - gammaln(1.5) - gammaln(layers + 2))
    assert found.residual_bn == pytest.approx(product, abs=0.06)
    assert -0.5 < found.residual_bn_power < -0.38


def test_between_images() -> None:
    found = along_images(resolve(RESIDUAL, size=(8, 8)), sample(6), points=24, lags=4, seeds=2)
    for values in (found.plain, found.plain_bn, found.residual, found.residual_bn):
        assert values[0] == pytest.approx(1)
        assert len(values) == 5
        assert (np.abs(values) <= 1 + 1e-9).all()
    assert found.residual[1] > found.plain_bn[1]
    again = along_images(resolve(RESIDUAL, size=(8, 8)), sample(6), points=24, lags=4, seeds=2)
    assert list(again.plain) == list(found.plain)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="fewer lags than points, got 1, 8 of 8"):
        shattering(points=8, lags=8, seeds=1)
    with pytest.raises(InputError, match="takes 6 images or more, got 3"):
        along_images(resolve(RESIDUAL), sample(3))
    with pytest.raises(InputError, match="2 networks or more"):
        decay_laws(networks=1)
