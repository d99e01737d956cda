"""What the tests of fine-tuning begin from."""

from pathlib import Path

import pytest

from .pictures import weights


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn weights of a small network; they are read only."""
    return weights(tmp_path_factory.mktemp("weights") / "start.safetensors")
