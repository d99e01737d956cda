"""``reslab study NAME --power``: what a study could see with its seeds, before anything is trained."""

import json
import math
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from reslab import studies
from reslab.commands.options.study import Options
from reslab.recipes.he2015_cifar import ITERATIONS
from reslab.studies import ledger, power
from reslab.studies.power import Sight
from reslab.studies.sequential import LOOKS, looked


def run(options: Options) -> None:
    """Prints, for each comparison, the least effect that would be seen and the chance of seeing the paper's."""
    assert options.name is not None
    study = studies.find(options.name)
    depths = options.depths or study.usual
    study.check(depths)
    iterations, seeds = options.iterations or ITERATIONS, options.seeds or LOOKS[0]
    seen = power.differences_seen(ledger.roots_or_usual(()))
    found = power.sights(study, depths, iterations, seeds, seen)
    if options.json:
        print(json.dumps(_as_dict(study.name, depths, iterations, seeds, found), indent=2))
        return
    console = Console()
    layers = " and ".join(map(str, depths))
    console.print(
        f"{study.title}: {layers} layers, {iterations:,} iterations, {seeds} seeds on CIFAR-10", highlight=False
    )
    if not looked(seeds):
        console.print(f"Nothing is decided by fewer than {LOOKS[0]} seeds.", highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("comparison")
    for heading in ("published", "spread", "least seen", "chance"):
        table.add_column(heading, justify="right")
    for each in found:
        table.add_row(
            each.comparison, _number(each.published), _number(each.spread), _number(each.least), _chance(each.chance)
        )
    console.print(table)
    console.print(
        "published: the difference in the paper. spread: standard deviation of paired differences in existing results "
        "of similar length. least seen: the smallest difference that reaches a verdict with a probability of 80 %. "
        "chance: probability of a verdict if the paper's difference is the true one. -: not known.",
        highlight=False, style="dim",
    )  # fmt: skip
    if blind := [each.comparison for each in found if each.blind]:
        console.print(
            f"[bold]Too few seeds[/], or too few iterations: in {len(blind)} of {len(found)} comparisons the paper's "
            "effect would be missed more often than not.",
            highlight=False,
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _chance(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _as_dict(study: str, depths: tuple[int, ...], iterations: int, seeds: int, found: list[Sight]) -> dict[str, Any]:
    rows = [asdict(each) | {"blind": each.blind} for each in found]
    least = power.visible(seeds)
    return {
        "study": study, "depths": list(depths), "iterations": iterations, "seeds": seeds,
        "least_in_standard_deviations": None if math.isinf(least) else least, "comparisons": rows,
    }  # fmt: skip
