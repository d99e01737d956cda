"""What the libraries for deployment are kept from."""

import sys

import pytest

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
