"""Events, read back by TensorBoard itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reslab.train.tensorboard import Events


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_points_are_read_back(tmp_path: Path) -> None:
    with Events(tmp_path, 0) as events:
        events.add(100, {"iteration": 100, "lr": 0.5, "train_error": 25, "test_error": None, "name": "x"})
        events.add(200, {"iteration": 200, "lr": 0.25, "test_error": 50.0})
    assert scalars(tmp_path) == {
        "lr": [(100, 0.5), (200, 0.25)],
        "train_error": [(100, 25.0)],
        "test_error": [(200, 50.0)],
    }


@pytest.mark.parametrize("begins", [0, 100])
def test_a_resumed_run_replaces_what_came_after_its_checkpoint(begins: int, tmp_path: Path) -> None:
    with Events(tmp_path, 0) as events:
        for at in (100, 200, 300):
            events.add(at, {"lr": 1.0})
    with Events(tmp_path, begins) as events:
        for at in (200, 300):
            events.add(at, {"lr": 2.0})
    assert scalars(tmp_path)["lr"] == [(100, 1.0)] * (begins > 0) + [(200, 2.0), (300, 2.0)]


def test_nothing_is_lost_by_a_kill_and_nothing_made_without_a_point(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from reslab.train.tensorboard import Events\n"
        "events = Events(Path(sys.argv[1]), 0); events.add(7, {'lr': 0.5}); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run((sys.executable, "-c", code, str(tmp_path)), env={**os.environ})
    assert done.returncode == -9
    assert scalars(tmp_path) == {"lr": [(7, 0.5)]}
    with Events(tmp_path / "none", 0):
        pass
    assert not (tmp_path / "none").exists()
