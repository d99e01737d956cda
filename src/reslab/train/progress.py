"""The progress display of a run."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


def say(text: str) -> None:
    """A line before the first step."""
    Console(stderr=True).print(text, highlight=False, soft_wrap=True, markup=False)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("speed", "")), style="cyan")


class TrainingProgress:
    """A bar with loss, error, images/s, waiting share and time left; plain lines where there is no terminal."""

    def __init__(
        self, title: str, total: int, start: int, *, console: Console | None = None, quiet: bool = False
    ) -> None:
        self.console = console or Console(stderr=True)
        self.title, self.total, self.start = title, total, start
        self.quiet = quiet
        self.live = self.console.is_terminal and not quiet
        self._printed = time.monotonic()
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[figures]}"),
            _Speed(),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.live,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=total, completed=start, figures="", speed="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(
        self, iteration: int, loss: float, error: float | None, images_per_second: float, waiting: float
    ) -> None:
        """Shows the figures of the last window: loss, training error (%), speed and share of time spent on data."""
        self._bar.update(
            self._task,
            completed=iteration,
            figures=f"loss {loss:.3f}" + ("" if error is None else f" err {error:4.1f}%"),
            speed=f"{images_per_second:.0f} img/s data {100 * waiting:.0f}%",
        )
        if not self.live and not self.quiet and time.monotonic() - self._printed > 30:
            self._printed = time.monotonic()
            said = "" if error is None else f"error {error:.1f}% "
            left = (self._printed - self._began) / max(iteration - self.start, 1) * (self.total - iteration)
            print(
                f"{self.title}: {iteration}/{self.total} loss {loss:.3f} {said}"
                f"{images_per_second:.0f} images/s data {100 * waiting:.1f}% left {left / 60:.1f} min",
                file=sys.stderr,
                flush=True,
            )
