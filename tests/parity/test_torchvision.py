"""Every network that torchvision has too computes there what it computes here."""

import pytest
from torch import nn
from torchvision import models

from reslab.weights.export import PEERS

from .pairs import assert_equal


def make(name: str) -> nn.Module:
    module: nn.Module = models.get_model(name, weights=None)
    return module


@pytest.mark.parametrize("name", PEERS["torchvision"])
def test_parity(name: str) -> None:
    assert_equal(name, "torchvision", make)


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ("resnet50-v1", "outputs in mode eval"),
        ("resnet50(activation='leaky-relu')", "outputs in mode eval"),
        ("resnet50(norm={'eps': 1e-4})", "outputs in mode eval"),
        ("resnet50(norm={'momentum': 0.101})", "statistics in mode train"),
    ],
)
def test_parity_tells_networks_of_the_same_names_apart(other: str, complaint: str) -> None:
    """The stride in another layer, another activation, another constant of BN: the comparison sees it."""
    with pytest.raises(AssertionError, match=complaint):
        assert_equal("resnet50", "torchvision", make, ours=other)
