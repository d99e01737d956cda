"""From names and shapes to the network; and that what they cannot tell is said."""

import re
from collections import defaultdict
from collections.abc import Mapping

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reslab.nets.catalog import resolve, resolve_any
from reslab.nets.equivalence import differences, look_alikes, names_and_shapes, same_function
from reslab.nets.network import Network
from reslab.nets.spec import Bottleneck, ConvStem, NetSpec, Norm
from reslab.weights.fit import HEAD, headless, misfit, nearest_network, shapes_of
from reslab.weights.keys import to_ours
from reslab.weights.recognise import recognise
from reslab.weights.shapes import Unrecognised

from .conftest import NAMES
from .sample import assert_same_output, on_nothing, pictures, scrambled

States = Mapping[str, Mapping[str, Tensor]]


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def state_of(net: str) -> dict[str, Tensor]:
    return dict(on_nothing(lambda: Network(resolve(net))))


# --- what can be told ---


@pytest.mark.parametrize("name", NAMES)
def test_each_network_of_the_catalogue(name: str, states: States) -> None:
    found = recognise(states[name])
    assert dict(shapes_of(found.spec)) == shapes(states[name])
    assert name in found.look_alikes
    assert found.spec.name == found.look_alikes[0]
    assert found.assumed
    # What is left to assume is what the names of the look-alikes stand for; without any, nothing but the activation.
    if found.look_alikes == (name,):
        assert same_function(found.spec, resolve(name))


def test_the_original_residual_network_goes_before_its_look_alikes(states: States) -> None:
    for name in ("resnet20", "resnet110", "resnet164-bottleneck", "resnet50", "resnet152", "resnet18-A"):
        assert recognise(states[name]).spec.name == name
        assert len(look_alikes(resolve(name))) > 1
    assert recognise(states["plain110"]).spec.name == "resnet110"
    assert recognise(states["resnet50-v1"]).spec.name == "resnet50"


def test_equal_keys_mean_equal_names_and_shapes(states: States) -> None:
    by_key, by_shapes = defaultdict(set), defaultdict(set)
    for name, state in states.items():
        by_key[names_and_shapes(resolve(name))].add(name)
        by_shapes[tuple(sorted(shapes(state).items()))].add(name)
    assert {frozenset(names) for names in by_key.values()} == {frozenset(names) for names in by_shapes.values()}


@st.composite
def networks(draw: st.DrawFn) -> NetSpec:
    """Networks of all families and most of their arguments, small enough to be quick."""
    pick = st.sampled_from
    classes, channels = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    common = f"num_classes={classes}, in_channels={channels}"
    orders = ("original", "bn-after-addition", "relu-before-addition", "relu-only-preactivation", "full-preactivation")
    order = draw(pick(orders))
    match draw(pick(("resnet", "bottleneck", "wide", "resnext", "plain", "imagenet", "mlp", "bare"))):
        case "resnet":
            option = draw(pick("ABC"))
            skips = ["identity", "constant-scaling", "dropout"]
            if option == "A" and order == "original":
                skips += ["exclusive-gating", "shortcut-only-gating", "conv1x1"]
            return resolve(
                f"cifar_resnet(depth={draw(pick((8, 14)))}, width={draw(st.integers(2, 5))}, shortcut={option!r}, "
                f"order={order!r}, skip={draw(pick(skips))!r}, {common})"
            )
        case "bottleneck":
            return resolve(f"cifar_bottleneck(depth={draw(pick((11, 20)))}, width=4, order={order!r}, {common})")
        case "wide":
            return resolve(f"cifar_wide(depth={draw(pick((10, 16)))}, factor={draw(st.integers(1, 3))}, {common})")
        case "resnext":
            cardinality = draw(pick((2, 4)))
            return resolve(f"cifar_resnext(depth=11, cardinality={cardinality}, base_width=8, {common})")
        case "plain":
            return resolve(f"cifar_plain(depth=8, width={draw(st.integers(1, 5))}, {common})")
        case "imagenet":
            depth, stem = draw(pick((18, 34, 50))), draw(pick(("7x7", "deep")))
            option, down = draw(pick("ABC")), draw(pick(("stride", "pool")))
            groups = draw(pick((1, 2, 32))) if depth == 50 else 1
            return resolve(
                f"imagenet_resnet(depth={depth}, shortcut={option!r}, stem={stem!r}, downsample={down!r}, "
                f"groups={groups}, order={order!r}, {common})"
            )
        case "mlp":
            return resolve(f"mlp(depth={draw(pick((4, 6, 8)))}, width={draw(st.integers(2, 6))}, num_classes=3)")
        case _:
            return resolve(f"cifar_resnet(depth=8, width=3, norm=None, {common})")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(networks())
