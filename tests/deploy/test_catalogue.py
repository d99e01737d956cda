"""Every network that has a name: BN folded, and written for another runtime, it computes the same."""

from typing import Any

import numpy as np
import pytest
import torch

from deploy.networks import NAMES, distinct, images, of_catalogue
from deploy.test_fold import apart
from reslab.deploy.export import onnx_of, program_of
from reslab.nets.catalog import resolve_any
from reslab.weights.preprocessing import Preprocessing

HOW = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1), crop=(32, 32))


@pytest.mark.parametrize("name", NAMES)
def test_folded(name: str) -> None:
    net = of_catalogue(name)
    assert apart(net, images()) <= 1e-5


@pytest.mark.parametrize("name", distinct())
def test_exported(name: str) -> None:
    for library in ("onnx", "onnxscript"):
        pytest.importorskip(library, reason="the extra [deploy] is not installed")
    ort: Any = pytest.importorskip("onnxruntime", reason="the extra [deploy] is not installed")
    net = of_catalogue(name)
    model = onnx_of(program_of(net, resolve_any(name), HOW, "tensors"), {})
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), settings)
    for count in (1, 3):
        x = images(count)
        with torch.no_grad():
            expected = net(x).numpy()
        [found] = session.run(None, {"images": x.numpy()})
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
