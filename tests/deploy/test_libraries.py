"""What the libraries for deployment are kept from."""

import logging
import sys

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
