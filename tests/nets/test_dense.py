"""The head on the feature map against the head on one window at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.catalog import resolve
from reslab.nets.network import Network, check_size


def network(name: str = "cifar_resnet(depth=8, width=4)", **fields: object) -> Network:
    net = build(resolve(resolve(name, num_classes=5), **fields), seed=1).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # so that the statistics are not those of nothing
                module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        net.fc.bias.uniform_(-1, 1)
    return net


NETS = [
    network(),
    network("cifar_resnet(depth=8, width=4, order='full-preactivation')"),
    network(pool="max", logit_scale=0.3),
    network(dropout=0.5),
]


SIDES = st.integers(16, 40)
POSITIONS = st.integers(1, 12)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sampled_from(NETS), st.tuples(SIDES, SIDES), st.tuples(POSITIONS, POSITIONS))
@torch.no_grad()
def test_the_linear_head_at_each_position(net: Network, size: tuple[int, int], window: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3))
    maps = net.feature_map(x)
    dense = net.dense_logits(maps, window)
    height, width = min(window[0], maps.shape[2]), min(window[1], maps.shape[3])
    assert dense.shape == (2, 5, maps.shape[2] - height + 1, maps.shape[3] - width + 1)
    for top in range(dense.shape[2]):
        for left in range(dense.shape[3]):
            part = maps[:, :, top : top + height, left : left + width]
            pooled = part.amax((2, 3)) if net.spec.pool == "max" else part.mean((2, 3))
            one = net.fc(pooled) * net.spec.logit_scale
            torch.testing.assert_close(dense[:, :, top, left], one, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("net", NETS, ids=["original", "preactivation", "max", "dropout"])
def test_a_window_of_the_whole_map_is_the_network(net: Network) -> None:
    x = torch.randn(3, 3, 20, 24, generator=torch.Generator().manual_seed(4))
    maps = net.feature_map(x)
    torch.testing.assert_close(net.dense_logits(maps, (99, 99))[:, :, 0, 0], net(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.avgpool(maps), net.features(x)["pool"])


@torch.no_grad()
def test_the_same_in_fused_mode() -> None:
    net = network("cifar_resnet(depth=8, width=16)")
    x = torch.randn(2, 3, 24, 32, generator=torch.Generator().manual_seed(5)).to(memory_format=torch.channels_last)
    plain = net.dense_logits(net.feature_map(x), (4, 5))
    net.fuse()
    torch.testing.assert_close(net.dense_logits(net.feature_map(x), (4, 5)), plain, rtol=1e-3, atol=1e-4)


def test_stages_are_seen_as_before() -> None:
    assert list(network().features(torch.zeros(1, 3, 16, 16))) == [
        "stem", "layer1", "layer2", "layer3", "pool", "logits",
    ]  # fmt: skip


def test_images_that_are_too_small() -> None:
    spec = network().spec
    check_size(spec, (4, 4))
    with pytest.raises(InputError, match="images need at least 4 pixels a side, got 9x3"):
        check_size(spec, (9, 3))
