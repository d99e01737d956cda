"""A detector leaves the lab: the same boxes by ONNX Runtime and OpenVINO, or nothing is written."""

import json
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor

from reslab.detect.annotations.types import Box, Picture
from reslab.detect.detections import Detections
from reslab.detect.find import find
from reslab.detect.gate import check
from reslab.detect.networks import build_detector
from reslab.detect.saved import load_detector
from reslab.detect.spec import DetectorSpec
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any

from . import pictures

pytest.importorskip("onnxruntime", reason="no ONNX Runtime: pip install 'reslab[deploy]'")
pytest.importorskip("onnxscript", reason="no onnxscript: pip install 'reslab[deploy]'")

from reslab.deploy.runtimes import Way
from reslab.detect.export import write_onnx, write_openvino
from reslab.detect.runtimes import Finder, OnnxDetector, OpenVinoDetector

Reslab = Callable[..., tuple[int, str, str]]
SIZES = ((40, 60), (90, 50), (33, 47), (100, 37), (1, 300), (300, 2), (40, 40))
"""Enlarged, made smaller, both sides odd, long and narrow: sizes that the trace has not seen."""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for number, size in enumerate(SIZES):
        boxes = [("cat", 2, 2, 20, 20)] if min(size) > 20 else []
        pictures.picture(tmp_path / f"photographs/{number}.png", boxes, size, seed=number)
    return tmp_path / "photographs"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the one artefact of these tests lies, once it was written."""
    return tmp_path_factory.mktemp("exported") / "art"


@pytest.fixture
def artefact(exported: Path, weights: Path, photographs: Path, tmp_path: Path, reslab: Reslab) -> Path:
    """A copy, to do with as one likes."""
    if not exported.exists():
        code, text, said = reslab("export", weights, "--data", photographs, "--out", exported, "--no-speed")
        assert code == 0, said + text
        assert text.startswith("onnxruntime fp32: passed; 100.0 % of ")
    return Path(shutil.copytree(exported, tmp_path / "art"))


@pytest.mark.parametrize(
    ("net", "kind", "more"),
    [
        ("cifar_resnet(depth=8)", "fpn", {"norm": "group", "context": True}),
        ("cifar_resnet(depth=8)", "localise", {}),
        pytest.param("cifar_resnet(depth=8)", "fpn", {}, marks=pytest.mark.slow),
        pytest.param("resnet18", "c4", {}, marks=pytest.mark.slow),
        pytest.param("resnet18", "c4", {"context": True}, marks=pytest.mark.slow),
    ],
)
def test_the_same_boxes_of_pictures_of_any_size(net: str, kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    sides = (8, 16, 32, 64) if kind == "fpn" else (16, 32)
    made = build_detector(
        DetectorSpec.model_validate(
            {"net": resolve_any(net), "classes": ("a", "b"), "kind": kind, "short": 40, "long": 60, "anchors": sides}
            | more
        )
    )
    made.eval()
    write_onnx(made, tmp_path / "d.onnx")
    random = torch.Generator().manual_seed(1)
    shown = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=random) for size in SIZES]
    files: list[Finder] = [OnnxDetector(tmp_path / "d.onnx", threads=1)]
    if find_spec("openvino") is not None:
        write_openvino(tmp_path / "d.onnx", tmp_path / "d.xml")
        files.append(OpenVinoDetector(tmp_path / "d.xml", threads=1))
    for export in files:
        seen = check(lambda some: find(made, some), export.find, shown, speed=False)
        assert seen.boxes > (len(SIZES) if kind == "localise" else 100)
        assert seen.agreement == 100
        assert seen.largest_difference < 1e-4
        assert seen.refused == ""


def of(*rows: tuple[float, ...]) -> Callable[[Sequence[Tensor]], list[Detections]]:
    """Finds these boxes in each picture: four edges, a score, a class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return lambda some: [Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64)) for _ in some]


ONE, TWO = (0.0, 0.0, 10.0, 10.0, 0.9, 0.0), (20.0, 20.0, 40.0, 30.0, 0.6, 1.0)


@pytest.mark.parametrize(
    ("export", "agreement"),
    [
        ((ONE, TWO), 100),
        ((ONE, (*TWO[:4], 0.64, 1)), 100),
        ((ONE, (*TWO[:4], 0.66, 1)), 50),
        ((ONE, (*TWO[:5], 0)), 50),
        ((ONE, (24, 20, 44, 30, 0.6, 1)), 50),
        ((ONE,), 200 / 3),
        ((ONE, TWO, (50, 50, 60, 60, 0.2, 0)), 80),
        ((ONE, TWO, (50, 50, 60, 60, 0.06, 0)), 100),
        ((), 0),
    ],
)  # fmt: skip
def test_what_the_gate_lets_out(export: tuple[tuple[float, ...], ...], agreement: float) -> None:
    seen = check(of(ONE, TWO), of(*export), [torch.zeros(3, 60, 60, dtype=torch.uint8)] * 2, speed=False)
    assert seen.agreement == pytest.approx(agreement)
    assert (seen.refused == "") == (agreement == 100)


