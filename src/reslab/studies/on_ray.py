"""Runs of a study on a cluster, by Ray: each is a task; one whose worker is lost goes on from its last checkpoint."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from reslab.data.names import KNOWN
from reslab.data.sources import load
from reslab.errors import InputError
from reslab.runs import RunDir
from reslab.studies.plan import Planned
from reslab.studies.runner import Result, carry_out
from reslab.studies.store import Store, mirrored
from reslab.train.device import Execution

RETRIES = 20
"""Times that a run may lose its worker before the study is given up."""
FOLLOWED = ("env.json", "metrics.jsonl", "recipe.json")
"""Files of runs under way that are fetched from the store for the progress bar: a run that can be gone on with."""
LOCKED = 180.0
"""Seconds that a worker waits for a run which one that is lost still seems to hold, on a shared folder."""


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError("--on ray takes Ray, which is not installed: pip install 'reslab[scale]'") from None
    return ray


def _work(
    run: Planned, source: str, folder: str, store: str | None, execution: Execution, measured: str | None, cpus: int
) -> Result:
    """Runs in a worker, which has the data at the same path, and the folder too unless there is a store."""
    torch.set_num_threads(cpus)
    data = load(source)
    if store is None:
        _wait_for(RunDir(Path(folder) / run.name))
        return carry_out(run, data, source, Path(folder), execution, measured)
    with tempfile.TemporaryDirectory() as own:
        here = Path(own) / "runs"
        names = [run.name, *([run.after] if run.after else [])]
        with mirrored(Store(store), names, here):
            return carry_out(run, data, source, here, execution, measured)


def _wait_for(run: RunDir) -> None:
    """Until nobody holds the run: a file system may learn late that the machine of a lock is gone."""
    until = time.monotonic() + LOCKED
    while run.path.exists() and time.monotonic() < until:
        try:
            with run.lock():
                return
        except InputError:
            time.sleep(2.0)


class RayWorkers:
    """A Ray cluster as a place where runs are carried out."""

    def __init__(
        self, address: str, *, source: str, folder: Path, store: str | None, execution: Execution,
        measured: str | None, cpus: int = 1, said: Callable[[str], None],
    ) -> None:  # fmt: skip
        """
        Args:
            address: ``ray``, for the cluster that this machine belongs to or else one of its own, or ``ray://HOST:PORT``.
            source: of the data; a path has to lead to it on every machine.
            folder: where runs lie, on every machine unless there is a store.
            store: an address that all machines share; runs are then copied there and back.
            execution: device and mode; a run on CUDA takes a GPU.
            measured: what is measured of each run.
            cpus: that a run takes, and as many threads.
            said: told where the runs go.
        """
        self._ray = _ray()
        self._folder = folder.absolute()
        self._store = None if store is None else Store(store)
        if self._store is not None:
            self._store.check()
        where = source if source in KNOWN else str(Path(source).expanduser().resolve())
        self._rest = (where, str(self._folder), store, execution, measured, cpus)
        self._own = not self._ray.is_initialized()
        try:
            self._ray.init(
                address=None if address == "ray" else address, ignore_reinit_error=True, log_to_driver=False,
                logging_level="ERROR",
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"--on {address}: no cluster answers there ({str(error).splitlines()[0]})") from None
        have = self._ray.cluster_resources()
        gpus = 1 if execution.device.type == "cuda" else 0
        if have.get("CPU", 0) < cpus or have.get("GPU", 0) < gpus:
            raise InputError(
                f"a run takes {cpus} CPUs and {gpus} GPUs, the cluster has {have.get('CPU', 0):g} and "
                f"{have.get('GPU', 0):g}; give --cpus, or --device cpu"
            )
        self._task = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(_work)
        self._running: dict[Any, str] = {}
        said(f"Ray: {len(self._ray.nodes())} machines with {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs")

    def submit(self, run: Planned) -> None:
        """Puts a run in the queue."""
        if self._store is not None and run.after is not None:
            self._store.push(run.after, self._folder)  # it may have been made here, or taken over
        self._running[self._task.remote(run, *self._rest)] = run.name

    def finished(self, seconds: float) -> Sequence[tuple[str, Result]]:
        """Those that have ended."""
        over, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        if not over:
            self._follow()
        return [self._result(reference) for reference in over]

    def _result(self, reference: Any) -> tuple[str, Result]:
        name = self._running.pop(reference)
        try:
            result: Result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(f"{name}: {error.cause}") from None
            raise
        except self._ray.exceptions.RayError as error:
            raise InputError(
                f"{name} has lost its worker {RETRIES} times or cannot be placed ({type(error).__name__}); repeat the "
                "command to continue from its last checkpoint"
            ) from None
        if self._store is not None:
            self._store.pull(name, self._folder)
        return name, result

    def _follow(self) -> None:
        if self._store is not None:
            for name in self._running.values():
                self._store.pull(name, self._folder, only=FOLLOWED)

    def close(self, *, at_once: bool) -> None:
        """Leaves the cluster; ``at_once``, ending what is under way, which can be gone on with."""
        if at_once:
            for reference in self._running:
                self._ray.cancel(reference, force=True)
        if self._own:
            self._ray.shutdown()
