"""An exported graph in int8, after training, by NNCF: symmetric weights for each channel, ranges from real images.

What makes images into input stays as it is: pixels times weights of resizing are no layer to be rounded. The graph has
to say the same first as before on all but a few of the calibration images. Where it does not, other ranges are tried,
and only if none will do are layers left in fp32 by NNCF's accuracy control, which takes them back one by one, the worst
first. Among layers in int8 one in fp32 costs more than itself: ONNX Runtime no longer fuses those before and after it.
"""

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from reslab.deploy.export import IN
from reslab.deploy.libraries import library, one_openvino_core, openvino_core
from reslab.deploy.runtimes import Batch
from reslab.errors import InputError, first_line

Quantisable = Literal["onnx", "openvino"]


@dataclass(frozen=True)
class Settings:
    """How NNCF quantises. As they stand, what costs ResNet-20 on CIFAR-10 least (docs/deploying.md)."""

    preset: Literal["mixed", "performance"] = "mixed"
    """activations below zero have ranges of their own (mixed), or only symmetric ones"""
    ranges: Literal["HISTOGRAM", "MEAN_MINMAX", "MINMAX"] = "HISTOGRAM"
    """of activations: of least error by their histogram, by the mean of the largest of each image, or by the largest"""
    layer_by_layer: bool = True
    """biases are corrected in the order of the layers, each with those before it in int8; else all at once"""
    most_disagreeing: float = 0.005
    """share of the calibration images of which the int8 graph may say another class first"""


