"""The solution by construction: deeper, and the same function."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.deepen import deepened
from reslab.nets.network import Network


def trained(name: str, seed: int = 1, **fields: Any) -> Network:
    """As a network is after training: BN with statistics, scales and shifts of its own."""
    net = build(name, seed=seed, **fields).eval()
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=draw)
            module.running_var.uniform_(0.5, 2, generator=draw)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=draw)
                module.bias.normal_(0, 0.3, generator=draw)
    return net


def apart(a: Network, b: Network, size: tuple[int, ...]) -> float:
    x = torch.randn(3, *size, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        ours, theirs = a.eval()(x), b.eval()(x)
    return float((ours - theirs).abs().max() / ours.abs().max())


SMALL: dict[str, Any] = {"size": (9, 9), "width": 4}


@pytest.mark.parametrize(
    ("shallow", "deep"),
    [
        ("cifar_resnet(depth=8{})", "cifar_resnet(depth=20{})"),
        ("cifar_plain(depth=8)", "cifar_plain(depth=20)"),
        ("cifar_resnet(depth=8, shortcut='C')", "cifar_resnet(depth=14, shortcut='C')"),
        ("cifar_resnet(depth=8, shortcut='B', zeros='both')", "cifar_resnet(depth=14, shortcut='B')"),
        ("cifar_resnet(depth=8, order='full-preactivation')", "cifar_resnet(depth=14, order='full-preactivation')"),
        ("cifar_resnet(depth=8, order='bn-after-addition')", "cifar_resnet(depth=14, order='bn-after-addition')"),
        ("cifar_resnet(depth=8, order='relu-before-addition')", "cifar_resnet(depth=14, order='relu-before-addition')"),
        (
            "cifar_resnet(depth=8, order='relu-only-preactivation')",
            "cifar_resnet(depth=14, order='relu-only-preactivation')",
        ),
        ("cifar_resnet(depth=8, skip='dropout')", "cifar_resnet(depth=14, skip='dropout')"),
        ("cifar_resnet(depth=8, skip='conv1x1')", "cifar_resnet(depth=14, skip='conv1x1')"),
        ("cifar_bottleneck(depth=11)", "cifar_bottleneck(depth=20)"),
        ("cifar_resnet(depth=8, norm=None)", "cifar_resnet(depth=14, norm=None)"),
        ("cifar_plain(depth=8, norm=None)", "cifar_plain(depth=14, norm=None)"),
        (
            "cifar_resnet(depth=8, order='full-preactivation', activation='tanh')",
            "cifar_resnet(depth=14, order='full-preactivation', activation='tanh')",
        ),
    ],
)
def test_the_deeper_network_computes_the_same(shallow: str, deep: str) -> None:
    net = trained(shallow.format(""), **SMALL)
    deeper = deepened(net, deep.format("").replace(")", ", width=4)"))
    assert deeper.spec.depth > net.spec.depth
    assert len(deeper.blocks) > len(net.blocks)
    assert apart(net, deeper, (3, 9, 9)) <= 1e-6


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["cifar_resnet", "cifar_plain"]),
    n=st.integers(1, 2),
    more=st.integers(1, 3),
    width=st.integers(2, 5),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    classes=st.integers(2, 7),
    seed=st.integers(0, 1000),
)
def test_deepening_leaves_the_output(
    kind: str, n: int, more: int, width: int, size: tuple[int, int], classes: int, seed: int
) -> None:
    net = trained(f"{kind}(depth={6 * n + 2})", seed, width=width, size=size, num_classes=classes)
    deeper = deepened(net, f"{kind}(depth={6 * (n + more) + 2}, width={width})")
    assert deeper.spec.num_classes == classes
    assert deeper.spec.size == size
    assert apart(net, deeper, (3, *size)) <= 1e-6


@pytest.mark.parametrize("residual", [True, False])
def test_vectors_too(residual: bool) -> None:
    net = trained(f"mlp(depth=6, width=6, residual={residual})", in_channels=5)
    deeper = deepened(net, f"mlp(depth=10, width=6, residual={residual})")
    assert apart(net, deeper, (5,)) <= 1e-6


def test_training_goes_on_from_it() -> None:
    deeper = deepened(trained("cifar_resnet(depth=8)", **SMALL), "cifar_resnet(depth=14, width=4)").train()
    optimizer = torch.optim.SGD(deeper.parameters(), 0.1)
    before = deeper.state_dict()["layer1.1.bn2.weight"].clone()
    for _ in range(2):
        optimizer.zero_grad()
        deeper(torch.randn(4, 3, 9, 9)).square().mean().backward()
        optimizer.step()
    added = deeper.get_submodule("layer1.1")
    assert not torch.equal(added.bn2.weight, before), "the scale that ends the branch gets a gradient"  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("shallow", "deep", "said"),
    [
        ("cifar_resnet(depth=14)", "cifar_resnet(depth=8)", "is not deeper than"),
        ("cifar_resnet(depth=14)", "cifar_resnet(depth=14)", "is not deeper than"),
        ("cifar_resnet(depth=8)", "cifar_plain(depth=14)", "shortcut identity.* became none .first in layer1.0"),
        ("cifar_resnet(depth=8)", "cifar_resnet(depth=14, width=5)", "with more blocks: stem"),
        ("cifar_resnet(depth=8)", "cifar_resnet(depth=14, zeros='end')", "shortcut zero-pad.zeros=both.*zeros=end"),
        (
            "cifar_resnet(depth=8, skip='exclusive-gating')",
            "cifar_resnet(depth=14, skip='exclusive-gating')",
            "never passes",
        ),
        ("cifar_resnet(depth=8, skip='constant-scaling')", "cifar_resnet(depth=14, skip='constant-scaling')", "by 0.5"),
        (
            "cifar_resnet(depth=8, activation='tanh')",
            "cifar_resnet(depth=14, activation='tanh')",
            "a second tanh changes",
        ),
        (
            "cifar_plain(depth=8, activation='gelu')",
            "cifar_plain(depth=14, activation='gelu')",
            "a second gelu changes",
        ),
    ],
)
def test_what_cannot_be_deepened(shallow: str, deep: str, said: str) -> None:
    net = build(shallow, size=(9, 9), width=4)
    with pytest.raises(InputError, match=said):
        deepened(net, deep if "width" in deep else deep.replace(")", ", width=4)"))


def test_a_branch_whose_scale_is_not_learned_could_never_speak() -> None:
    net = build("cifar_fast(widths=(8, 8), blocks=(1, 1), activation='relu')")
    with pytest.raises(InputError, match="its BN has no scale"):
        deepened(net, "cifar_fast(widths=(8, 8), blocks=(2, 1), activation='relu')")
