"""``reslab bench``."""

import json
import os
import shlex
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from reslab import runs
from reslab.bench import peak, peers, works
from reslab.bench.best import Best, best_of
from reslab.bench.paired import Work, ratio, take_turns_apart
from reslab.commands.bench_subject import USUAL, Subject, subject_of
from reslab.commands.options.bench import Options
from reslab.commands.targets import check_target
from reslab.errors import InputError
from reslab.nets.cost import cost_any
from reslab.train.device import is_out_of_memory

Maker = Callable[[], Work]
PASSES = {"train": 3, "infer": 1}
"""Multiply-adds of a step in forward passes: backward counts two."""


def run(options: Options) -> None:
    """Times ours, and the peer by turns with it, and prints images a second."""
    for name, value, least in (
        ("rounds", options.rounds, 1), ("turn", options.turn, 0.01), ("compile-limit", options.compile_limit, 0)
    ):  # fmt: skip
        if value < least:
            raise InputError(f"--{name} takes {least} or more, got {value}")
    check_target("--out", options.out, (".json",), force=options.force)
    if options.compile and options.what == "data":
        raise InputError("bench data only makes batches, so that --compile has no effect; leave it out")
    works.check_batch(options.batch, options.what)
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    subject = subject_of(options, console)
    case, spec = subject.case, subject.case.spec
    works.check(case)
    turns = ", the two sides alternating" if options.against else ""
    try:
        console.print(
            f"{options.what}: {spec.name}, {options.batch} images of {spec.size[0]}x{spec.size[1]}; {subject.mode}\n"
            f"{options.rounds} rounds of {options.turn:g} s{turns}; each side starts in its own process first"
        )
        todo, best = _todo(options, subject, console)
        seconds = _timed(todo, options, case, console)
        record = _record(options, case, seconds, best) | {"mode": subject.mode} | subject.more
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


def _todo(options: Options, subject: Subject, console: Console) -> tuple[dict[str, Maker], Best | None]:
    """What is timed, by name; and how the peer is at its best, where that was asked for."""
    todo: dict[str, Maker] = {"reslab": subject.maker}
    case = subject.case
    against, best = options.against, None
    if against is None:
        return todo, None
    if options.peer != "default":
        console.print(f"looking for {against}'s fastest setting by a short trial of each, in images/s")

        def said(way: str, rate: float | str) -> None:
            console.print(f"  {way}: {f'{rate:,.1f}' if isinstance(rate, float) else rate}")

        best = best_of(case, options.what, against, compile_limit=options.compile_limit, said=said)
        todo[f"{against} at its best"] = best.maker
    if options.peer != "best":
        todo[f"{against} as it comes"] = _default(options, case, against)
    return todo, best


def _default(options: Options, case: works.Case, against: peers.Against) -> Maker:
    match options.what:
        case "train":
            return partial(peers.peer_training, case, against)
        case "infer":
            return partial(peers.peer_inference, case, against)
        case "data":
            workers = options.workers if options.workers is not None else os.cpu_count() or 1
            return partial(peers.PeerBatches, case, peers.Loading(workers))


def command_of(options: Options) -> str:
    """The command line that measures the same."""
    words = ["reslab", "bench", options.what]
    words += ["--net", options.net or USUAL] if options.weights is None else [options.weights]
    words += ["--batch-size", str(options.batch)]
    for name, value in (
        ("net", options.net if options.weights is not None else None), ("which", options.which),
        ("runtime", options.runtime), ("against", options.against), ("size", options.size), ("rounds", options.rounds),
        ("turn", f"{options.turn:g}"), ("workers", options.workers), ("precision", options.precision),
        ("device", options.device), ("threads", options.threads),
    ):  # fmt: skip
        words += [] if value is None else [f"--{name}", str(value)]
    if options.against is not None:
        words += ["--peer", options.peer]
        words += [] if options.peer == "default" else ["--compile-limit", f"{options.compile_limit:g}"]
    words += ["--compile"] if options.compile else []
    return shlex.join(words)


def _record(
    options: Options, case: works.Case, seconds: dict[str, list[float]], best: Best | None
) -> dict[str, Any]:  # fmt: skip
    own = seconds["reslab"]
    rates = {name: case.batch / statistics.median(each) for name, each in seconds.items()}
    ratios = {name: asdict(ratio(each, own)) for name, each in seconds.items() if name != "reslab"}
    # PyTorch has no large product in int8 to hold it against.
    limit = None if case.precision == "int8" else peak.measure(case.execution.device, case.precision)
    share = None
    if limit is not None and options.what != "data":
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
        "peer_at_its_best": None if best is None else {"way": best.way, "images_per_second_of_each": best.tried},
        "images_per_second": {name: round(rate, 2) for name, rate in rates.items()},
        "ratios": {name: {k: round(value, 3) for k, value in found.items()} for name, found in ratios.items()},
        "seconds": {name: _rounded(each) for name, each in seconds.items()},
        "peak": limit and {"gflops": round(limit.gflops, 1), "copy_gigabytes_per_second": round(limit.gigabytes, 1)},
        "share_of_peak": share,
        "when": runs.now(),
        "machine": runs.describe() | {"threads": str(torch.get_num_threads())},
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def _print(record: dict[str, Any], options: Options) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    share, own = record["share_of_peak"], record["images_per_second"]["reslab"]
    headings = ["", "images/s", "ms a step", *([] if share is None else ["of matrix-product peak"])]
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right")
    for name, rate in record["images_per_second"].items():
        cells = [name, f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}", f"{1e3 * record['batch'] / rate:,.1f}"]
        table.add_row(*cells, *([] if share is None else [f"{100 * share * rate / own:.0f} %"]))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    if share is not None:
        console.print(
            f"peak: a large matrix product reaches {record['peak']['gflops']:,.0f} GFLOP/s here in "
            f"{record['precision']}, a large copy {record['peak']['copy_gigabytes_per_second']:,.0f} GB/s"
        )
    if record["peer_at_its_best"] is not None:
        tuned = "" if options.what == "data" else ", with the same memory allocator settings as ours"
        console.print(f"{options.against} at its best: {record['peer_at_its_best']['way']}{tuned}")
    for name, found in record["ratios"].items():
        console.print(
            f"ratio {found['median']:.2f} x ({found['low']:.2f} to {found['high']:.2f}) against {name}, "
            f"median of {options.rounds} rounds"
        )
