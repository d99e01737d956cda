"""No command leaves a process behind, however it ends: counted by a mark in the environment, which children inherit."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from reslab.processes import leaving_interrupts_here

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are counted by /proc")

NET = "cifar_resnet(depth=8, width=4, size=(8, 8))"
BENCH = ("bench", "data", "--net", NET, "-b", "4", "--against", "torchvision", "--peer", "default", "-j", "2")
GRACE = 20.0
"""Seconds in which the last has to be gone."""


def marked(mark: str) -> dict[int, str]:
    """The command lines of all processes with a mark, zombies left out."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if words:
                    found[int(folder.name)] = words
        except OSError:
            pass  # it has gone meanwhile
    return found


class Marked:
    """A process whose descendants can be told."""

    def __init__(self, *words: str, cwd: Path) -> None:
        self.mark = f"RESLAB_TEST_MARK={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        environment = {**os.environ, name: value}
        self.child = subprocess.Popen(
            [sys.executable, *words], cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def wait_for(self, count: int, within: float = 120.0) -> None:
        """Until so many processes are there."""
        until = time.monotonic() + within
        while len(marked(self.mark)) < count:
            assert self.child.poll() is None, self.child.stderr and self.child.stderr.read().decode()
            assert time.monotonic() < until, marked(self.mark)
            time.sleep(0.05)

    def left(self) -> dict[int, str]:
        """Those that are still there after the time of grace; they are killed."""
        until = time.monotonic() + GRACE
        while (found := marked(self.mark)) and time.monotonic() < until:
            time.sleep(0.05)
        for process in found:
            os.kill(process, signal.SIGKILL)
        if self.child.stderr is not None:
            self.child.stderr.close()  # which the test would else be told of
        return found


def test_after_a_normal_end(tmp_path: Path) -> None:
    command = Marked("-m", "reslab", *BENCH, "--rounds", "1", "--turn", "0.01", cwd=tmp_path)
    assert command.child.wait(120) == 0
    assert command.left() == {}


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ended_in_the_midst(tmp_path: Path, sent: signal.Signals) -> None:
    command = Marked("-m", "reslab", *BENCH, "--rounds", "1000", "--turn", "0.1", cwd=tmp_path)
    command.wait_for(7)  # itself, a server that forks, its tracker, ours, the peer's and two workers
    command.child.send_signal(sent)
    assert command.child.wait(30) != 0
    assert command.left() == {}


LOADS = """
import torch
from reslab.processes import ending_with_this
data = list(range(10**6))
for _ in torch.utils.data.DataLoader(data, 2, num_workers=2, worker_init_fn=ending_with_this()):
    pass
"""
THREAD = """
import multiprocessing, sys, time
from reslab import processes
processes.sys = type("Other", (), {"platform": "another"})  # where the kernel does not do it
def work():
    processes.end_with_parent()
    time.sleep(1000)
multiprocessing.get_context("fork").Process(target=work).start()
"""


@pytest.mark.parametrize(("code", "count"), [(LOADS, 3), (THREAD, 2)], ids=["workers of a loader", "without prctl"])
def test_children_end_with_their_parent(tmp_path: Path, code: str, count: int) -> None:
    process = Marked("-c", code, cwd=tmp_path)
    process.wait_for(count)
    process.child.kill()
    process.child.wait(30)
    assert process.left() == {}


BLOCKED = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


def test_an_interrupt_is_left_to_the_parent() -> None:
    """A terminal sends Ctrl-C to all; children that are still importing would print where it met them."""
    with leaving_interrupts_here():
        inside = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True)
    outside = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True)
    assert (inside.stdout, outside.stdout) == ("True\n", "False\n")
