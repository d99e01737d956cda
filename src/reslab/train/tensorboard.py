"""The same figures as events for TensorBoard, beside the run's own files."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Events:
    """Writes scalars under ``tensorboard/``. Points after the iteration that a run resumes from are purged."""

    def __init__(self, run: Path, iteration: int) -> None:
        self._folder, self._purge = run / "tensorboard", iteration + 1 if iteration else None
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, iteration: int, values: dict[str, Any]) -> None:
        """Adds the numbers among ``values`` at an iteration."""
        if self._writer is None:
            # Imported at the first point: it takes a second, which would delay the first step.
            from torch.utils.tensorboard.writer import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge)
        for name, value in values.items():
            if name != "iteration" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, iteration)
