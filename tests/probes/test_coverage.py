"""What downsampling discards: three quarters, or nothing."""

import numpy as np
import pytest
import torch

from reslab.errors import InputError
from reslab.nets import build
from reslab.probes.coverage import downsampling

from .tiny import PLAIN, chain, network


@pytest.mark.parametrize(
    ("name", "shortcut", "branch"),
    [
        ("cifar_resnet(depth=8, width=4, shortcut='A')", 0.75, 0.0),
        ("cifar_resnet(depth=8, width=4, shortcut='B')", 0.75, 0.0),
        ("cifar_resnet(depth=8, width=4, order='full-preactivation')", 0.75, 0.0),
        ("cifar_bottleneck(depth=11)", 0.75, 0.75),  # strides in its first 1x1
        ("cifar_fast(widths=(8, 8), blocks=(1, 1))", np.nan, 0.0),
        (PLAIN, np.nan, 0.0),
    ],
)
def test_small_networks(name: str, shortcut: float, branch: float) -> None:
    found = downsampling(network(name))
    assert found.shortcut == pytest.approx(shortcut, nan_ok=True)
    assert found.branch == pytest.approx(branch)
    # Where the shortcut reads least, the branch may read the rest.
    assert found.whole == pytest.approx(branch)
    assert found.branch_map.shape[1:] == (8, 8)


@pytest.mark.parametrize(
    ("name", "shortcut", "branch"), [("resnet50-v1", 0.75, 0.75), ("resnet50", 0.75, 0.0), ("resnet50d", 0.0, 0.0)]
)
def test_the_variants_of_imagenet(name: str, shortcut: float, branch: float) -> None:
    """v1 strides in the first 1x1, B (v1.5) in the 3x3, and D averages on the shortcut."""
    found = downsampling(build(name, num_classes=10))
    assert found.block == ("layer2.0", "layer3.0", "layer4.0")
    assert found.shortcut == pytest.approx(shortcut)
    assert found.branch == pytest.approx(branch)


def test_the_map_says_where() -> None:
    found = downsampling(network("cifar_resnet(depth=8, width=4, shortcut='B')"))
    read = torch.tensor(found.shortcut_map[0]) > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[::2, ::2] = True
    assert torch.equal(read, expected)
    assert found.shortcut_map[0].max() == 1
    # Two 3x3 layers, the first of stride 2: position (1, 1) is read by four outputs of it, (0, 0) by one.
    assert found.branch_map[0][3, 3] > found.branch_map[0][2, 2]


def test_without_strides_there_is_nothing_to_discard() -> None:
    with pytest.raises(InputError, match="has no block with a stride"):
        downsampling(chain(2, 0.5))
