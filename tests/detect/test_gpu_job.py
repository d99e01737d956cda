"""The GPU agenda's comparison of backbones, rehearsed on the CPU."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from . import pictures

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_detectors_are_rehearsed(tmp_path: Path) -> None:
    boxes = pictures.voc(tmp_path / "cells", {"train": pictures.squares(4), "test": pictures.squares(2, 6)})
    words = [
        sys.executable, str(BENCHMARKS / "gpu.py"), "--rehearse", "--only", "detection-backbones", "--out",
        str(tmp_path), "--runs", str(tmp_path / "runs"),
    ]  # fmt: skip
    said = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "needs images with boxes: --boxes PATH" in said
    subprocess.run([*words, "--boxes", str(boxes)], capture_output=True, text=True, timeout=120, check=True)
    found = json.loads((tmp_path / "detection-backbones.json").read_text())
    assert [row["result"]["iterations"] for row in found["networks"].values()] == [2, 2]
    assert "not decided" in found["compared"][0]  # one seed


def test_both_networks_have_one_recipe() -> None:
    spec = importlib.util.spec_from_file_location("gpu_detection", BENCHMARKS / "gpu_detection.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vgg, resnet = (module.recipe(net, ("a",)) for net in module.NETS)
    assert (vgg.detector.net.name, resnet.detector.net.name) == ("vgg16-bn", "resnet101")
    assert vgg.detector.model_copy(update={"net": resnet.detector.net}) == resnet.detector
    assert vgg.model_copy(update={"detector": resnet.detector}) == resnet
