"""Every network that timm has too computes there what it computes here."""

from collections.abc import Callable

import pytest
from torch import nn

from reslab.weights.export import PEERS

from .pairs import assert_equal

timm = pytest.importorskip("timm", reason="timm is an extra: pip install 'reslab[compare]'")


@pytest.mark.parametrize("name", PEERS["timm"])
def test_parity(name: str) -> None:
    make: Callable[[str], nn.Module] = timm.create_model
    assert_equal(name, "timm", make)
