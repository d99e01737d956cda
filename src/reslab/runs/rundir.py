"""A run's folder: its recipe, where it ran, its metrics, its checkpoints and its result."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reslab.errors import InputError, writing
from reslab.runs import files

_locks: set[int] = set()
"""Descriptors of the locks that this process holds."""


def _let_go() -> None:
    """A process that was forked off, to decode images, must not keep a run locked when the run's own is killed."""
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_let_go)


FINETUNE = "finetune.json"
"""What a fine-tuning was asked for; written before the run itself begins."""


class RunDir:
    """``recipe.json env.json metrics.jsonl checkpoints/ eval/ result.json`` in one folder.

    ``metrics.jsonl`` holds what the recipe determines, so that two runs of it can be compared byte by
    byte; how fast it went is in ``speed.jsonl``.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.json"
        self.env = self.path / "env.json"
        self.metrics = self.path / "metrics.jsonl"
        self.speed = self.path / "speed.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.eval = self.path / "eval"
        self.result = self.path / "result.json"

    def __repr__(self) -> str:
        """Where it is, and what became of it."""
        state = "finished" if self.finished else "begun" if self.exists else "no run yet"
        if self.finished and isinstance(error := files.read_json(self.result).get("test_error"), int | float):
            state += f", {error:.2f} % test error"
        return f"RunDir({str(self.path)!r}: {state})"

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.recipe.exists()

    @property
    def finished(self) -> bool:
        """Whether the run here has come to its end."""
        return self.result.exists()

    def check(self, recipe: dict[str, Any]) -> None:
        """Raises `InputError` unless a run of this recipe can start, or go on, here. Writes nothing."""
        try:
            if self.exists:
                if files.read_json(self.recipe) != recipe:
                    raise InputError(
                        f"--out {self.path} already holds a run of another recipe; choose another folder, "
                        f"or go on with that run by --resume {self.path}"
                    )
            elif self.path.exists() and not (self.path.is_dir() and self._empty()):
                raise InputError(f"--out {self.path} exists and is not a run; choose a new or an empty folder")
        except OSError as error:
            raise InputError(f"--out {self.path} cannot be read: {error.strerror or error}") from None

    def _empty(self) -> bool:
        """Whether nothing lies here, or only what a start that was killed half-way leaves behind."""
        names = {entry.name for entry in self.path.iterdir() if not files.is_temporary(entry)} - {".lock", FINETUNE}
        if "checkpoints" not in names:
            return not names
        made = self.checkpoints.is_dir() and not any(self.checkpoints.iterdir())
        return made and names <= {"checkpoints", "env.json"}

    def create(self, recipe: dict[str, Any], env: dict[str, Any]) -> None:
        """Starts a run here. A folder that holds another run, or anything else, is refused."""
        self.check(recipe)
        if self.exists:
            return
        with writing(f"--out {self.path}"):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            files.write_json(self.env, env)
            files.write_json(self.recipe, recipe)  # last: its presence makes the folder a run

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second process from writing the same run. Makes the folder if need be."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("w")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"another process is writing the run {self.path}; wait for it or stop it") from None
            except OSError:
                pass  # a file system without locks: better unguarded than unusable
            _locks.add(handle.fileno())
            try:
                yield
            finally:
                _locks.discard(handle.fileno())

    def clean(self) -> None:
        """Removes the temporary files of writes that were killed. Only for who holds the lock."""
        for folder in (self.path, self.checkpoints):
            for left in filter(files.is_temporary, folder.iterdir()):
                left.unlink(missing_ok=True)

    def truncate_metrics(self, iteration: int) -> None:
        """Drops what was recorded after an iteration: a resumed run records it again."""
        for path in (self.metrics, self.speed):
            if path.exists():
                kept = [line for line in files.read_lines(path) if line["iteration"] <= iteration]
                text = "".join(files.as_line(line) for line in kept)
                files.write_text(path, text)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The recorded metrics, oldest first."""
        return files.read_lines(self.metrics)
