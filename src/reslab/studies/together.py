"""Runs of a study at a time in one process: for a GPU, which one training of small images leaves mostly idle.

Each run has a thread, and on CUDA a stream and a captured graph of its own, so that their kernels share the card.
They take turns from iteration to iteration (`reslab.train.turns`), and each is the same as by itself, bit for bit: on
the CPU always, on CUDA with deterministic kernels.
"""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import torch

from reslab.data.sources import Dataset
from reslab.studies.plan import Planned
from reslab.studies.runner import Result, carry_out
from reslab.train.device import Execution
from reslab.train.turns import Turns


class Together:
    """Threads of this process, which take turns; `reslab.studies.runner.Workers`."""

    def __init__(
        self, count: int, data: Dataset, source: str, folder: Path, execution: Execution, measured: str | None
    ) -> None:
        self._pool = ThreadPoolExecutor(count, "run")
        self._turns, self._ends = Turns(), False
        self._running: dict[Future[Result], str] = {}
        self._data, self._rest = data, (source, folder, execution, measured)
        # Each thread asks for as many of its own as the run would have by itself: its rounding depends on them.
        self._threads = torch.get_num_threads()

    def submit(self, run: Planned) -> None:
        """Puts a run in the queue."""
        self._running[self._pool.submit(self._work, run)] = run.name

    def _work(self, run: Planned) -> Result:
        torch.set_num_threads(self._threads)
        device = self._rest[2].device
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        with self._turns.mine(), torch.cuda.stream(stream):  # of None: the stream that there is
            return carry_out(run, self._data, *self._rest, stop=self._between)

    def _between(self) -> bool:
        """Called after each iteration: gives the others a turn; returns whether the run is to stop."""
        self._turns.pass_on()
        return self._ends

    def finished(self, seconds: float) -> Sequence[tuple[str, Result]]:
        """Those that have ended."""
        over, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in over]

    def close(self, *, at_once: bool) -> None:
        """Ends the threads; ``at_once``, each behind its iteration, with a checkpoint to go on from."""
        self._ends = at_once
        self._pool.shutdown(cancel_futures=at_once)
