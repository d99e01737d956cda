"""Whatever network, saved in whatever layout: the same weights come back, of the same network."""

from collections.abc import Mapping
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from reslab.nets import build
from reslab.nets.equivalence import names_and_shapes
from reslab.nets.network import Network
from reslab.nets.spec import NetSpec
from reslab.weights.fit import headless
from reslab.weights.inside import inside
from reslab.weights.load import load
from reslab.weights.wrapped import unwrapped

from .conftest import NAMES
from .layouts import PAIRS, PLAIN, Layout, other
from .sample import assert_same_output, pictures, saved, scrambled

HERE = Path("theirs.pth")
PROPERTY = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(loaded: Mapping[str, object], which: str | None = None) -> dict[str, Tensor]:
    """What a layout holds, under our names."""
    found = unwrapped(loaded, HERE, which)  # type: ignore[arg-type]
    return inside(found.tensors, which if found.which is None else None).tensors  # type: ignore[arg-type]


@PROPERTY
@given(name=st.sampled_from(NAMES), layout=st.sampled_from(sorted(PLAIN)), head=st.booleans())
def test_each_network_of_the_catalogue_is_found_in_each_layout(
    name: str, layout: str, head: bool, states: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Its very tensors, without numbers, which is quick; with its last layer and as a backbone."""
    state = {key: tensor for key, tensor in states[name].items() if head or not key.startswith("fc.")}
    ours = read(PLAIN[layout](state))
    assert ours.keys() == state.keys()
    assert all(ours[key] is state[key] for key in state)
    assert headless(ours) is not head


@PROPERTY
@given(name=st.sampled_from(NAMES), layout=st.sampled_from(sorted(PAIRS)), which=st.sampled_from(["ema", "raw"]))
def test_each_network_of_the_catalogue_and_its_average(
    name: str, layout: str, which: str, states: Mapping[str, Mapping[str, Tensor]]
) -> None:
    raw = states[name]
    ema = {key: torch.empty_like(tensor) for key, tensor in raw.items()}
    ours = read(PAIRS[layout][1](raw, ema), which)
    wanted = ema if which == "ema" else raw
    assert ours.keys() == wanted.keys()
    assert all(ours[key] is wanted[key] for key in wanted)


LAYOUTS: list[Layout] = [*PLAIN.values()]
LAYOUTS += [lambda state, make=make: make(other(state), state) for _, make in PAIRS.values()]  # type: ignore[misc]


@st.composite
def small(draw: st.DrawFn) -> NetSpec:
    """Networks of few channels, in every order of activations, with every kind of shortcut that weights show."""
    width, classes = draw(st.integers(2, 5)), draw(st.integers(2, 9))
    common = {"num_classes": classes, "in_channels": draw(st.sampled_from([1, 3]))}
    order = draw(st.sampled_from(["original", "full-preactivation"]))
    shortcut = draw(st.sampled_from(["A", "B", "C"]))
    depth = draw(st.sampled_from([8, 14]))
    text = f"cifar_resnet(depth={depth}, width={width}, order='{order}', shortcut='{shortcut}')"
    text = draw(st.sampled_from([text, f"cifar_bottleneck(depth=11, width={4 * width}, order='{order}')"]))
    return build(text, **common).spec


@settings(PROPERTY, max_examples=12)
@given(spec=small(), layout=st.sampled_from(LAYOUTS), seed=st.integers(0, 99))
def test_what_was_saved_computes_the_same_when_it_is_loaded(
    spec: NetSpec, layout: Layout, seed: int, tmp_path: Path
) -> None:
    net = scrambled(build(spec, seed=seed), seed)
    assert isinstance(net, Network)
    state = net.state_dict()
    path = saved(tmp_path / "theirs.pth", layout(state))
    weights = load(path)
    assert isinstance(weights.spec, NetSpec)
    assert names_and_shapes(weights.spec) == names_and_shapes(spec)
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in state.items())
    if weights.spec.blocks != spec.blocks:  # where a bottleneck strides is in no name or shape: say it
        weights = load(path, net=spec)
    assert_same_output(net, weights.network(), pictures(2, spec.in_channels))
