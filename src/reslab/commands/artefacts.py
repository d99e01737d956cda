"""Artefacts where commands take weights: opened by the runtime that was asked for, or the quickest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from reslab.commands.options.common import AnyRuntime, Given
from reslab.deploy.artefact import About, Artefact, Precision, RuntimeName
from reslab.deploy.runtimes import Locating, open_runtime, quickest
from reslab.errors import InputError

MOST_TRIED = 8
"""Images at a time that runtimes are tried with: of more, a call of a large network takes seconds."""


@dataclass(frozen=True)
class Opened:
    """An artefact, and what computes it."""

    artefact: Artefact
    runtime: Locating

    def about(self, oriented: bool | None) -> About:
        """What it is; with photographs turned upright or not, where that is asked for."""
        about = self.artefact.about
        if oriented is None:
            return about
        how = about.preprocessing.model_copy(update={"oriented": oriented})
        return about.model_copy(update={"preprocessing": how})


def check_options(source: str, given: Given, device: str | None, others: Mapping[str, object]) -> None:
    """Raises `InputError` for options of weights, which an artefact has behind it."""
    if given != Given():
        raise InputError(
            f"{source} is an artefact with its preprocessing built in; leave out --mean, --std, --resize, --crop and "
            "--interpolation, or export it again with them"
        )
    for name, value in others.items():
        if value:
            raise InputError(f"{source} is an artefact: --{name} needs the weights that it was exported from")
    if device not in (None, "cpu"):
        raise InputError(f"{source} is an artefact, which runs on the CPU; leave out --device {device}")


def open_artefact(
    artefact: Artefact, runtime: AnyRuntime | None, precision: Literal["auto", "bf16", "fp32"], *, threads: int | None,
    batch: int, console: Console,
) -> Opened:  # fmt: skip
    """Opens an artefact by the runtime of that name; by default the quickest, which is printed."""
    if threads is not None and threads < 1:
        raise InputError(f"--threads takes 1 or more, got {threads}")
    own = artefact.about.precision
    if runtime in (None, "auto"):
        precisions: tuple[Precision, ...] = (own,)
        if own == "fp32" and precision != "fp32":
            precisions = ("bf16",) if precision == "bf16" else ("fp32", "bf16")
        chosen = quickest(artefact, precisions=precisions, threads=threads, batch=min(batch, MOST_TRIED))
        console.print(f"{artefact.folder}: {chosen.words()}", markup=False, highlight=False, soft_wrap=True)
        return Opened(artefact, chosen.runtime)
    name: RuntimeName = runtime  # type: ignore[assignment]
    wanted: Precision = "bf16" if precision == "bf16" else own
    return Opened(artefact, open_runtime(artefact, name, precision=wanted, threads=threads))


def check_weights(runtime: AnyRuntime | None) -> None:
    """Raises `InputError` for a runtime where there are weights."""
    if runtime is not None:
        raise InputError(f"--runtime {runtime} applies to an artefact that 'reslab export' wrote, not to weights")
