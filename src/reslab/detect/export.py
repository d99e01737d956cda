"""From a detector to a file that takes a photograph and gives boxes: ONNX, or OpenVINO's IR.

By the exporter that traces: which proposals are left, and which boxes, depends on numbers, and `torch.export` takes no
such program. torchvision gives its non-maximum suppression and its pooling of regions to that exporter.
"""

import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor, nn

from reslab.deploy.export import openvino_of
from reslab.deploy.libraries import library
from reslab.detect.artefact import INPUT, OUTPUTS
from reslab.detect.networks import Detector

OPSET = 17
_TRACED = 300, 400
"""Height and width of the picture that it is traced with; of no consequence."""


class _Photograph(nn.Module):
    """A photograph in, boxes out."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.model = detector.model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (H, W, 3) -> boxes (n, 4), scores (n,), labels (n,), counted from 0."""
        [found] = self.model([image.permute(2, 0, 1).float() / 255])
        return found["boxes"], found["scores"], found["labels"] - 1


def write_onnx(detector: Detector, path: Path) -> None:
    """Writes a detector on the CPU, in evaluation mode and not fused, and checks the file by ``onnx.checker``."""
    onnx = library("onnx")
    image = torch.randint(0, 256, (*_TRACED, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of constants in the trace, none of which depends on the picture
        torch.onnx.export(
            _Photograph(detector).eval(), (image,), path, dynamo=False, opset_version=OPSET, input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={INPUT: {0: "height", 1: "width"}, **{name: {0: "found"} for name in OUTPUTS}},
        )  # fmt: skip
    onnx.checker.check_model(path)


def write_openvino(onnx_file: Path, path: Path) -> None:
    """Writes OpenVINO's IR of what `write_onnx` wrote: ``path``, an .xml, and its weights in fp32 beside it.

    Whoever computes it in bf16 still computes boxes, and all that decides which are left, in fp32: bf16 numbers from
    128 to 256 are a whole pixel apart.
    """
    openvino = library("openvino")
    model = openvino_of(library("onnx").load(onnx_file))
    _pool_from_fp32(model)
    openvino.save_model(model, path, compress_to_fp16=False)
    exact = {operation.get_friendly_name() for operation in model.get_ops() if not _of_features(operation)}
    tree = ElementTree.parse(path)
    for layer in tree.iterfind("./layers/layer"):
        if layer.get("name") in exact:
            said = layer.find("rt_info")
            if said is None:
                said = ElementTree.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, said)
            ElementTree.SubElement(said, "attribute", name="precise", version="0")
    tree.write(path)


BOUND = 3e38
"""Of numbers that are left as they are: all but the last of fp32."""


def _pool_from_fp32(model: Any) -> None:
    """Puts a step that changes nothing before each pooling of regions, to be computed in fp32 as that is.

    From maps that OpenVINO has to convert by itself it aligns regions eight times as slowly.
    """
    clamp = library("openvino.opset13").clamp
    for operation in model.get_ops():
        if operation.get_type_name() == "ROIAlign":
            operation.input(0).replace_source_output(clamp(operation.input_value(0), -BOUND, BOUND).output(0))


def _of_features(operation: Any) -> bool:
    """Whether what it computes may be rounded: layers, and the maps (N, C, H, W) between them."""
    kind = operation.get_type_name()
    if kind in ("Parameter", "Constant", "Result", "Convolution", "GroupConvolution", "MatMul"):
        return True
    shape = operation.get_output_partial_shape(0)
    between = kind in ("Add", "Multiply", "Relu", "MaxPool", "Interpolate", "Pad")
    return between and shape.rank.is_static and len(shape) == 4