def test_any_network_is_recognised_with_its_own_names_and_shapes(spec: NetSpec) -> None:
    found = recognise(on_nothing(lambda: Network(spec))).spec
    assert dict(shapes_of(found)) == dict(shapes_of(spec))
    assert (found.num_classes, found.in_channels) == (spec.num_classes, spec.in_channels)


def test_a_residual_network_of_the_usual_kind_is_recognised_as_what_it_computes() -> None:
    for net in (
        "cifar_resnet(depth=14, width=5)",
        "cifar_resnet(depth=14, width=5, shortcut='B')",
        "cifar_resnet(depth=14, width=5, shortcut='C')",
        "cifar_wide(depth=16, factor=2)",
        "imagenet_resnet(depth=18, stem='deep', downsample='pool')",
        "imagenet_resnet(depth=34, order='full-preactivation')",
        "imagenet_resnet(depth=50, groups=16, width_per_group=8)",
    ):
        assert same_function(recognise(state_of(net)).spec, resolve(net)), net


@pytest.mark.parametrize("missing", ["num_batches_tracked"])
def test_files_from_before_the_counters(missing: str, states: States) -> None:
    for name in ("resnet20", "preresnet50", "vgg16-cifar"):
        old = {key: tensor for key, tensor in states[name].items() if not key.endswith(missing)}
        assert len(old) < len(states[name])
        assert recognise(old).spec.name == name


# --- what cannot be told, and is said ---


def said(net: str) -> str:
    return "; ".join(recognise(state_of(net)).assumed)


def test_assumptions_are_said() -> None:
    assert "option A shortcuts, zeros on both sides (a plain network has the same names)" in said("plain20")
    assert "option A shortcuts, zeros after the others" in said("resnet18-A")
    assert "stride in the 3x3 layers (v1.5)" in said("resnet50-v1")
    assert "stride in the first 1x1 layers (v1)" in said("resnet164-bottleneck")
    assert "exclusive gates" in said("resnet110-shortcut-only-gating")
    assert "the original order of activations" in said("resnet110-relu-before-addition")
    assert "shortcuts that change the shape begin after the first BN and ReLU" in said("preresnet50")
    assert "ReLU and the layer before their BN, since the stem has no BN" in said("resnet110-relu-only-preactivation")
    assert "a stem of stride 1, no pool; stages of stride 1, 2, 2" in said("wrn28-10")
    assert "a stem of stride 2, then a max pool; stages of stride 1, 2, 2, 2" in said("resnet34")
    assert "relu activations, BN with eps 1e-05" in said("resnet34")
    assert "BN" not in said("highway19")
    assert "identity shortcuts (a plain network" in said("mlp(depth=6, width=4)")
    assert "no shortcuts" in said("vgg16-cifar")
    for net in ("resnet50", "wrn28-10"):  # shortcuts with weights leave no doubt
        assert "plain" not in said(net)


# --- what is of no network ---


def reason(state: Mapping[str, Tensor]) -> str:
    with pytest.raises(Unrecognised) as caught:
        recognise(state)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_networks_are_not_taken_for_ours() -> None:
    for name, expected in (
        ("vgg16", "parameters named features.0.weight, features.0.bias, features.2.weight (32 such)"),
        ("timm:test_vit", "no residual network that Reslab can describe has parameters named"),
        ("timm:seresnet18", "no residual network"),
        ("timm:resnetv2_50x1_bit", "the nearest network that Reslab can describe has other parameters: "),
        ("timm:resnet50_gn", "the nearest network that Reslab can describe has other parameters: "),
    ):
        spec = resolve_any(name)
        assert spec.name
        state = {key: torch.empty(shape, device="meta") for key, shape in shapes_of(spec).items()}
        assert expected in reason(to_ours(state)[0]), name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "expected a parameter 'conv1.weight', found none"),
        ({"conv1.weight": (16, 3, 3, 3)}, "expected stages layer1, layer2, ..., found none"),
        ({"fc.weight": (), "conv1.weight": (16, 3, 3, 3)}, "fc.weight has the shape scalar"),
        ({"conv1.weight": (16,)}, "conv1.weight has the shape 16, which no layer of its kind has"),
        ({"conv1.weight": (0, 3, 3, 3)}, "conv1.weight has the shape 0x3x3x3"),
        ({"trunk.weight": (3, 3)}, "parameters named trunk.weight"),
    ],
)
def test_scraps(change: dict[str, tuple[int, ...]], expected: str) -> None:
    state = {name: torch.empty(shape) for name, shape in change.items()}
    if state:
        assert expected in reason(state)
    with pytest.raises(Unrecognised):
        recognise({"fc.weight": torch.empty(2, 3)} | state)


def test_without_a_head_the_network_is_still_told() -> None:
    state = {name: tensor for name, tensor in state_of("resnet20").items() if not name.startswith("fc.")}
    assert recognise(state).spec == resolve("resnet20")


