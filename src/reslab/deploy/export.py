"""A network as a file that a runtime reads: ONNX, OpenVINO's IR, or an archive of ``torch.export``.

All three come of one graph, the exported program, with BN folded and images made into input inside: so they differ in
nothing but the runtime. The batch is of any size, and so are the photographs.
"""

import logging
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from reslab.deploy.artefact import Format, Input
from reslab.deploy.fold import fold
from reslab.deploy.libraries import library
from reslab.deploy.preprocess import Fitted, Normalised
from reslab.errors import InputError, first_line
from reslab.nets.network import Network
from reslab.nets.spec import AnyNet
from reslab.weights.preprocessing import Preprocessing

FILES: dict[Format, str] = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}
"""What model files are called; of OpenVINO's the weights lie in ``model.bin`` beside it."""
OPSET = 20
"""ONNX's operators, of 2023: what runtimes of the last years know. The graph needs none that came later."""
IN, OUT, MAPS = "images", "logits", "maps"
HEAD = "head.npy"
"""The last layer's weights (classes, C), beside a model that puts out maps: a class's map is their sum by its row."""


class _WithMaps(nn.Module):
    """A network that puts out, besides the logits, what they are the mean of: images -> logits, maps (N, C, H, W)."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.net.feature_map(x)
        return self.net.classify(maps)[1], maps


def head_of(net: nn.Module) -> npt.NDArray[np.float32]:
    """The weights (classes, C) by which a network weighs the means of its maps.

    Raises `InputError` for a network of which logits are no such sum (Zhou et al. 2016, arXiv 1512.04150, section 2).
    """
    if not isinstance(net, Network) or net.spec.pool != "average" or net.spec.stem.kind == "dense":
        raise InputError(
            "--explain needs a network of Reslab's own that ends in average pooling and one linear layer; leave it out"
        )
    found: npt.NDArray[np.float32] = net.fc.weight.detach().float().cpu().numpy()
    return found


def deployed(net: nn.Module, how: Preprocessing, input: Input, *, maps: bool = False) -> nn.Module:
    """A copy of the network with BN folded, and before it what makes images into input: images -> logits (and maps)."""
    folded = fold(net).net.float().cpu()
    if maps:
        assert isinstance(folded, Network)
        folded = _WithMaps(folded)
    before: nn.Module = (
        {"photographs": Fitted, "crops": Normalised}[input](how) if input != "tensors" else nn.Identity()
    )
    return nn.Sequential(before, folded).eval()


def example(spec: AnyNet, how: Preprocessing, input: Input) -> Tensor:
    """Two images of the kind that a network is exported for."""
    height, width = how.crop
    if input == "tensors":
        return torch.zeros(2, spec.in_channels, height, width)
    more = 8 if input == "photographs" else 0  # of no size that anything could be held to
    return torch.zeros(2, height + more, width + 2 * more, spec.in_channels, dtype=torch.uint8)


@torch.no_grad()
def program_of(
    net: nn.Module, spec: AnyNet, how: Preprocessing, input: Input, *, maps: bool = False
) -> ExportedProgram:
    """The graph of a network, from images (as ``input`` says) to logits (N, classes), and ``maps`` if they are wanted.

    Raises `InputError` for a network whose code `torch.export` cannot follow, and one that takes no images.
    """
    if spec.size == (1, 1):
        raise InputError(f"'{spec.name}' takes vectors; only networks that take images can be exported")
    if how.mean_size not in (None, how.crop):
        raise InputError(f"a mean image of {how.mean_size} cannot be used with a crop of {how.crop}")
    dims: dict[int, Any] = {0: Dim("batch")}
    if input == "photographs":
        dims |= {1: Dim("height"), 2: Dim("width")}
    try:
        return torch.export.export(
            deployed(net, how, input, maps=maps), (example(spec, how, input),), dynamic_shapes=(dims,), strict=False
        )  # fmt: skip
    except Exception as why:  # of another library's code, anything
        raise InputError(
            f"'{spec.name}' cannot be exported: torch.export cannot follow its code ({first_line(why)})"
        ) from why


def write_torch(program: ExportedProgram, folder: Path, said: Mapping[str, str]) -> None:
    """Writes the archive of ``torch.export.save``."""
    more = {f"reslab/{name}": text for name, text in said.items()}
    torch.export.save(program, folder / FILES["torch"], extra_files=more)


def onnx_of(program: ExportedProgram, said: Mapping[str, str]) -> Any:
    """The program as an `onnx.ModelProto`, checked."""
    onnx = library("onnx")
    library("onnxscript")
    names = [OUT, MAPS][: len(program.graph_signature.user_outputs)]
    made = torch.onnx.export(
        program, (), dynamo=True, opset_version=OPSET, input_names=[IN], output_names=names, verbose=False,
        external_data=False,
    )  # fmt: skip
    assert made is not None
    model = made.model_proto
    _tidy(model)
    for name, text in said.items():
        model.metadata_props.add(key=f"reslab.{name}", value=text)
    onnx.checker.check_model(model, full_check=True)
    return model


def _tidy(model: Any) -> None:
    """Names the sizes that vary, and takes out where in whose folders each step was written down."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    names: dict[str, str] = {}
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, ("batch", "height", "width"), strict=False):
        if dim.dim_param:
            names[dim.dim_param] = name
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def write_onnx(model: Any, folder: Path) -> None:
    """Writes an `onnx.ModelProto`."""
    library("onnx").save_model(model, folder / FILES["onnx"])


def openvino_of(model: Any) -> Any:
    """An `onnx.ModelProto` as an `openvino.Model`."""
    level, filters = logging.root.level, list(logging.root.filters)
    try:
        return library("openvino").convert_model(BytesIO(model.SerializeToString()))
    finally:  # a conversion that fails would leave all of the process's warnings unsaid
        logging.root.setLevel(level)
        logging.root.filters[:] = filters


def write_openvino(model: Any, folder: Path, said: Mapping[str, str]) -> None:
    """Writes OpenVINO's IR: ``model.xml``, and its weights in fp32 beside it."""
    for name, text in said.items():
        model.set_rt_info(text, ["reslab", name])
    library("openvino").save_model(model, folder / FILES["openvino"], compress_to_fp16=False)
