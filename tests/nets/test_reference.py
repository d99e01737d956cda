"""Networks of other libraries: their code, counted like ours."""

import sys

import pytest
import timm
import torch
from torch import nn

from reslab.errors import InputError
from reslab.nets.catalog import REFERENCES, resolve, resolve_any
from reslab.nets.cost import cost, cost_any
from reslab.nets.network import build_any
from reslab.nets.reference import build_reference, native_size, reference_cost
from reslab.nets.spec import ReferenceSpec


def reference(name: str, **overrides: object) -> ReferenceSpec:
    spec = resolve_any(name, **overrides)
    assert isinstance(spec, ReferenceSpec)
    return spec


# Parameters as published; multiply-adds, of convolutions and products alone, as torchvision's own table has them.
@pytest.mark.parametrize(
    ("name", "params", "gmacs"),
    [
        ("vgg16", 138_357_544, 15.47),
        ("vgg16-bn", 138_365_992, 15.47),
        ("vgg19", 143_667_240, 19.63),
        ("densenet121", 7_978_856, 2.83),
        ("densenet161", 28_681_000, 7.73),
        ("densenet169", 14_149_480, 3.36),
        ("densenet201", 20_013_928, 4.29),
        ("torchvision:alexnet", 61_100_840, 0.714),
        ("timm:vit_tiny_patch16_224", 5_717_416, 1.26),
    ],
)
def test_costs_are_the_published_ones(name: str, params: int, gmacs: float) -> None:
    found = cost_any(reference(name))
    assert found.params == params
    assert found.macs / 1e9 == pytest.approx(gmacs, rel=0.01)
    assert found.blocks == ()
    assert sum(part.params for part in found.parts) == params


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50-32x4d"])
@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_network_that_is_in_both_is_counted_alike(name: str, library: str) -> None:
    """By running it, and by counting its specification."""
    ours, theirs = cost(resolve(name)), reference_cost(reference(f"{library}:{name.replace('-', '_')}"))
    assert (theirs.params, theirs.macs) == (ours.params, ours.macs)
    assert theirs.flops == 2 * theirs.macs
    main = sum(part.activations for part in theirs.parts)
    assert main >= ours.activations, "theirs has the convolutions of shortcuts, too"
    stage = {part.name: part for part in theirs.parts}["layer3"]
    mine = {part.name: part for part in ours.parts}["layer3"]
    assert (stage.params, stage.macs, stage.out_channels, stage.out_size) == (
        mine.params, mine.macs, mine.out_channels, mine.out_size,
    )  # fmt: skip


def test_size_channels_and_classes_count() -> None:
    base = reference_cost(reference("torchvision:resnet18"))
    large = reference_cost(reference("torchvision:resnet18"), (448, 448))
    assert large.params == base.params
    assert 3.9 < large.macs / base.macs <= 4
    assert reference_cost(reference("torchvision:resnet18(size=(448, 448))")).macs == large.macs
    grey = reference_cost(reference("torchvision:resnet18(in_channels=1)"))
    assert base.params - grey.params == 2 * 64 * 7 * 7
    few = reference_cost(reference("torchvision:resnet18(num_classes=10)"))
    assert base.params - few.params == 990 * 513


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:test_resnet"])
def test_a_seed_draws_the_same_weights_and_leaves_the_generator_alone(name: str) -> None:
    spec = reference(name)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, again, other = (build_reference(spec, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [torch.cat([p.detach().flatten() for p in net.parameters()]) for net in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    torch.manual_seed(99)
    assert torch.equal(next(build_any(spec, seed=1).parameters()), next(other.parameters()))


@pytest.mark.parametrize(
    "name", ["torchvision:squeezenet1_1", "torchvision:resnet18", "timm:test_resnet", "timm:test_vit(size=(160, 160))"]
)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_images_of_any_channels_and_classes(name: str, channels: int) -> None:
    net = build_reference(reference(name, in_channels=channels, num_classes=7)).eval()
    with torch.no_grad():
        assert net(torch.zeros(2, channels, 160, 160)).shape == (2, 7)


def test_a_first_layer_of_other_channels_is_otherwise_the_same() -> None:
    spec = reference("torchvision:squeezenet1_1")
    one, other = build_reference(spec), build_reference(reference(spec.name, in_channels=1))
    first, grey = (next(m for m in net.modules() if isinstance(m, nn.Conv2d)) for net in (one, other))
    assert (first.kernel_size, first.stride, first.padding) == (grey.kernel_size, grey.stride, grey.padding)
    assert (first.bias is None) == (grey.bias is None)


def test_transformers_are_built_for_the_size_that_is_asked_for() -> None:
    spec = reference("timm:test_vit(size=(96, 96))")
    with torch.no_grad():
        assert build_reference(spec).eval()(torch.zeros(1, 3, 96, 96)).shape == (1, 1000)


def test_the_size_that_the_library_gives() -> None:
    assert native_size(reference("timm:test_vit")).size == (160, 160)
    assert native_size(reference("timm:resnet50.a1_in1k")).size == (224, 224)
    assert native_size(reference("vgg16")).size == (224, 224)
    nothing = ReferenceSpec(library="timm", model="no_such_net", name="x", size=(9, 9))
    assert native_size(nothing).size == (9, 9)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:resnet51", "torchvision has no network 'resnet51'; did you mean 'resnet50'?"),
        ("torchvision:fcn_resnet50", "torchvision has no network 'fcn_resnet50'"),
        ("timm:resnet51", "timm has no network 'resnet51'; did you mean 'resnet"),
    ],
)
def test_names_of_nothing(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        build_reference(reference(name))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be() -> None:
    for name, size in (("vgg16", (8, 8)), ("timm:test_vit(size=(96, 96))", (100, 100))):
        with pytest.raises(InputError) as caught:
            reference_cost(reference(name), size)
        assert f"cannot take images of {size[0]}x{size[1]}" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"timm cannot build 'resnet18\.mine'") as caught:
        build_reference(reference("timm:resnet18.mine"))
    assert "\n" not in str(caught.value)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"need the library timm: pip install 'reslab\[compare\]'"):
        build_reference(reference("timm:resnet18"))


def test_all_references_are_there() -> None:
    for name, spec in REFERENCES.items():
        with torch.device("meta"):
            assert sum(p.numel() for p in build_reference(spec).parameters()) > 0, name
    assert timm.__version__