def test_gaps_and_odd_shapes() -> None:
    whole = state_of("resnet20")

    def without(pattern: str) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in whole.items() if not re.match(pattern, name)}

    def with_shape(name: str, *shape: int) -> dict[str, Tensor]:
        return whole | {name: torch.empty(shape, device="meta")}

    for state, expected in (
        (without("layer2"), "expected stages layer1, layer2, ..., found [1, 3]"),
        (without(r"layer2\.1"), "expected blocks layer2.0, layer2.1, ..., found [0, 2]"),
        (without(r"layer2\.1\.conv1"), "layer2.1 has conv2: others are missing, or without parameters"),
        (without(r"layer2\.1\.conv"), "layer2.1 has no layers"),
        (without(r"layer2\.1\.bn2\.bias"), "1 missing (layer2.1.bn2.bias)"),
        (without("fc.bias"), "1 missing (fc.bias)"),
        (without("fc.weight"), "expected a parameter 'fc.weight'"),
        (without("bn1.bias"), "1 missing (bn1.bias)"),
        (with_shape("layer2.1.conv1.weight", 32, 32, 2, 2), "has the shape (32, 32, 2, 2)"),
        (with_shape("layer2.1.conv1.weight", 32, 31, 3, 3), "has the shape (32, 31, 3, 3)"),
        (with_shape("layer2.1.conv1.weight", 32, 32, 3, 1), "of another shape (layer2.1.conv1.weight 32x32x3x1"),
        (with_shape("layer2.1.bn1.running_mean", 31), "(layer2.1.bn1.running_mean 31 instead of 32)"),
        (with_shape("layer3.2.conv2.weight", 7, 64, 3, 3), "layer3.2"),
        (with_shape("fc.weight", 10, 63), "(fc.weight 10x63 instead of 10x64)"),
        (with_shape("layer1.0.downsample.0.weight", 16, 15, 1, 1), "of another shape (layer1.0.downsample.0.weight"),
        (with_shape("layer1.0.downsample.5.weight", 16, 16, 1, 1), "1 unexpected (layer1.0.downsample.5.weight)"),
    ):
        assert expected in reason(state), reason(state)


ODD = st.lists(st.integers(0, 5), max_size=5).map(tuple)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_whatever_the_shapes_the_answer_is_a_network_that_fits_or_a_refusal(data: st.DataObject) -> None:
    state = state_of(data.draw(st.sampled_from(("resnet20", "resnet18", "preresnet20", "highway19", "vgg16-cifar"))))
    for name in data.draw(st.lists(st.sampled_from(sorted(state)), min_size=1, max_size=3)):
        state[name] = torch.empty(data.draw(ODD), device="meta")
    for name in data.draw(st.lists(st.sampled_from(sorted(state)), max_size=2)):
        state.pop(name, None)
    try:
        found = recognise(state)
    except Unrecognised:
        return
    assert misfit(state, found.spec, missing=HEAD if headless(state) else ()) == ""


# --- what does not fit ---


