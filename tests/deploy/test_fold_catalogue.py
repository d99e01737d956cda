"""BN folded on every network that has a name."""

import pytest

from deploy.networks import NAMES, images, of_catalogue
from deploy.test_fold import apart


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_the_same(name: str) -> None:
    net = of_catalogue(name)
    assert apart(net, images()) <= 1e-5