TRUTH = Picture(
    "a", Path("a.png"), 60, 60, (Box(0, 0, 0, 10, 10), Box(1, 20, 20, 40, 30)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("export", "truth", "points", "said"),
    [
        ((ONE, (*TWO[:4], 0.7, 1)), (TRUTH, TRUTH), 0, ""),
        ((ONE, (*TWO[:4], 0.7, 1)), (), None, "a mAP@[.5:.95] that falls by at most 0.5 points"),
        ((ONE,), (TRUTH, TRUTH), -50, "mAP@[.5:.95] may have fallen by 50.00 points, at most 0.5 are allowed"),
        ((ONE, (24, 20, 44, 30, 0.6, 1)), (TRUTH, TRUTH), -30, "fallen by 30.00 points"),
    ],
)
def test_in_bf16_average_precision_decides(
    export: tuple[tuple[float, ...], ...], truth: tuple[Picture, ...], points: float | None, said: str
) -> None:
    shown = [torch.zeros(3, 60, 60, dtype=torch.uint8)] * 2
    words: dict[str, Any] = {"truth": truth, "speed": False}
    seen = check(of(ONE, TWO), of(*export), shown, way=Way("openvino", "bf16"), **words)
    assert (seen.runtime, seen.precision) == ("openvino", "bf16")
    assert (seen.gain and seen.gain.points) == (None if points is None else pytest.approx(points))
    assert said in seen.refused
    assert bool(seen.refused) == bool(said)
    fp32 = check(of(ONE, TWO), of(*export), shown, way=Way("openvino", "fp32"), **words)
    assert fp32.gain is None
    assert "99 % are required" in fp32.refused


def test_where_nothing_is_found_nothing_is_compared() -> None:
    seen = check(of(), of(), [torch.zeros(3, 9, 9, dtype=torch.uint8)], speed=False)
    assert "no boxes were found in 1 images" in seen.refused


def test_a_slower_one_is_refused() -> None:
    def slowly(some: Sequence[Tensor]) -> list[Detections]:
        end = torch.zeros(())
        for _ in range(300):
            end = end + 1
        return of(ONE)(some)

    shown = [torch.zeros(3, 60, 60, dtype=torch.uint8)]
    assert check(of(ONE), slowly, shown).refused.startswith("slower: 0.")
    assert check(slowly, of(ONE), shown).refused == ""


def test_weights_that_differ_are_refused(
    weights: Path, photographs: Path, tmp_path: Path, reslab: Reslab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(detector: object, path: Path) -> None:
        changed = load_detector(weights)
        for parameter in changed.model.roi_heads.box_predictor.parameters():
            parameter.data.add_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
        write_onnx(changed, path)

    monkeypatch.setattr("reslab.commands.export_detector.write_onnx", other)
    words = ("export", weights, "--data", photographs, "--out", tmp_path / "art", "--no-speed", "--json")
    code, text, _ = reslab(*words)
    assert code == 1
    assert "% of the boxes are the same, 99 % are required" in json.loads(text)["gate"][0]["refused"]
    assert json.loads(text)["written"] == []
    assert not (tmp_path / "art").exists()
    assert reslab(*words, "--force")[0] == 0
    assert (tmp_path / "art/model.onnx").exists()


def test_an_artefact_where_a_detector_is_taken(
    artefact: Path, weights: Path, photographs: Path, reslab: Reslab
) -> None:
    def found(source: Path) -> list[dict[str, object]]:
        code, text, said = reslab("detect", "predict", source, photographs, "--json", "--score", 0, "--threads", 1)
        assert code == 0, said
        made: list[dict[str, object]] = json.loads(text)["annotations"]
        return made

    ours, theirs = found(weights), found(artefact)
    assert [each["category_id"] for each in ours] == [each["category_id"] for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert other["bbox"] == pytest.approx(one["bbox"], abs=0.01)
    data = pictures.voc(photographs.parent / "cells", {"test": pictures.squares(2, 6)})
    figures = [
        json.loads(reslab("detect", "eval", source, data, "--json", "--resamples", 0)[1])
        for source in (weights, artefact)
    ]
    assert figures[0]["voc10"] == figures[1]["voc10"]
    assert figures[1]["precision"] == "fp32"


def test_an_artefact_behind_the_server(artefact: Path, photographs: Path) -> None:
    pytest.importorskip("fastapi", reason="no FastAPI: pip install 'reslab[serve]'")
    from starlette.testclient import TestClient

    from .test_served import prepared

    with TestClient(prepared(artefact).app) as client:
        answer = client.post("/v1/detect?score=0", files={"image": (photographs / "0.png").read_bytes()})
    assert answer.status_code == 200
    assert len(answer.json()["detections"][0]["boxes"]) > 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--short", 30), "--short 30 needs the weights"),
        (("--refine",), "--refine needs the weights"),
        (("--scales", 30, 40), "--scales needs the weights"),
        (("--precision", "bf16"), "computes in fp32; --precision bf16 needs an export --to openvino"),
    ],
)
def test_what_an_artefact_cannot_do(
    artefact: Path, photographs: Path, reslab: Reslab, words: tuple[object, ...], said: str
) -> None:
    code, _, text = reslab("detect", "predict", artefact, photographs, *words)
    assert (code, said in text) == (2, True)


def test_damage_is_found_and_a_classifier_is_asked_for_elsewhere(
    artefact: Path, photographs: Path, reslab: Reslab
) -> None:
    code, _, said = reslab("predict", artefact, photographs / "0.png")
    assert (code, "expected the artefact of a classifier, found that of a detector" in said) == (2, True)
    data = bytearray((artefact / "model.onnx").read_bytes())
    data[-9] ^= 1
    (artefact / "model.onnx").write_bytes(data)
    code, _, said = reslab("detect", "predict", artefact, photographs / "0.png")
    assert (code, "was altered since it was written" in said) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "torch"), "is a detector, which can be written as onnx and openvino"),
        (("--to", "onnx", "torch"), "is a detector, which can be written as onnx and openvino"),
        (("--int8",), "is a detector: leave out --int8"),
        (("--input", "crops"), "is a detector: leave out --input"),
        (("--crop", 32), "is a detector: leave out --mean, --std, --resize, --crop and --interpolation"),
        (("--split", "train"), "is a detector: leave out --split"),
        ((), "name real images by --data"),
        (("--data", "cifar10"), "expected an image or a folder of images at cifar10"),
    ],
)
def test_what_is_refused(weights: Path, tmp_path: Path, reslab: Reslab, words: tuple[object, ...], said: str) -> None:
    code, _, text = reslab("export", weights, "--out", tmp_path / "art", *words)
    assert (code, said in text) == (2, True), text
    assert not (tmp_path / "art").exists()


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be opened by onnxruntime"):
        OnnxDetector(tmp_path / "x.onnx")
    pytest.importorskip("openvino", reason="no OpenVINO: pip install 'reslab[deploy]'")
    (tmp_path / "x.xml").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be opened by openvino"):
        OpenVinoDetector(tmp_path / "x.xml")


