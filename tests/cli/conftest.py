"""Where commands are tried: in an empty folder, with 80 columns."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default folders of runs lie below the current one; what is cached lies elsewhere."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    monkeypatch.setenv("RESLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "80")
    torch.set_num_threads(1)
