"""Standard deviations that are known, and the signs of the signal."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reslab.probes.responses import Responses, response_modules, responses, signal
from reslab.probes.seam import Sample

from .tiny import PLAIN, PREACTIVATION, RESIDUAL, chain, network, sample, silence, vectors


@torch.no_grad()
def test_the_standard_deviation_of_all_numbers_of_a_layer() -> None:
    net, data = network(), sample(30, batch=13)
    found = responses(net, data)
    first = net.bn1(net.conv1(data.x))
    assert found.layer[0] == "conv1"
    assert found.std[0] == pytest.approx(float(first.double().std(correction=0)), rel=1e-5)
    assert found.mean[0] == pytest.approx(float(first.double().mean()), rel=1e-4)
    block = net.named_blocks["layer1.0"]
    second = block.get_submodule("bn1")(block.get_submodule("conv1")(first.relu()))
    assert found.std[1] == pytest.approx(float(second.double().std(correction=0)), rel=1e-5)
    assert responses(net, sample(30, batch=30)).std == pytest.approx(found.std)


@torch.no_grad()
def test_a_silent_layer_has_no_response() -> None:
    net = network()
    block = net.named_blocks["layer2.1"]
    silence(net, "layer2.1")
    assert block.last_norm is not None
    block.last_norm.bias.fill_(0.75)  # type: ignore[operator]
    found = responses(net, sample())
    at = found.layer.index("layer2.1.conv2")
    assert found.std[at] == pytest.approx(0, abs=1e-6)
    assert found.mean[at] == pytest.approx(0.75)
    assert found.ranked[-1] == found.std[at]
    assert list(found.ranked) == sorted(found.std, reverse=True)


def test_the_same_layers_in_twins() -> None:
    residual, plain = responses(network(RESIDUAL), sample(8)), responses(network(PLAIN), sample(8))
    assert residual.layer == plain.layer
    assert len(residual.layer) == 13  # all but the last
    assert set(residual.kernel) == {3}


@torch.no_grad()
def test_pre_activation_layers_have_no_bn_behind_them() -> None:
    net, data = network(PREACTIVATION), sample(9, batch=9)
    found = responses(net, data)
    first = net.conv1(data.x)
    assert found.std[0] == pytest.approx(float(first.std(correction=0)), rel=1e-5)
    block = net.named_blocks["layer1.1"]
    entering = net.named_blocks["layer1.0"](first)
    inner = block.get_submodule("conv1")(F.relu(block.get_submodule("bn1")(entering)))
    at = found.layer.index("layer1.1.conv1")
    assert found.std[at] == pytest.approx(float(inner.std(correction=0)), rel=1e-5)


@pytest.mark.parametrize("order", ["bn-after-addition", "relu-before-addition", "relu-only-preactivation"])
def test_which_module_is_the_response(order: str) -> None:
    net = network(f"cifar_resnet(depth=8, width=4, order='{order}')")
    block = net.named_blocks["layer1.0"]
    modules = response_modules(net)
    assert modules["layer1.0.conv1"][0] is block.get_submodule("bn1")
    last = "conv2" if order == "bn-after-addition" else "bn2"
    assert modules["layer1.0.conv2"][0] is block.get_submodule(last)


def test_other_kernels_are_told_apart() -> None:
    net = network("cifar_bottleneck(depth=11)")
    found = responses(net, sample(4))
    assert list(found.kernel[:4]) == [3, 1, 3, 1]
    only = found.of(3)
    assert set(only.kernel) == {3}
    assert len(only.layer) == 4
    assert only.std[1] == found.std[2]
    assert set(responses(chain(2, 0.5), vectors()).kernel) == {0}


def test_json_there_and_back() -> None:
    found = responses(network(), sample(5))
    again = Responses.from_dict(found.to_dict())
    assert again.layer == found.layer
    np.testing.assert_array_equal(again.std, found.std)
    assert again.kernel.dtype == np.int64
    rows = found.rows()
    assert len(rows) == len(found.layer)
    assert rows[2] == {"layer": found.layer[2], "kernel": 3, "std": found.std[2], "mean": found.mean[2]}


def test_relu_behind_the_addition_keeps_the_signal_non_negative() -> None:
    original, before = signal(network(RESIDUAL), sample()), signal(network(PREACTIVATION), sample())
    assert original.negative.max() == 0
    assert before.negative.min() > 0.1
    assert original.block[-1] == "end"
    assert len(original.rms) == 7


def test_growth_of_a_linear_chain() -> None:
    found = signal(chain(4, 0.5), vectors())
    assert found.rms / found.rms[0] == pytest.approx(1.5 ** np.arange(5))
    x = vectors()
    halved = Sample(x.x / 2, x.labels, x.batch)
    assert signal(chain(4, 0.5), halved).rms == pytest.approx(found.rms / 2)