SETTINGS = Settings()
OTHERS = (replace(SETTINGS, ranges="MEAN_MINMAX"), replace(SETTINGS, preset="performance", ranges="MEAN_MINMAX"))
"""What is tried before layers are left in fp32; the last is what NNCF does unless told otherwise."""
_LAYERS = ("Convolution", "GroupConvolution", "MatMul", "Conv", "Gemm")
"""What multiplies weights, in OpenVINO's words and ONNX's."""
_MOVES = ("MaxPool", "ReduceMax", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
"""What hands numbers on as they are, so that NNCF rounds them before it."""


@dataclass(frozen=True)
class Quantised:
    """A graph in int8."""

    model: Any
    """as it came: `onnx.ModelProto` or `openvino.Model`"""
    layers: int
    """that multiply weights, of the network"""
    left: int
    """of them, how many compute in fp32"""


def quantiser() -> Any:
    """The library nncf, which keeps what it does to itself. Raises `InputError` where it is not installed."""
    with _quiet():
        nncf = library("nncf")
    nncf.set_log_level(logging.ERROR)
    return nncf


def quantised(model: Any, kind: Quantisable, batches: Sequence[Batch]) -> Quantised:
    """A graph in int8.

    Args:
        model: as `reslab.deploy.export` makes it; it stays as it is.
        kind: which of the two it is.
        batches: real images as the graph takes them, one in each batch; a few hundred.

    Raises:
        InputError: NNCF cannot do it, and why.
    """
    graph = _OnnxGraph(model) if kind == "onnx" else _OpenVinoGraph(model)
    answer = graph.computed(model)
    expected = [int(answer(batch)[0].argmax()) for batch in batches]
    before = graph.before_the_network()
    nncf = quantiser()
    ignored = nncf.IgnoredScope(names=sorted(before), validate=False) if before else None

    def agreement(changed: Any, shown: Iterable[tuple[Batch, int]]) -> tuple[float, list[float]]:
        compute = graph.computed(changed)
        same = [float(compute(batch)[0].argmax() == first) for batch, first in shown]
        return float(np.mean(same)), same  # each, too: else it is called again for every image

    pairs = list(zip(batches, expected, strict=True))
    most = SETTINGS.most_disagreeing + 1e-9  # 1 - 0.995 is a little more than 0.005

    def make(settings: Settings, *, fast: bool, control: bool = False) -> Any:
        shared = {
            "preset": nncf.QuantizationPreset(settings.preset), "subset_size": len(batches),
            "fast_bias_correction": fast, "ignored_scope": ignored,
        }  # fmt: skip
        data = nncf.Dataset(list(batches), graph.fed)
        with _quiet(), one_openvino_core() if kind == "openvino" else nullcontext():
            if not control:
                return nncf.quantize(model, data, advanced_parameters=_ranges(settings), **shared)
            return nncf.quantize_with_accuracy_control(
                model,
                data,
                nncf.Dataset(pairs, lambda pair: graph.fed(pair[0])),
                agreement,
                max_drop=most,
                drop_type=nncf.DropType.ABSOLUTE,
                advanced_quantization_parameters=_ranges(settings),
                **shared,
            )

    fast = not SETTINGS.layer_by_layer
    try:
        for settings in (SETTINGS, *OTHERS):
            try:
                made = make(settings, fast=fast)
            except Exception:  # NNCF 3.4 cannot cut every graph of ONNX into the parts that this goes through
                fast = True
                made = make(settings, fast=fast)
            if 1 - agreement(made, pairs)[0] <= most:
                break
        else:
            made = make(SETTINGS, fast=fast, control=True)
    except Exception as why:  # of another library, of any kind
        raise InputError(f"NNCF cannot quantise this network: {first_line(why)}") from why
    return Quantised(made, *counted(made, kind))


def counted(model: Any, kind: Quantisable) -> tuple[int, int]:
    """Of a graph in int8: how many layers of the network multiply weights, and how many of them compute in fp32."""
    graph = _OnnxGraph(model) if kind == "onnx" else _OpenVinoGraph(model)
    before = graph.before_the_network()
    layers = [name for name, kind_of in graph.kinds().items() if kind_of in _LAYERS and name not in before]
    return len(layers), sum(not graph.is_int8(name) for name in layers)


def _ranges(settings: Settings) -> Any:
    estimator = getattr(library("nncf.quantization.range_estimator").RangeEstimatorParametersSet, settings.ranges)
    return library("nncf").AdvancedQuantizationParameters(activations_range_estimator_params=estimator)


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF draws its progress on stdout, where results go; PyTorch's compiler looks for CUDA as it is imported."""
    log = logging.getLogger("torch.utils.cpp_extension")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(level)


class _OpenVinoGraph:
    def __init__(self, model: Any) -> None:
        self._model = model

    def fed(self, batch: Batch) -> Any:
        return batch

    def computed(self, model: Any) -> Any:
        if hasattr(model, "create_infer_request"):  # compiled already
            return lambda batch: model(batch)[0]
        compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda batch: compiled(batch)[0]

    def kinds(self) -> dict[str, str]:
        return {node.get_friendly_name(): node.get_type_name() for node in self._model.get_ordered_ops()}

    def before_the_network(self) -> set[str]:
        first = next(
            node
            for node in self._model.get_ordered_ops()
            if node.get_type_name() in ("Convolution", "GroupConvolution")
        )
        found: set[str] = set()
        waiting = [first]
        while waiting:
            for entry in waiting.pop().inputs():
                node = entry.get_source_output().get_node()
                name = node.get_friendly_name()
                if name not in found and node.get_type_name() not in ("Constant", "Parameter"):
                    found.add(name)
                    waiting.append(node)
        return found

    def is_int8(self, name: str) -> bool:
        node = next(node for node in self._model.get_ops() if node.get_friendly_name() == name)
        source = node.input(0).get_source_output().get_node()
        while source.get_type_name() in _MOVES:
            source = source.input(0).get_source_output().get_node()
        return bool(source.get_type_name() == "FakeQuantize")


class _OnnxGraph:
    def __init__(self, model: Any) -> None:
        self._nodes = {node.name: node for node in model.graph.node}
        self._makers = {output: node for node in model.graph.node for output in node.output}

    def fed(self, batch: Batch) -> Any:
        return {IN: batch}

    def computed(self, model: Any) -> Any:
        session = library("onnxruntime").InferenceSession(model.SerializeToString())
        return lambda batch: session.run(None, {IN: batch})[0]

    def kinds(self) -> dict[str, str]:
        return {name: node.op_type for name, node in self._nodes.items()}

    def before_the_network(self) -> set[str]:
        first = next(node for node in self._nodes.values() if node.op_type == "Conv")
        found: set[str] = set()
        waiting = [first]
        while waiting:
            for name in waiting.pop().input:
                node = self._makers.get(name)
                if node is not None and node.name not in found:
                    found.add(node.name)
                    waiting.append(node)
        return found

    def is_int8(self, name: str) -> bool:
        maker = self._makers.get(self._nodes[name].input[0])
        while maker is not None and maker.op_type in _MOVES:
            maker = self._makers.get(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"
