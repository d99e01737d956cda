"""``reslab bench``."""

import json
import os
import shlex
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from reslab import runs
from reslab.bench import peak, works
from reslab.bench.paired import Ratio, Work, ratio, take_turns_apart
from reslab.commands.options.bench import Options
from reslab.commands.targets import check_target
from reslab.commands.train import start
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any
from reslab.nets.cost import cost_any
from reslab.train.device import describe, is_out_of_memory, resolve_precision

What = Literal["train", "infer", "data"]
Maker = Callable[[], Work]
PASSES = {"train": 3, "infer": 1}
"""Multiply-adds of a step in forward passes: backward counts two."""


def run(options: Options) -> None:
    """Times ours, and the peer by turns with it, and prints images a second."""
    for name, value, least in (("rounds", options.rounds, 1), ("turn", options.turn, 0.01)):
        if value < least:
            raise InputError(f"--{name} takes {least} or more, got {value}")
    check_target("--out", options.out, (".json",), force=options.force)
    if options.compile and options.what == "data":
        raise InputError("bench data makes batches, which has nothing to do with --compile; leave it out")
    execution = start(options.device, options.threads, compile=options.compile)
    overrides = {"size": (options.size, options.size)} if options.size else {}
    spec = resolve_any(options.net, **overrides)
    case = works.Case(spec, options.batch, execution, resolve_precision(options.precision, execution.device))
    works.check(case)
    mode = describe(execution.device, case.precision, execution.fuses, execution.compile)
    console = Console(stderr=True)
    todo: dict[str, Maker] = {"reslab": partial(_OURS[options.what], case)}
    if options.against is not None:
        todo[options.against] = _theirs(options, case, options.against)
    turns = " by turns" if options.against else ""
    try:
        console.print(
            f"{options.what}: {spec.name}, {options.batch} images of {spec.size[0]}x{spec.size[1]}; {mode}\n"
            f"{options.rounds} rounds of {options.turn:g} s{turns}, in processes of their own, which start first",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip
        seconds = _timed(todo, options, case, console)
        record = _record(options, case, seconds) | {"mode": mode}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _too_large(case) from None
    if options.out is not None:
        runs.write_json(options.out, record)
    if options.json:
        print(json.dumps(record, indent=2))
    else:
        _print(record, options)


def _timed(todo: dict[str, Maker], options: Options, case: works.Case, console: Console) -> dict[str, list[float]]:
    columns = (TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=options.rounds)
        return take_turns_apart(
            todo, rounds=options.rounds, turn=options.turn, device=case.execution.device,
            done=lambda number: bar.update(task, completed=number),
        )  # fmt: skip


def _too_large(case: works.Case) -> InputError:
    less = f"--batch-size {case.batch // 2}" if case.batch > 3 else "a smaller --net, or a smaller --size"
    return InputError(
        f"out of memory with {case.batch} images of {case.spec.size[0]}x{case.spec.size[1]} at a time; try {less}"
    )


_OURS: dict[What, Callable[[works.Case], Work]] = {
    "train": works.step_of, "infer": works.inference, "data": works.batches
}  # fmt: skip


def _theirs(options: Options, case: works.Case, against: works.Against) -> Maker:
    if options.what != "data":
        works.peer_module(case, against)  # what cannot be had is refused before anything is measured
    match options.what:
        case "train":
            return partial(works.peer_training, case, against)
        case "infer":
            return partial(works.peer_inference, case, against)
        case "data":
            if against != "torchvision":
                raise InputError("bench data compares with torchvision's transforms: --against torchvision")
            workers = options.workers if options.workers is not None else os.cpu_count() or 1
            return partial(works.peer_batches, case, workers)


def command_of(options: Options) -> str:
    """The command line that measures the same."""
    words = ["reslab", "bench", options.what, "--net", options.net, "--batch-size", str(options.batch)]
    for name, value in (
        ("against", options.against), ("size", options.size), ("rounds", options.rounds),
        ("turn", f"{options.turn:g}"), ("workers", options.workers), ("precision", options.precision),
        ("device", options.device), ("threads", options.threads),
    ):  # fmt: skip
        words += [] if value is None else [f"--{name}", str(value)]
    words += ["--compile"] if options.compile else []
    return shlex.join(words)


def _record(options: Options, case: works.Case, seconds: dict[str, list[float]]) -> dict[str, Any]:
    own = seconds["reslab"]
    rates = {name: case.batch / statistics.median(each) for name, each in seconds.items()}
    found: Ratio | None = None
    if options.against is not None:
        found = ratio(seconds[options.against], own)
    limit = peak.measure(case.execution.device, case.precision)
    share = None
    if options.what != "data":
        macs = cost_any(case.spec).macs * case.batch * PASSES[options.what]
        share = round(limit.share(macs, statistics.median(own)), 4)
    return {
        "command": command_of(options),
        "what": options.what,
        "net": case.spec.name,
        "batch": case.batch,
        "size": list(case.spec.size),
        "precision": case.precision,
        "against": options.against,
        "images_per_second": {name: round(rate, 2) for name, rate in rates.items()},
        "ratio": None if found is None else {name: round(value, 3) for name, value in asdict(found).items()},
        "seconds": {name: _rounded(each) for name, each in seconds.items()},
        "peak": {"gflops": round(limit.gflops, 1), "copy_gigabytes_per_second": round(limit.gigabytes, 1)},
        "share_of_peak": share,
        "when": runs.now(),
        "machine": runs.describe() | {"threads": str(torch.get_num_threads())},
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _print(record: dict[str, Any], options: Options) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", "images/s", "ms a step"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, rate in record["images_per_second"].items():
        table.add_row(name, f"{rate:,.0f}", f"{1e3 * record['batch'] / rate:,.1f}")
    console = Console(highlight=False)
    console.print(table)
    if record["share_of_peak"] is not None:
        gflops = record["peak"]["gflops"]
        console.print(
            f"{100 * record['share_of_peak']:.0f} % of what a large matrix product reaches here in "
            f"{record['precision']} ({gflops:,.0f} GFLOP/s); a large copy moves "
            f"{record['peak']['copy_gigabytes_per_second']:,.0f} GB/s",
            soft_wrap=True,
        )
    if record["ratio"] is not None:
        found = record["ratio"]
        console.print(
            f"ratio {found['median']:.2f} x ({found['low']:.2f} to {found['high']:.2f}) against {options.against}, "
            f"median of {options.rounds} rounds by turns",
            soft_wrap=True,
        )
