"""``reslab study`` without a name: all studies, what each asks and costs, and what is known of it here."""

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reslab import studies
from reslab.commands.options.study import Options
from reslab.nets.catalog import resolve
from reslab.nets.cost import cost
from reslab.report.words import TONE, roughly
from reslab.studies import ledger
from reslab.studies.design import Study

MACS_PER_SECOND = 25e9
"""Forward multiply-adds that a core trains in a second, as seen with ResNet-20 on a server's CPU with bf16: a guide."""
BATCH, SEEDS = 128, 3


def seconds(study: Study) -> float:
    """Of the shortest study worth doing, on a CPU like those that it was tried on: from multiply-adds alone."""
    depths = study.scales[0]
    macs = sum(cost(resolve(arm.net)).macs * arm.length for arm in study.arms(depths))
    return macs * BATCH * study.enough * SEEDS / (MACS_PER_SECOND * (os.cpu_count() or 1))


def run(options: Options) -> Path | None:
    """Carries out a study, or lists all where none is named; the list does not wait for torch."""
    if options.queue:
        from reslab.commands.study_queue import run as work_through

        work_through(options)
        return None
    if options.name is None:
        listing(as_json=options.json)
        return None
    if options.power:
        from reslab.commands.study_power import run as foresee

        foresee(options)
        return None
    from reslab.commands.study import run as carry_out

    return carry_out(options)


def listing(*, as_json: bool) -> None:
    """Prints them."""
    known = _known()
    found: list[dict[str, Any]] = [
        {
            "name": study.name,
            "question": study.question,
            "paper": study.paper,
            "claims": [claim.text for claim in study.claims],
            "seconds": round(seconds(study)),
            "results": known.get(study.name, []),
        }
        for study in studies.every()
    ]
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 1, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for entry in found:
        text = Text.assemble(entry["question"], (f"\n{entry['paper']}", "dim"))
        text.append(f"\nFrom about {roughly(entry['seconds'])} here (CIFAR-10)", "dim")
        for result in entry["results"]:
            text.append("\nhere: ").append(result["verdict"], TONE[result["verdict"]])
            text.append(f" ({result['data']}, {result['iterations']:,} iterations, n = {result['n']})", "dim")
        table.add_row(Text(entry["name"], "bold"), text)
    console = Console()
    console.print(table)
    console.print(
        "reslab study NAME --data cifar10 --budget 60   what an hour can decide\n"
        "reslab claims                                  what was found, claim by claim",
        highlight=False,
    )


def _known() -> dict[str, list[dict[str, Any]]]:
    """Verdicts at hand, by study."""
    found: dict[str, list[dict[str, Any]]] = {}
    for about in ledger.verdicts():
        found.setdefault(about.pop("study"), []).append(about)
    return found
