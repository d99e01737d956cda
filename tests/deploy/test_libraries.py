"""What the libraries for deployment are kept from."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from reslab.deploy.export import openvino_of
from reslab.deploy.libraries import library


def test_nothing_is_reported_to_their_makers() -> None:
    """Each conversion sent 15 messages over the network, each from a process forked for it."""
    pytest.importorskip("openvino", reason="the extra [deploy] is not installed")
    pytest.importorskip("nncf", reason="the extra [deploy] is not installed")
    library("openvino")
    library("nncf")
    senders = [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
    assert not senders
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_a_conversion_that_fails_leaves_warnings_to_be_said() -> None:
    """OpenVINO asks for errors alone while it converts, of the whole process, and takes it back where it succeeds."""
    for name in ("onnx", "openvino"):
        pytest.importorskip(name, reason="the extra [deploy] is not installed")
    make = library("onnx").helper
    x, y = (make.make_tensor_value_info(name, 1, [1]) for name in "xy")
    model = make.make_model(make.make_graph([make.make_node("Unknown", ["x"], ["y"])], "graph", [x], [y]))
    before = logging.root.level, list(logging.root.filters)
    with pytest.raises(Exception, match="Unknown"):
        openvino_of(model)
    assert (logging.root.level, logging.root.filters) == before
    assert logging.getLogger("reslab").isEnabledFor(logging.WARNING)


SIGNALLED = """
import os, signal, sys
import numpy as np
from reslab.deploy.libraries import one_openvino_core
from reslab.deploy.runtimes import _OpenVino
import openvino as ov
x = ov.opset13.parameter([-1, 3], np.float32)
ov.save_model(ov.Model([ov.opset13.relu(x)], [x]), "m.xml")
first = _OpenVino("m.xml", "fp32", 1)
with one_openvino_core():  # as of another library
    second = ov.Core().compile_model("m.xml", "CPU")
del first
del second
signal.signal(signal.SIGUSR1, lambda *_: print("came"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_after_two_networks_by_openvino(tmp_path: Path) -> None:
    """With a core of each, the stack for signals was left to one that had been freed, and the process was ended."""
    pytest.importorskip("openvino", reason="the extra [deploy] is not installed")
    done = subprocess.run([sys.executable, "-c", SIGNALLED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "came\n"), done.stderr
