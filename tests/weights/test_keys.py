"""What others call the same parameters: their names become ours, one to one, and ours become theirs."""

import re
from collections.abc import Mapping

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets.catalog import FAMILIES, resolve
from reslab.nets.network import Network
from reslab.nets.spec import NetSpec
from reslab.weights.fit import shapes_of
from reslab.weights.keys import DIALECTS, OURS, dialect_of, to_ours, to_resnetv2

from .repositories import Akamaster, Kuangliu, KuangliuPreActBlock, Transformers, Weiaicunzai, Xternalz
from .sample import on_nothing


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_none_of_ours_looks_like_anybody_elses(states: Mapping[str, Mapping[str, Tensor]]) -> None:
    for name, state in states.items():
        assert dialect_of(state) is OURS, name
    for family, arguments in (("mlp", "depth=4, width=8"), ("cifar_resnet", "depth=8, norm=None")):
        assert family in FAMILIES
        assert dialect_of(shapes_of(resolve(f"{family}({arguments})"))) is OURS


@pytest.mark.parametrize(
    ("dialect", "make"),
    [
        ("CIFAR repositories", Akamaster),
        ("CIFAR repositories", lambda: Akamaster(option="B")),
        ("CIFAR repositories", lambda: Kuangliu(width=8)),
        ("CIFAR repositories", lambda: Kuangliu(KuangliuPreActBlock, width=8)),
        ("pytorch-cifar100", lambda: Weiaicunzai(width=8)),
        ("pytorch-cifar100", lambda: Weiaicunzai(width=8, bottleneck=True)),
        ("WideResNet-pytorch", lambda: Xternalz(10, 2)),
        ("transformers", lambda: Transformers((1, 2, 1, 1))),
        ("timm resnetv2", lambda: timm.create_model("resnetv2_18")),
        ("timm resnetv2 D", lambda: timm.create_model("resnetv2_18d")),
        ("torchvision", lambda: timm.create_model("resnet18d")),
        ("torchvision", lambda: timm.create_model("test_resnet")),
    ],
)
def test_each_name_becomes_one_of_ours(dialect: str, make: type[nn.Module]) -> None:
    theirs = on_nothing(make)
    ours, found = to_ours(theirs)
    assert found.name == dialect
    assert len(ours) == len(theirs)
    assert dialect_of(ours) is OURS
    again, _ = to_ours(ours)
    assert shapes(again) == shapes(ours)
    assert sum(tensor.numel() for tensor in ours.values()) == sum(tensor.numel() for tensor in theirs.values())
    for name in ours:
        assert name.split(".")[0] in {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "bn_last", "fc"}, name


def test_a_dialect_is_seen_by_some_names_even_if_one_is_lost() -> None:
    state = dict(on_nothing(lambda: Xternalz(10, 1)))
    for name in list(state):
        left = {other: tensor for other, tensor in state.items() if other != name}
        found = dialect_of(left).name
        assert found == "WideResNet-pytorch" or name == "block1.layer.0.conv1.weight"


@pytest.mark.parametrize(
    "ours", ["preresnet50", "preresnet101", "imagenet_resnet(depth=18, order='full-preactivation')"]
)
def test_timm_and_back_is_the_identity(ours: str) -> None:
    theirs = {"preresnet50": "resnetv2_50", "preresnet101": "resnetv2_101"}.get(ours, "resnetv2_18")
    expected = on_nothing(lambda: timm.create_model(theirs))
    assert shapes(to_resnetv2(to_ours(expected)[0])) == shapes(expected)
    mine = on_nothing(lambda: Network(resolve(ours)))
    assert shapes(to_ours(to_resnetv2(mine))[0]) == shapes(mine)
    assert shapes(to_resnetv2(mine)) == shapes(expected)


@st.composite
def preactivated(draw: st.DrawFn) -> NetSpec:
    """Pre-activation networks of any shape: with the 7x7 or the deep stem, of basic blocks and bottlenecks."""
    if draw(st.booleans()):
        depth = draw(st.sampled_from([8, 14, 26]))
        return resolve(f"cifar_resnet(depth={depth}, width={draw(st.integers(1, 6))}, order='full-preactivation')")
    depth = draw(st.sampled_from([18, 34, 50]))
    stem = draw(st.sampled_from(["7x7", "deep"]))
    classes = draw(st.integers(1, 20))
    return resolve(f"imagenet_resnet(depth={depth}, order='full-preactivation', stem='{stem}', num_classes={classes})")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(spec=preactivated(), seed=st.integers(0, 99))
def test_renaming_back_and_forth_is_the_identity(spec: NetSpec, seed: int) -> None:
    # Small stand-ins for the tensors: their values show that none was swapped for another.
    draw = torch.Generator().manual_seed(seed)
    state = {name: torch.randn((2, 3) if name == "fc.weight" else (2,), generator=draw) for name in shapes_of(spec)}
    theirs = to_resnetv2(state)
    assert len(theirs) == len(state)
    assert theirs["head.fc.weight"].shape == (2, 3, 1, 1)
    back, _ = to_ours(theirs)
    if spec.stem.model_dump().get("before") and any("downsample" in name for name in state):
        # With the deep stem goes a pool before the shortcut's convolution, and ours has none here.
        back = {name.replace("downsample.1.", "downsample.0."): tensor for name, tensor in back.items()}
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_two_names_for_one_parameter_are_refused() -> None:
    state = dict(on_nothing(Akamaster))
    with pytest.raises(InputError, match=r"two tensors of the file stand for one parameter, 'fc\.weight'"):
        to_ours(state | {"fc.weight": state["linear.weight"]})


@pytest.mark.parametrize(
    "make",
    [
        Akamaster,
        lambda: Weiaicunzai(width=8),
        lambda: Xternalz(10, 2),
        lambda: Transformers((1, 1, 1, 1)),
        lambda: timm.create_model("resnetv2_18"),
    ],
)
def test_names_bear_the_sign_of_one_dialect(make: type[nn.Module]) -> None:
    """So that the order of the table decides between timm's two alone."""
    names = on_nothing(make)
    assert sum(any(re.fullmatch(dialect.sign, name) for name in names) for dialect in DIALECTS) == 1
