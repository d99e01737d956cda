"""Where commands are tried: in an empty folder, with 80 columns."""

import pytest
import torch

from reslab.compiled import cache_folder

KERNELS = cache_folder()
"""Where they were compiled before."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default folders of runs lie below the current one; what is cached lies elsewhere."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    cache = tmp_path_factory.mktemp("cache")
    KERNELS.mkdir(parents=True, exist_ok=True)
    (cache / "kernels").symlink_to(KERNELS)  # a command in a process of its own need not compile them again
    monkeypatch.setenv("RESLAB_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "80")
    torch.set_num_threads(1)
