"""In int8: nearly the same answers, the preprocessing as it was, and layers that cannot bear it in fp32."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from deploy.conftest import HOW
from deploy.networks import thinned, trained
from deploy.test_preprocess import photograph
from reslab.deploy import quantize
from reslab.deploy.artefact import Input
from reslab.deploy.export import onnx_of, openvino_of, program_of
from reslab.deploy.libraries import openvino_core
from reslab.deploy.quantize import Quantisable, quantised
from reslab.deploy.runtimes import Batch
from reslab.nets import build
from reslab.nets.network import Network


@pytest.fixture(autouse=True)
def _libraries() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"):
        pytest.importorskip(name, reason="the extra [deploy] is not installed")


def network(*, alike: float = 0) -> Network:
    """The more its classes are alike, the less its answers bear."""
    net = build("cifar_resnet(depth=8, width=8)", seed=1)
    trained(net)
    with torch.no_grad():
        net.fc.weight.copy_(alike * net.fc.weight[:1] + (1 - alike) * net.fc.weight)
    return net


def fast_network() -> Network:
    """Of another form, which NNCF cannot cut into parts."""
    net = build("cifar_fast(widths=(16, 16, 16))", seed=1)
    trained(net)
    return net


def graph_of(net: Network, kind: Quantisable, input: Input) -> Any:
    model = onnx_of(program_of(net, net.spec, HOW, input), {})
    return model if kind == "onnx" else openvino_of(model)


def answers(model: Any, kind: Quantisable, batches: list[Batch]) -> np.ndarray:
    ort, _ = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    if kind == "onnx":
        session = ort.InferenceSession(model.SerializeToString())
        return np.concatenate([session.run(None, {"images": batch})[0] for batch in batches])
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(batch)[0] for batch in batches])


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("input", ["photographs", "tensors"])
def test_answers_are_nearly_the_same(kind: Quantisable, input: Input) -> None:
    batches: list[Batch] = [photograph(40 + number, 60 - number)[None] for number in range(12)]
    if input == "tensors":
        draw = np.random.default_rng(0)
        batches = [draw.standard_normal((1, 3, 32, 32)).astype(np.float32) for _ in range(12)]
    model = graph_of(network(), kind, input)
    made = quantised(model, kind, batches)
    before, after = answers(model, kind, batches), answers(made.model, kind, batches)
    assert made.layers == 8  # seven convolutions and the last layer; none of those that resize
    assert made.left < made.layers
    apart = np.abs(after - before).max() / np.abs(before).max()
    assert 1e-4 < apart < 0.2


def test_a_graph_that_cannot_be_cut_into_parts() -> None:
    draw = np.random.default_rng(0)
    batches: list[Batch] = [draw.standard_normal((1, 3, 32, 32)).astype(np.float32) for _ in range(6)]
    made = quantised(graph_of(fast_network(), "onnx", "tensors"), "onnx", batches)
    assert made.layers == 8


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[quantize.Settings]:
    """The settings that NNCF is given, in their order."""
    found: list[quantize.Settings] = []
    ranges = quantize._ranges

    def noted(settings: quantize.Settings) -> Any:
        found.append(settings)
        return ranges(settings)

    monkeypatch.setattr(quantize, "_ranges", noted)
    return found


def test_layers_that_cannot_bear_it_stay(tried: list[quantize.Settings]) -> None:
    draw = np.random.default_rng(0)
    batches: list[Batch] = [draw.standard_normal((1, 3, 32, 32)).astype(np.float32) for _ in range(24)]
    model = graph_of(network(alike=0.95), "openvino", "tensors")
    made = quantised(model, "openvino", batches)
    assert made.left > 0
    assert tried == [quantize.SETTINGS, *quantize.OTHERS, quantize.SETTINGS]  # only when nothing else would do
    before, after = (answers(each, "openvino", batches).argmax(1) for each in (model, made.model))
    assert (before == after).mean() > 0.9


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_layer_behind_a_max_pool_counts_as_int8(
    kind: Quantisable, tried: list[quantize.Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "SETTINGS", replace(quantize.SETTINGS, most_disagreeing=1))  # none is taken back
    draw = np.random.default_rng(0)
    batches: list[Batch] = [draw.standard_normal((1, 3, 32, 32)).astype(np.float32) for _ in range(6)]
    net = trained(build(thinned("resnet18"), seed=1))
    assert isinstance(net, Network)
    made = quantised(graph_of(net, kind, "tensors"), kind, batches)
    assert (made.layers, made.left) == (21, 0)
    assert set(tried) == {quantize.SETTINGS}  # the first will do; twice where it cannot be cut into parts
