"""However a command ends, none of its processes outlives it."""

import signal
import sys
import time
from pathlib import Path

import pytest

from .processes import command, left_behind, marked
from .sample import TINY, ours, photos

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are counted in /proc")

PHOTOS = ("--data", "photos", "--workers", 2, "--size", 32, "-b", 8, "--threads", 1, "--device", "cpu")


def _training(iterations: int) -> tuple[object, ...]:
    photos("photos/train", "a", "b", count=12, size=(64, 48))
    photos("photos/val", "a", "b", count=4, size=(64, 48))
    return ("train", "modern_imagenet", "--net", TINY, *PHOTOS, "--iterations", iterations, "--out", "run")


@pytest.mark.parametrize("end", ["normal", signal.SIGTERM, signal.SIGKILL])
def test_of_a_training_nothing_is_left(end: str | signal.Signals) -> None:
    words = _training(2 if end == "normal" else 100_000)
    with command(*words, log=Path("log")) as (process, mark):
        if end == "normal":
            assert process.wait(120) == 0, Path("log").read_text()
        else:
            until = time.monotonic() + 60
            while not Path("run/metrics.jsonl").exists() or len(marked(mark)) < 3:
                assert time.monotonic() < until, Path("log").read_text()
                assert process.poll() is None, Path("log").read_text()
                time.sleep(0.05)
            assert isinstance(end, signal.Signals)
            process.send_signal(end)
            assert process.wait(60) in (130, -signal.SIGKILL), Path("log").read_text()
        assert left_behind(mark) == []


@pytest.mark.parametrize("end", ["normal", signal.SIGTERM])
def test_of_an_evaluation_nothing_is_left(end: str | signal.Signals) -> None:
    ours("w.safetensors", num_classes=2)
    photos("photos", "a", "b", count=40 if end == "normal" else 2000, size=(64, 48))
    words = ("eval", "w.safetensors", "--data", "photos", "--split", "all", "--damaged", 0.1, "--threads", 1)
    how = ("--mean", 0.5, 0.5, 0.5, "--std", 0.2, 0.2, 0.2, "-b", 4, "--crop", 32, "--resize", 40)
    more = (*how, "--protocol", "ten-crop")
    with command(*words, *more, log=Path("log")) as (process, mark):
        if end == "normal":
            assert process.wait(200) == 0, Path("log").read_text()
        else:
            until = time.monotonic() + 60
            while "protocol" not in Path("log").read_text():
                assert time.monotonic() < until
                assert process.poll() is None, Path("log").read_text()
                time.sleep(0.05)
            assert isinstance(end, signal.Signals)
            process.send_signal(end)
            process.wait(30)
        assert left_behind(mark) == []
