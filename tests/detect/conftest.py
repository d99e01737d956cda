"""A detector as a file, for tests of what becomes of it."""

from pathlib import Path

import pytest

from reslab.detect.networks import build_detector
from reslab.detect.saved import save_detector
from reslab.detect.spec import DetectorSpec
from reslab.nets.catalog import resolve_any


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of two classes, with random weights."""
    net = resolve_any("cifar_resnet(depth=8)")
    made = build_detector(
        DetectorSpec(net=net, classes=("cat", "dog"), short=40, long=60, anchors=(8, 16, 32, 64), channels=16)
    )
    save_detector(tmp_path / "d.safetensors", made)
    return tmp_path / "d.safetensors"
