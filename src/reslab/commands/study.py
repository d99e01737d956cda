"""``reslab study`` and ``reslab demo``."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reslab import runs, studies
from reslab.commands.execution import start
from reslab.commands.options.study import Demo, Options
from reslab.commands.targets import check_folder, check_target
from reslab.data.names import KNOWN
from reslab.data.sources import Dataset, load
from reslab.errors import InputError, writing
from reslab.recipes.he2015_cifar import ITERATIONS
from reslab.report import figure
from reslab.report import files as report_files
from reslab.report.table import print_summary
from reslab.report.words import duration
from reslab.studies.budget import SEEDS, Budget, choose, measured
from reslab.studies.design import Depths, Study
from reslab.studies.plan import MARK, Plan, Planned
from reslab.studies.runner import Workers, adopt, checked, run_all
from reslab.studies.summarise import summarise
from reslab.studies.together import Together
from reslab.train.device import Execution, describe, resolve_precision

DIGITS_ITERATIONS, DIGITS_BATCH, DIGITS_SETTINGS = 500, 64, ("optimizer.lr=0.02",)
"""A budget in which the effect is there on 1,437 images of 8x8 pixels: docs/demo.md has the figures."""


Make = Callable[[Depths, int, int], Plan]
"""The plan of depths, seeds and iterations."""

DEMO_JOBS = min(4, os.cpu_count() or 1)
"""On 8x8 images one thread a run is quickest, and two processes do not wait for each other as two threads do."""


def run(options: Options) -> Path | None:
    """Carries a study out and returns the path of its report; None for a dry run."""
    assert options.name is not None  # `reslab.commands.studies` lists them where none is named
    study = studies.find(options.name)
    _check(options)
    logging.basicConfig(format="reslab: %(message)s", level=logging.WARNING)
    execution = start(options.device, deterministic=options.deterministic)
    data = load(options.data)
    out = options.out or Path("runs") / f"{options.name}-{data.info.name}"
    small = data.info.name == "digits"
    settings = _with_defaults(options.settings, DIGITS_SETTINGS if small else ())

    def make(depths: Depths, seeds: int, iterations: int) -> Plan:
        batch = options.batch or (DIGITS_BATCH if small else 128)
        return Plan(study, data.info, depths, seeds, iterations, batch, settings)

    console = Console(stderr=True)
    budget = _budget(options, study, make, data, out, execution, console)
    if budget is None:
        iterations = options.iterations or (DIGITS_ITERATIONS if small else ITERATIONS)
        plan = make(options.depths or study.usual, options.seeds or SEEDS, iterations)
        if options.dry_run:
            with console.status("measuring") as status:
                nets = {arm.net for arm in plan.arms}
                costs = measured(plan, data, out, execution, options.jobs, min(60.0, 4.0 * len(nets)), status.update)
            budget = Budget(plan, costs, options.jobs)
            if not options.json:
                show_budget(budget, console)
    else:
        plan = budget.plan
        if budget.costs and not (options.dry_run and options.json):
            show_budget(budget, console)
    if options.dry_run:
        _planned(plan, budget, as_json=options.json)
        return None
    planned = plan.planned()
    precision = resolve_precision(planned[0].recipe.precision, execution.device)
    console.print(
        f"{len(planned)} runs of {plan.iterations:,} iterations on {data.info.name}, into {out}\n"
        + describe(execution.device, precision, execution.fuses),
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    _claim(out, plan, options)
    folder = out / "runs"
    for name, other in adopt(planned, folder, data.info.fingerprint, execution, measured=study.measure).items():
        console.print(f"{name}: reused from {other}, the same training", highlight=False, soft_wrap=True)
    try:
        with redirect_stdout(sys.stderr):  # Ray prints what befalls its workers, and stdout is for the result
            run_all(
                planned, data, options.data, folder, execution=execution, measured=study.measure,
                jobs=max(options.jobs, options.at_a_time),
                workers=_workers(options, planned, study, data, folder, execution, console), console=console,
            )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt("repeat the command to continue; finished runs are not run again") from None
    command = command_of(plan, options)
    summary = summarise(plan, folder, data=data, command=command)
    written = report_files.write(summary, out)
    for path in options.figure:
        figure.save(summary, path)
    if options.json:
        print(summary.to_json(), end="")
    else:
        print_summary(summary, Console())
    report = next(path for path in written if path.suffix == ".html")
    console.print(f"Report: {report}", highlight=False, markup=False, soft_wrap=True)
    return report


def _check(options: Options) -> None:
    for option, count in (("jobs", options.jobs), ("at-a-time", options.at_a_time)):
        if count < 1:
            raise InputError(f"--{option} takes 1 or more, got {count}")
    if options.at_a_time > 1 and (options.jobs > 1 or options.on is not None):
        raise InputError("--at-a-time is of runs in one process; it goes neither with --jobs nor with --on")
    if options.seeds is not None and options.seeds < 1:
        raise InputError(f"--seeds takes 1 or more, got {options.seeds}")
    for option, value, least in (("iterations", options.iterations, 1), ("batch-size", options.batch, 2)):
        if value is not None and value < least:
            raise InputError(f"--{option} takes {least} or more, got {value}")
    for path in options.figure:  # hours before it would be drawn
        figure.check_format(path)
        check_target("--figure", path, force=options.force)
    if options.on is not None and options.on != "ray" and not options.on.startswith("ray://"):
        raise InputError(f"--on takes ray, or ray://HOST:PORT of a cluster, got {options.on}")
    if options.cpus < 1:
        raise InputError(f"--cpus takes 1 or more, got {options.cpus}")
    if options.store is not None and options.on is None:
        raise InputError("--store is where runs on other machines leave their results; it goes with --on ray")


def _budget(options: Options, study: Study, make: Make, data: Dataset, out: Path, execution: Execution, console: Console
            ) -> Budget | None:  # fmt: skip
    if options.budget is None:
        return None
    planned = _begun(out, study.name, data.info.fingerprint)
    if planned is not None and not options.dry_run:
        plan = make(
            options.depths or tuple(planned["depths"]), options.seeds or planned["seeds"],
            options.iterations or planned["iterations"],
        )  # fmt: skip
        said = f"continuing the plan in {out}: {plan.iterations:,} iterations, {plan.seeds} seeds"
        console.print(said, highlight=False, soft_wrap=True)
        return Budget(plan, {}, options.jobs)
    with console.status("measuring") as status:
        return choose(
            study, make, data, out, minutes=options.budget, depths=options.depths or None, seeds=options.seeds,
            iterations=options.iterations, execution=execution, jobs=options.jobs, said=status.update,
        )  # fmt: skip


def show_budget(budget: Budget, console: Console) -> None:
    """The plan and its cost, before anything is trained."""
    plan = budget.plan
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("row", no_wrap=True)
    for heading in ("iterations", "ms a step", "a run", f"{plan.seeds} seeds"):
        table.add_column(heading, justify="right")
    for arm in plan.arms:
        seconds = budget.seconds(arm.label)
        table.add_row(
            arm.label, f"{round(plan.iterations * arm.length):,}", f"{1000 * budget.costs[arm.net].step:.0f}",
            duration(seconds), duration(seconds * plan.seeds),
        )  # fmt: skip
    console.print(table)
    at_a_time = f", {budget.jobs} at a time" if budget.jobs > 1 else ""
    console.print(f"About {duration(budget.total)} in all{at_a_time}.", highlight=False)
    if plan.iterations < plan.study.enough:
        console.print(
            f"Fewer than the {plan.study.enough:,} iterations that this study asks for: it may decide little.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _planned(plan: Plan, budget: Budget | None, *, as_json: bool) -> None:
    if as_json:
        about = {} if budget is None else {"seconds": round(budget.total, 1)}
        rows = [
            {"label": arm.label, "net": arm.net, "iterations": round(plan.iterations * arm.length)} for arm in plan.arms
        ]
        print(json.dumps(plan.mark() | {"seeds": plan.seeds, "rows": rows} | about, indent=2))
        return
    Console().print(
        f"{len(plan.planned())} runs: {', '.join(arm.label for arm in plan.arms)}; {plan.seeds} seeds, "
        f"{plan.iterations:,} iterations. Nothing was written. Run without --dry-run to start.",
        highlight=False,
    )


def _workers(options: Options, planned: Sequence[Planned], study: Study, data: Dataset, folder: Path,
             execution: Execution, console: Console) -> Workers | None:  # fmt: skip
    if options.at_a_time > 1:
        return Together(options.at_a_time, data, options.data, folder, execution, study.measure)
    if options.on is None:
        return None
    from reslab.studies.on_ray import RayWorkers

    checked(planned, folder, execution)
    return RayWorkers(
        options.on, source=options.data, folder=folder, store=options.store, execution=execution,
        measured=study.measure, cpus=options.cpus,
        said=lambda text: console.print(text, highlight=False, soft_wrap=True),
    )  # fmt: skip


def _with_defaults(settings: tuple[str, ...], defaults: tuple[str, ...]) -> tuple[str, ...]:
    """The settings given, after those of the defaults whose field they leave alone."""
    given = {text.partition("=")[0].strip() for text in settings}
    return (*(text for text in defaults if text.partition("=")[0] not in given), *settings)


def _begun(out: Path, study: str, fingerprint: str) -> dict[str, Any] | None:
    """What was planned in a folder before, if it is the same study of the same data."""
    if not (out / MARK).exists():
        return None
    mark: dict[str, Any] = runs.read_json(out / MARK)
    same = (mark.get("study"), mark.get("data")) == (study, fingerprint)
    return mark if same and {"depths", "seeds", "iterations"} <= mark.keys() else None


def _claim(out: Path, plan: Plan, options: Options) -> None:
    """Marks the folder as this study's; one that holds another study, or anything else, is refused."""
    path = out / MARK
    mine = plan.mark()
    if path.exists():
        other = runs.read_json(path)
        changed = [
            f"{key} {other.get(key)} there, {value} now" for key, value in mine.items() if other.get(key) != value
        ]
        if changed:
            raise InputError(
                f"--out {out} holds this study with other settings, or by another version of it "
                f"({'; '.join(changed)}); choose another folder"
            )
    elif out.exists() and not (out.is_dir() and all(map(runs.is_temporary, out.iterdir()))):
        raise InputError(f"--out {out} exists and is not a study; choose a new or an empty folder")
    with writing(f"--out {out}"):
        out.mkdir(parents=True, exist_ok=True)
        about = {} if options.budget is None else {"budget": options.budget}
        runs.write_json(path, mine | {"seeds": plan.seeds} | about)


