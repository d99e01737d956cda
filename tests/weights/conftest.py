"""The catalogue's names and shapes, which several tests go through."""

from collections.abc import Mapping

import pytest
from torch import Tensor

from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.network import Network

from .sample import on_nothing

NAMES = tuple(name for name in CATALOG if not any(depth in name for depth in ("1001", "1202")))
"""All but the huge ones."""


@pytest.fixture(scope="session")
def states() -> Mapping[str, Mapping[str, Tensor]]:
    """The state dict of each network, without numbers."""
    return {name: on_nothing(lambda name=name: Network(resolve(name))) for name in NAMES}  # type: ignore[misc]
