"""A network written for other runtimes computes there what it computed here, on images of any size and number."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from deploy.conftest import CLASSES, HOW, Exported
from deploy.test_preprocess import photograph
from reslab.data.decode.whole import Fit, fitted_image
from reslab.data.transforms import Normalizer
from reslab.deploy.artefact import Input, RuntimeName
from reslab.deploy.export import OPSET, program_of
from reslab.deploy.runtimes import Batch, Logits, Way, open_runtime, opened, quickest
from reslab.errors import InputError
from reslab.nets import build
from reslab.nets.network import Network

Pixels = npt.NDArray[np.uint8]
Get = Callable[..., Exported]


@torch.no_grad()
def seen(net: Network, images: list[Pixels]) -> tuple[Batch, Logits]:
    """What the lab makes of photographs: input fp32 (N, C, H, W) and logits."""
    fit = Fit(HOW.crop, HOW.resize, HOW.interpolation)
    crops = np.stack([np.asarray(fitted_image(Image.fromarray(image), fit)) for image in images])
    x = Normalizer.from_values(HOW.mean, HOW.std)(torch.from_numpy(crops).permute(0, 3, 1, 2))
    return x.numpy(), net(x).numpy()


@pytest.mark.parametrize("runtime", get_args(RuntimeName))
@pytest.mark.parametrize("kind", get_args(Input))
def test_every_runtime_says_what_the_network_says(exported: Get, kind: Input, runtime: RuntimeName) -> None:
    made = exported(kind)
    computed = open_runtime(made.artefact, runtime, threads=1)
    for count, height, width in ((1, 40, 60), (3, 71, 44), (7, 32, 32), (1, 20, 20), (2, 9, 50)):
        images = [np.roll(photograph(height, width), i, axis=1) for i in range(count)]
        x, expected = seen(made.net, images)
        batch: Batch = x.copy()
        if kind == "photographs":
            batch = np.stack(images)
        elif kind == "crops":
            mean, std = (np.array(value).reshape(3, 1, 1) for value in (HOW.mean, HOW.std))
            pixels: npt.NDArray[np.uint8] = np.rint((x * std + mean) * 255).astype(np.uint8)
            batch = pixels.transpose(0, 2, 3, 1).copy()
        found = computed.logits(batch)
        assert found.shape == (count, len(CLASSES))
        assert found.dtype == np.float32
        # A pixel in some hundred of a photograph is rounded the other way.
        within = 0.05 if kind == "photographs" else 1e-4
        assert np.abs(found - expected).max() <= within * np.abs(expected).max()


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_bf16(exported: Get, runtime: RuntimeName) -> None:
    made = exported("photographs")
    computed = open_runtime(made.artefact, runtime, precision="bf16", threads=1)
    assert computed.precision == "bf16"
    image = photograph(301, 200)  # more pixels than bf16 can count
    _, expected = seen(made.net, [image])
    found = computed.logits(image[None])
    assert np.abs(found - expected).max() <= 0.15 * np.abs(expected).max()


@pytest.mark.parametrize("maps", [False, True])
def test_parts_of_a_batch_are_computed_apart(exported: Get, maps: bool) -> None:
    made = exported("crops", maps)
    runtime = open_runtime(made.artefact, "openvino", threads=2)
    if runtime._threads == 1:  # type: ignore[attr-defined]
        pytest.skip("OpenVINO sees one core here")
    batch = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    alone = [runtime.with_maps(batch[i : i + 1]) if maps else (runtime.logits(batch[i : i + 1]),) for i in range(9)]
    for count, parts in ((3, 0), (4, 2), (5, 2), (9, 2), (1, 2)):
        found = runtime.with_maps(batch[:count]) if maps else (runtime.logits(batch[:count]),)
        for output, each in enumerate(found):
            expected = np.concatenate([one[output] for one in alone[:count]])
            assert each.shape == expected.shape
            np.testing.assert_allclose(each, expected, atol=1e-4)
        assert len(runtime._apart) == parts  # type: ignore[attr-defined]


def test_files_say_what_they_are(exported: Get) -> None:
    artefact = exported("photographs").artefact
    onnx, openvino = pytest.importorskip("onnx"), pytest.importorskip("openvino")
    model = onnx.load(artefact.file("onnx"))
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["reslab.classes"]) == list(CLASSES)
    assert json.loads(said["reslab.preprocessing"])["resize"] == HOW.resize
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch", "height", "width", 3,
    ]  # fmt: skip
    assert [entry.version for entry in model.opset_import if not entry.domain] == [OPSET]
    assert "reslab/deploy" not in str(model.graph)  # no word of the folders that it was made in
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    ir = openvino.Core().read_model(artefact.file("openvino"))
    assert json.loads(ir.get_rt_info(["reslab", "classes"]).astype(str)) == list(CLASSES)
    more = {"reslab/net": ""}
    torch.export.load(artefact.file("torch"), extra_files=more)
    assert more["reslab/net"] == exported("photographs").net.spec.name


def test_the_quickest_of_those_that_passed(exported: Get) -> None:
    artefact = exported("crops").artefact
    found = quickest(artefact, threads=1, moment=0.05)
    assert set(found.tried) == {"openvino fp32", "onnxruntime fp32", "torch fp32"}
    best = max(found.tried, key=lambda name: float(found.tried[name]))
    assert found.words().startswith(best)
    assert set(quickest(artefact, precisions=("bf16",), moment=0.05).tried) == {"openvino bf16", "torch bf16"}
    refused = tuple(row.model_copy(update={"refused": "too slow"}) for row in artefact.about.gate)
    object.__setattr__(artefact, "about", artefact.about.model_copy(update={"gate": refused}))
    with pytest.raises(InputError, match=r"no runtime passed the checks .*openvino fp32: too slow"):
        quickest(artefact)


def test_a_runtime_without_rivals_is_not_timed(exported: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = exported("crops").artefact
    about = artefact.about
    only = about.model_copy(update={"gate": tuple(row for row in about.gate if row.runtime == "onnxruntime")})
    monkeypatch.setattr("reslab.deploy.runtimes._seconds", None)
    found = quickest(replace(artefact, about=only), threads=1)
    assert found.runtime.name == "onnxruntime"
    assert found.words() == "onnxruntime fp32, the only one that can be chosen"


def test_what_an_artefact_cannot_do(exported: Get) -> None:
    artefact = exported("crops").artefact
    with pytest.raises(InputError, match="cannot be computed by onnxruntime bf16; it can by openvino fp32, openvino"):
        open_runtime(artefact, "onnxruntime", precision="bf16")
    damaged = artefact.folder.with_name("damaged.onnx")
    damaged.write_bytes(artefact.file("onnx").read_bytes()[:100])
    with pytest.raises(InputError, match=r"damaged.onnx cannot be opened by onnxruntime: "):
        opened(damaged, Way("onnxruntime", "fp32"))


def test_vectors_are_no_images() -> None:
    net = build("mlp(depth=6, width=8, layers=2)", in_channels=5)
    with pytest.raises(InputError, match="takes vectors; only networks that take images"):
        program_of(net, net.spec, HOW, "crops")


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_other_runtimes_do_without_torch(exported: Get, runtime: RuntimeName) -> None:
    code = (
        "import sys; from reslab.deploy.artefact import read\n"
        "from reslab.deploy.runtimes import example, open_runtime\n"
        f"artefact = read({str(exported('photographs').artefact.folder)!r})\n"
        f"print(open_runtime(artefact, {runtime!r}).logits(example(artefact.about, 2)).shape, 'torch' in sys.modules)"
    )
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 4) False\n"