def command_of(plan: Plan, options: Options) -> str:
    """The command that does the same again, a budget as what came of it."""
    # Where a known data set lies is its owner's affair.
    data = plan.info.name if plan.info.name in KNOWN else options.data
    words = ["reslab", "study", plan.study.name, "--data", data, "--depths", *map(str, plan.depths)]
    words += ["--seeds", str(plan.seeds), "--iterations", str(plan.iterations)]
    if plan.batch != 128:
        words += ["--batch-size", str(plan.batch)]
    if plan.settings:
        words += ["--set", *plan.settings]
    if options.jobs > 1:
        words += ["--jobs", str(options.jobs)]
    if options.at_a_time > 1:
        words += ["--at-a-time", str(options.at_a_time)]
    if options.deterministic:
        words += ["--deterministic"]
    if options.on is not None:
        words += ["--on", options.on]
    return shlex.join(words)


def demo(options: Demo) -> Path:
    """The study on the embedded digits, and what to do next."""
    check_folder("--out", options.out, force=False)
    console = Console(quiet=options.json)
    console.print(
        "[bold]Reslab demo[/]: plain and residual networks of 20 and 56 layers, side by side,\n"
        "on 1,437 scanned digits. Twelve short trainings, about two minutes on two cores;\n"
        "nothing is downloaded.\n",
        highlight=False,
    )
    report = run(
        Options(
            "degradation", depths=(20, 56), seeds=3, out=options.out, jobs=DEMO_JOBS, device="cpu", json=options.json
        )
    )
    assert report is not None
    console.print(
        "\n[bold]What such a short run can show[/]: that a deep network cannot be trained in a\n"
        "budget that is enough for its shallow twin. [bold]What it cannot show[/]: degradation\n"
        "after convergence, where the deeper plain network stays worse to the end. That\n"
        "takes the full study, on CIFAR-10.\n\n"
        "[bold]Next[/]\n"
        "  reslab nets resnet56                     the network, stage by stage\n"
        "  reslab train he2015_cifar --data cifar10 the paper's training of ResNet-20\n"
        "  reslab study degradation --data cifar10 --iterations 4000\n"
        "                                           the study on photographs, hours\n"
        "  reslab study                             fourteen more questions",
        highlight=False,
    )
    return report
