"""From a detector to an ONNX file that takes a photograph and gives boxes.

By the exporter that traces: which proposals are left, and which boxes, depends on numbers, and `torch.export` takes no
such program. torchvision gives its non-maximum suppression and its pooling of regions to that exporter.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

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
