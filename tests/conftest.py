"""What tests of several rooms share: the command line called in this process, as a terminal would call it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Reslab = Callable[..., tuple[int, str, str]]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a core to itself; threads that wait for each other across workers take ten times as long.
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    """Threads and deterministic kernels are settings of the whole process; a command that sets them must not leak."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    yield
    if torch := sys.modules.get("torch"):
        if torch.are_deterministic_algorithms_enabled():  # setting it, even to False, imports the compiler
            torch.use_deterministic_algorithms(False)
        if threads is not None:
            torch.set_num_threads(threads)


@pytest.fixture
def reslab(capsys: pytest.CaptureFixture[str]) -> Reslab:
    """Runs ``reslab WORDS``; returns exit code, stdout and stderr."""
    from reslab.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code: object = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reslab]:
    """Runs ``reslab WORDS`` in a process of its own, which can be killed; returns exit code and all output.

    Keywords: ``stop`` (when, and by which signal) and ``fsize``, as `tests/forge.py` says.
    """
    log = tmp_path_factory.mktemp("forge") / "log"
    command = (sys.executable, str(Path(__file__).with_name("forge.py")))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        orders, answers = process.stdin, process.stdout
        assert json.loads(answers.readline()) == "ready"

        def run(*words: object, **order: Any) -> tuple[int, str, str]:
            orders.write(json.dumps({"words": [str(word) for word in words], "log": str(log), **order}) + "\n")
            orders.flush()
            code = json.loads(answers.readline())
            text = log.read_text() if log.exists() else ""
            return code, text, text

        yield run
        orders.close()
        process.wait(60)
