"""``reslab study`` and ``reslab demo``."""

import json
import logging
import os
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reslab import runs, studies
from reslab.commands.train import start
from reslab.data.sources import load
from reslab.errors import InputError
from reslab.recipes.he2015_cifar import ITERATIONS
from reslab.report import files as report_files
from reslab.report.table import print_summary
from reslab.studies import he2015_degradation as degradation_study
from reslab.studies.runner import run_all
from reslab.train.device import describe, resolve_precision

DIGITS_ITERATIONS, DIGITS_BATCH, DIGITS_SETTINGS = 500, 64, ("optimizer.lr=0.02",)
"""A budget in which the effect is there on 1,437 images of 8x8 pixels: docs/demo.md has the figures."""


DEMO_JOBS = min(4, os.cpu_count() or 1)
"""On 8x8 images one thread a run is quickest, and two processes do not wait for each other as two threads do."""


def listing(*, as_json: bool) -> None:
    """All studies, with the question that each asks."""
    if as_json:
        print(json.dumps([vars(entry) for entry in studies.STUDIES.values()], indent=2))
        return
    table = Table(box=None, header_style="bold", show_header=False, padding=(0, 2, 1, 0))
    for entry in studies.STUDIES.values():
        table.add_row(f"[bold]{entry.name}[/]", f"{entry.question}\n{entry.paper}\n[dim]Cost: {entry.cost}[/]")
    Console().print(table)


def degradation(
    name: str,
    *,
    data: str,
    depths: tuple[int, ...],
    seeds: int,
    iterations: int | None,
    batch: int | None,
    settings: tuple[str, ...],
    out: Path | None,
    jobs: int,
    device: str | None,
    as_json: bool,
) -> Path:
    """Carries the study out and returns the path of its report."""
    studies.find(name)
    if jobs < 1:
        raise InputError(f"--jobs takes 1 or more, got {jobs}")
    for option, value, least in (("iterations", iterations, 1), ("batch-size", batch, 2)):
        if value is not None and value < least:
            raise InputError(f"--{option} takes {least} or more, got {value}")
    logging.basicConfig(format="reslab: %(message)s", level=logging.WARNING)
    execution = start(device)
    source = load(data)
    small = source.info.name == "digits"
    plan = degradation_study.Plan(
        info=source.info,
        depths=depths,
        seeds=seeds,
        iterations=iterations or (DIGITS_ITERATIONS if small else ITERATIONS),
        batch=batch or (DIGITS_BATCH if small else 128),
        settings=_with_defaults(settings, DIGITS_SETTINGS if small else ()),
    )
    out = out or Path("runs") / f"{name}-{source.info.name}"
    console = Console(stderr=True)
    recipes = plan.recipes()
    precision = resolve_precision(next(iter(recipes.values())).precision, execution.device)
    console.print(
        f"{len(recipes)} runs of {plan.iterations:,} iterations on {source.info.name}, into {out}\n"
        + describe(execution.device, precision, execution.fuses),
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    _claim(out, plan)
    folder = out / "runs"
    try:
        run_all(recipes, source, data, folder, execution=execution, jobs=jobs, console=console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on where it was; finished runs are not run again") from None
    summary = degradation_study.summarise(plan, folder, command=_command(name, plan, data, jobs))
    written = report_files.write(summary, out)
    if as_json:
        print(summary.to_json(), end="")
    else:
        print_summary(summary, Console())
    report = next(path for path in written if path.suffix == ".html")
    console.print(f"Report: {report}", highlight=False, markup=False, soft_wrap=True)
    return report


def _with_defaults(settings: tuple[str, ...], defaults: tuple[str, ...]) -> tuple[str, ...]:
    """The settings given, after those of the defaults whose field they leave alone."""
    given = {text.partition("=")[0].strip() for text in settings}
    return (*(text for text in defaults if text.partition("=")[0] not in given), *settings)


def _claim(out: Path, plan: degradation_study.Plan) -> None:
    """Marks the folder as this study's; one that holds another study, or anything else, is refused."""
    mark = out / "study.json"
    mine: dict[str, Any] = {
        "study": "degradation",
        "data": plan.info.fingerprint,
        "iterations": plan.iterations,
        "batch": plan.batch,
        "settings": list(plan.settings),
    }
    if mark.exists():
        other = runs.read_json(mark)
        if other != mine:
            changed = [
                f"{key} {other.get(key)} there, {value} now" for key, value in mine.items() if other.get(key) != value
            ]
            raise InputError(
                f"--out {out} holds this study with other settings ({'; '.join(changed)}); choose another folder"
            )
        return
    if out.exists() and not (out.is_dir() and all(map(runs.is_temporary, out.iterdir()))):
        raise InputError(f"--out {out} exists and is not a study; choose a new or an empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        runs.write_json(mark, mine)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}") from None


def _command(name: str, plan: degradation_study.Plan, data: str, jobs: int) -> str:
    words = [
        "reslab",
        "study",
        name,
        "--data",
        data,
        "--depths",
        *map(str, plan.depths),
        "--seeds",
        str(plan.seeds),
    ]
    words += ["--iterations", str(plan.iterations)]
    if plan.batch != 128:
        words += ["--batch-size", str(plan.batch)]
    if plan.settings:
        words += ["--set", *plan.settings]
    if jobs > 1:
        words += ["--jobs", str(jobs)]
    return shlex.join(words)


def demo(out: Path) -> Path:
    """The study on the embedded digits, and what to do next."""
    console = Console()
    console.print(
        "[bold]Reslab demo[/]: plain and residual networks of 20 and 56 layers, side by side,\n"
        "on 1,437 scanned digits. Twelve short trainings, about two minutes on two cores;\n"
        "nothing is downloaded.\n",
        highlight=False,
    )
    report = degradation(
        "degradation", data="digits", depths=(20, 56), seeds=3, iterations=None, batch=None, settings=(), out=out,
        jobs=DEMO_JOBS, device="cpu", as_json=False,
    )  # fmt: skip
    console.print(
        "\n[bold]What so short a run can show[/]: a network that cannot be optimised in the\n"
        "budget in which its shallow twin can. [bold]What it cannot[/]: degradation after\n"
        "saturation, a deeper plain network that stays worse to the end. That takes the\n"
        "full study, on CIFAR-10.\n\n"
        "[bold]Next[/]\n"
        "  reslab nets resnet56                     the network, stage by stage\n"
        "  reslab train he2015_cifar --data cifar10 the paper's training of ResNet-20\n"
        "  reslab study degradation --data cifar10 --iterations 4000\n"
        "                                           the study on photographs, 2.5 hours",
        highlight=False,
    )
    return report
