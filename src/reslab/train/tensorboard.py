"""The same figures as events for TensorBoard, beside the run's own files."""

import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Events:
    """Writes scalars under ``tensorboard/``. Points after the iteration that a run resumes from are purged.

    Each point is on its way to the disk when `add` returns. `SummaryWriter` leaves that to a thread, which
    loses two minutes to a kill, can make Ctrl-C wait as long, and meets a full disk where nobody looks.
    """

    def __init__(self, run: Path, iteration: int) -> None:
        self._folder, self._iteration = run / "tensorboard", iteration
        self._file: Any = None
        self._records: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, iteration: int, values: dict[str, Any]) -> None:
        """Adds the numbers among ``values`` at an iteration."""
        # Imported at the first point: it takes a while, which would delay the first step.
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._file is None:
            self._open()
        numbers = {k: v for k, v in values.items() if k != "iteration" and isinstance(v, int | float)}
        self._write(
            step=iteration,
            summary=Summary(value=[Summary.Value(tag=k, simple_value=v) for k, v in numbers.items()]),
        )

    def _open(self) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder.mkdir(exist_ok=True)
        # The names are what TensorBoard looks for; the later one is the later process of the run.
        name = f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}"
        self._file = (self._folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        self._write(step=self._iteration + 1, session_log=SessionLog(status=SessionLog.START))  # purges from there on

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
        self._file.flush()