def test_openvino_on_the_command_line(
    weights: Path, photographs: Path, tmp_path: Path, reslab: Reslab, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="no OpenVINO: pip install 'reslab[deploy]'")
    monkeypatch.setattr("reslab.detect.runtimes.has_bf16", lambda _: True)  # elsewhere it computes in fp32
    data = pictures.voc(photographs.parent / "cells", {"test": pictures.squares(2, 6)})
    art = tmp_path / "art"
    words = ("export", weights, "--to", "openvino", "--data", data, "--out", art, "--no-speed", "--threads", 1)
    code, text, said = reslab(*words, "--json")
    assert code == 0, said
    assert "model.onnx" not in [path.name for path in art.iterdir()]
    exact, rounded = json.loads(text)["gate"]
    assert (exact["runtime"], exact["precision"], exact["agreement"]) == ("openvino", "fp32", 100)
    assert (rounded["precision"], rounded["gain"] is None) == ("bf16", False)

    def found(source: Path, *more: object) -> list[dict[str, Any]]:
        code, text, said = reslab("detect", "predict", source, photographs, "--json", "--score", 0, *more)
        assert code == 0, said
        made: list[dict[str, Any]] = json.loads(text)["annotations"]
        return made

    for one, other in zip(found(weights), found(art), strict=True):
        assert other["bbox"] == pytest.approx(one["bbox"], abs=0.01)
    assert found(art, "--precision", "bf16")
    kept = found(art, "--precision", "auto")
    assert kept == (found(art) if rounded["refused"] else found(art, "--precision", "bf16"))


def test_openvino_leaves_boxes_in_fp32(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="no OpenVINO: pip install 'reslab[deploy]'")
    write_onnx(load_detector(weights), tmp_path / "d.onnx")
    write_openvino(tmp_path / "d.onnx", tmp_path / "d.xml")
    layers = ElementTree.parse(tmp_path / "d.xml").findall("./layers/layer")
    exact = {kind: [] for kind in ("Convolution", "MatMul", "ROIAlign", "Exp", "TopK")}  # type: dict[str, list[bool]]
    for layer in layers:
        if layer.get("type") in exact:
            marked = layer.find("./rt_info/attribute[@name='precise']") is not None
            exact[str(layer.get("type"))].append(marked)
    assert {kind: set(found) for kind, found in exact.items()} == {
        "Convolution": {False}, "MatMul": {False}, "ROIAlign": {True}, "Exp": {True}, "TopK": {True},
    }  # fmt: skip
