"""``reslab study --queue``: all studies, one after the other, what decides most claims an hour first."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path

from rich.console import Console

from reslab.commands.options.study import Options
from reslab.commands.study import run as carry_out
from reslab.data.sources import Dataset, load
from reslab.errors import InputError
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.report import files
from reslab.report.words import duration
from reslab.runs import read_json
from reslab.studies import ledger
from reslab.studies.design import Depths, Study, of_papers_data
from reslab.studies.plan import MARK, macs_of
from reslab.studies.power import differences_seen
from reslab.studies.queue import Candidate, Ranked, ranked, seeds_done
from reslab.train.device import Execution, pick_device
from reslab.train.rehearsal import rehearse

PRIORITY = 10
"""Niceness: other work on the machine goes before it."""
FOLDER = Path("runs/queue")
MEASURING = 6.0
"""Seconds that a step of each precision is measured for."""
BATCH = 128


def run(options: Options) -> None:
    """Works until all is decided that can be, or the budget is over; the same command goes on."""
    _check(options)
    console = Console(stderr=True)
    data = load(options.data)
    if not of_papers_data(data.info.name, data.info.n_train):
        raise InputError(f"--queue tests the papers' claims on CIFAR-10: expected --data cifar10, got {options.data}")
    folder = options.out or FOLDER
    roots = (*ledger.roots_or_usual(()), folder)
    per_mac = _measured(data, options)
    until = time.monotonic() + 60 * options.budget if options.budget is not None else float("inf")
    if not options.dry_run and hasattr(os, "nice"):
        os.nice(max(0, PRIORITY - os.nice(0)))

    @cache
    def macs(net: str) -> int:
        return macs_of(net, data.info)

    tried: set[tuple[str | None, Path | None, int | None]] = set()
    while True:
        rows = ledger.read(roots).rows
        undecided = {row.key for row in rows if row.verdict == "not decided"}
        order = ranked(seeds_done(roots), undecided, differences_seen(roots), macs=macs, per_mac=per_mac)
        if options.dry_run:
            _show(order, as_json=options.json)
            return
        left = until - time.monotonic()
        fit = (_options(each, options, folder) for each in order if each.seconds <= left)
        # What was begun goes first. One that was carried out and still looks open would be chosen for ever.
        every = chain(_unfinished(folder), fit)
        upcoming = next((each for each in every if (each.name, each.out, each.seeds) not in tried), None)
        if upcoming is None:
            why = "no study that could decide any fits into the time left" if order else "nothing is left to decide"
            console.print(f"{len(undecided)} of {len(rows)} claims are not decided; {why}", highlight=False)
            return
        tried.add((upcoming.name, upcoming.out, upcoming.seeds))
        size = _words(upcoming.depths, upcoming.iterations, upcoming.seeds)
        console.print(f"\n[bold]{upcoming.name}[/]: {size}, into {upcoming.out}", highlight=False)
        carry_out(replace(upcoming, data=options.data, jobs=options.jobs, device=options.device, json=False))


def _check(options: Options) -> None:
    given = {
        "--depths": options.depths, "--seeds": options.seeds, "--iterations": options.iterations,
        "--batch-size": options.batch, "--set": options.settings, "--on": options.on, "--figure": options.figure,
        "--power": options.power, "NAME": options.name,
    }  # fmt: skip
    if clash := [name for name, value in given.items() if value]:
        raise InputError(f"--queue chooses the studies and their sizes itself; leave out {', '.join(clash)}")
    if options.budget is not None and not options.budget > 0:
        raise InputError(f"--budget takes minutes, more than 0, got {options.budget:g}")


def _measured(data: Dataset, options: Options) -> Callable[[Study], float]:
    """Seconds of a step for each multiply-add, by ResNet-20's, at the precision of a study."""
    execution = Execution(pick_device(options.device))

    @cache
    def of(precision: str) -> float:
        recipe = he2015_cifar("resnet20", data.info, batch=BATCH).model_copy(update={"precision": precision})
        tried = rehearse(recipe, data, Path("not-written"), execution=execution, seconds=MEASURING)
        return tried.seconds_per_step / macs_of("resnet20", data.info)

    def per_mac(study: Study) -> float:
        return of(study.precision)

    return per_mac


def _unfinished(folder: Path) -> Iterator[Options]:
    """Studies of the queue that were begun and are not at their number of seeds."""
    for mark in sorted(folder.glob(f"*/{MARK}")):
        about = read_json(mark)
        summary = mark.parent / files.SUMMARY
        have = 0
        if summary.exists():
            have = min((row["n"] for row in read_json(summary)["rows"]), default=0)
        if have < about["seeds"]:
            yield Options(
                about["study"], depths=tuple(about["depths"]), seeds=about["seeds"], iterations=about["iterations"],
                out=mark.parent,
            )  # fmt: skip


def _options(each: Ranked, options: Options, folder: Path) -> Options:
    chosen = each.candidate
    return Options(
        chosen.study.name, depths=chosen.depths, seeds=chosen.seeds, iterations=chosen.iterations,
        out=folder / chosen.folder,
    )  # fmt: skip


def _words(depths: Depths, iterations: int | None, seeds: int | None) -> str:
    return f"{' and '.join(map(str, depths))} layers, {iterations:,} iterations, {seeds} seeds"


def _show(order: list[Ranked], *, as_json: bool) -> None:
    """The best size of each study, as things stand."""
    best: dict[str, Ranked] = {}
    for each in order:
        best.setdefault(each.candidate.study.name, each)
    if as_json:
        print(json.dumps([_as_dict(each) for each in best.values()], indent=2))
        return
    console = Console()
    for name, each in best.items():
        chosen: Candidate = each.candidate
        console.print(
            f"{name}: {_words(chosen.depths, chosen.iterations, chosen.seeds)}: "
            f"{each.claims:.1f} claims in about {duration(each.seconds)}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _as_dict(each: Ranked) -> dict[str, object]:
    chosen = each.candidate
    return {
        "study": chosen.study.name, "depths": list(chosen.depths), "iterations": chosen.iterations,
        "seeds": chosen.seeds, "claims": round(each.claims, 2), "seconds": round(each.seconds),
    }  # fmt: skip