def test_a_misfit_lists_the_first_of_each_kind() -> None:
    spec = resolve("resnet20")
    state = state_of("resnet20")
    assert misfit(state, spec) == ""
    assert misfit({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, spec) == ""
    assert misfit({k: v for k, v in state.items() if k != "fc.bias"}, spec, missing=("fc.bias",)) == ""
    fewer = {k: v for k, v in state.items() if not k.startswith("layer3.2.")}
    assert misfit(fewer, spec) == (
        "10 missing (layer3.2.conv1.weight, layer3.2.bn1.weight, layer3.2.bn1.bias, layer3.2.bn1.running_mean, ...)"
    )
    odd = state | {"a": torch.empty(1), "fc.bias": torch.empty(3), "conv1.weight": torch.empty(())}
    assert misfit(odd, spec) == (
        "1 unexpected (a); 2 of another shape (conv1.weight scalar instead of 16x3x3x3, fc.bias 3 instead of 10)"
    )


def test_whole_numbers_are_no_weights() -> None:
    """They would be taken as they are, without the scale that a quantised network has beside them."""
    spec = resolve("resnet20")
    odd = state_of("resnet20") | {"conv1.weight": torch.empty(16, 3, 3, 3, dtype=torch.int8)}
    assert misfit(odd, spec) == "1 not of floating point (conv1.weight int8)"
    with pytest.raises(Unrecognised, match="not of floating point"):
        recognise(odd)


def test_the_nearest_network() -> None:
    state = state_of("resnet50(num_classes=7)")
    del state["layer3.2.conv2.weight"]
    near = nearest_network(state | {"layer5.0.conv1.weight": torch.empty(1)})
    assert near is not None
    assert (near.name, near.num_classes) == ("resnet50", 7)
    assert nearest_network({}) is None
    assert nearest_network({"fc.weight": torch.empty(3, 3)}) is None
    assert nearest_network(state_of("cifar_resnet(depth=20, width=5)")) is None  # the blocks of resnet20, no sizes


# --- who computes the same ---


def test_what_only_training_knows_makes_no_difference() -> None:
    for one, other in (
        ("resnet110", "resnet110-dropout"),
        ("cifar_wide(depth=10, factor=1)", "cifar_wide(depth=10, factor=1, dropout=0.3)"),
        ("cifar_resnet(depth=8)", "cifar_resnet(depth=8, drop_path=0.5, name='x', size=(8, 8))"),
        ("resnet110-exclusive-gating", "cifar_resnet(depth=110, skip='exclusive-gating', gate_bias=-2.0)"),
        ("highway19", "cifar_highway(dropout=0.7, gate_bias=-1.0)"),
    ):
        a, b = resolve(one), resolve(other)
        assert a != b
        assert same_function(a, b), (one, other)
        assert differences(a, b) == ()
    a = resolve("resnet20")
    assert same_function(a, a.model_copy(update={"norm": Norm(momentum=0.5)}))
    # Where nothing strides it does not matter which layer would.
    assert same_function(
        *(resolve(f"resnet50{kind}").model_copy(update={"stages": _first(kind)}) for kind in ("", "-v1"))
    )


def _first(kind: str) -> tuple[object, ...]:
    return resolve(f"resnet50{kind}").stages[:1]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("resnet50", "resnet50-v1", "stride_on=middle) became .*stride_on=first) (first in layer2.0)"),
        ("resnet20", "plain20", "shortcut identity became none (first in layer1.0)"),
        ("resnet20", "cifar_resnet(depth=20, zeros='end')", "zero-pad(zeros=both) became zero-pad(zeros=end)"),
        ("resnet20", "cifar_resnet(depth=20, activation='elu')", "activation relu became elu"),
        ("resnet110", "resnet110-bn-after-addition", "order original became bn-after-addition"),
        ("resnet110", "resnet110-constant-scaling", "shortcut identity became scale(shortcut=0.5, residual=0.5)"),
        ("preresnet20", "preresnet20(norm=None)", "norm .*eps=1e-05.* became None"),
    ],
)
def test_differences_are_named(one: str, other: str, expected: str) -> None:
    a, b = resolve(one), resolve(other)
    assert not same_function(a, b)
    pattern = ".*".join(re.escape(part) for part in expected.split(".*"))
    assert re.search(pattern, found := "; ".join(differences(a, b))), found


def test_the_eps_of_bn_is_part_of_the_function() -> None:
    a = resolve("resnet20")
    b = a.model_copy(update={"norm": Norm(eps=1e-3)})
    assert not same_function(a, b)
    assert differences(a, b)


@pytest.mark.parametrize("name", ["resnet20", "preresnet20", "resnet110-dropout", "highway19", "vgg16-cifar"])
def test_the_same_function_is_the_same_output(name: str) -> None:
    """What `same_function` leaves out is really nothing."""
    spec = resolve(name)
    if name == "resnet110-dropout":
        spec = resolve("cifar_resnet(depth=8, skip='dropout')")
    other = spec.model_copy(update={"dropout": 0.5, "norm": spec.norm and Norm(momentum=0.7)})
    net = scrambled(Network(spec))
    twin = Network(other)
    twin.load_state_dict(net.state_dict())
    assert same_function(spec, other)
    assert_same_output(net, twin, pictures(1, spec.in_channels, 32))


def test_a_stem_that_cannot_be_told_is_assumed_by_its_kernel() -> None:
    small, large = recognise(state_of("resnet20")).spec.stem, recognise(state_of("resnet18")).spec.stem
    assert isinstance(small, ConvStem)
    assert isinstance(large, ConvStem)
    assert (small.stride, small.pool) == (1, False)
    assert (large.stride, large.pool) == (2, True)


def test_groups_come_from_shapes() -> None:
    block = recognise(state_of("resnext50-32x4d")).spec.blocks[0].branch
    assert isinstance(block, Bottleneck)
    assert (block.groups, block.inner) == (32, 128)


@pytest.mark.parametrize(
    "name", ["resnet18d", "resnet50c", "resnet26t", "resnext50d_32x4d", "resnetv2_50d", "test_resnet"]
)
def test_variants_of_timm_are_told_by_their_shapes(name: str) -> None:
    state = to_ours(on_nothing(lambda: timm.create_model(name)))[0]
    spec = recognise(state).spec
    assert dict(shapes_of(spec)) == shapes(state)
    pooled = [getattr(block.shortcut, "pool", False) for block in spec.blocks if block.stride > 1]
    assert pooled == [name != "resnet50c"] * len(pooled)
