"""What the outputs of a network are called, for the commands that say it."""

from pathlib import Path
from typing import Literal

from rich.console import Console

from reslab.data.labels import read_names


def output_names(
    file: Path | None, what: Literal["weights", "artefact"], count: int, known: tuple[str, ...] | None, console: Console
) -> tuple[str, ...]:
    """By a file with a name a line, else by what the weights or the artefact say; else numbered, which is said."""
    if file is not None:
        return read_names(file, count)
    if known:
        return known
    said = "the weights do not name their" if what == "weights" else "the artefact does not name its"
    text = f"{said} classes, which are numbered from 0; --outputs FILE names them"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return tuple(map(str, range(count)))
