"""``reslab train --dry-run``: what would happen, printed."""

import json
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table

from reslab.report.words import duration, plural
from reslab.train.memory import words
from reslab.train.recipe import Recipe
from reslab.train.rehearsal import Rehearsal


def show(plan: Rehearsal, recipe: Recipe, how: str, *, as_json: bool) -> None:
    """Prints a rehearsal: a table for people, or JSON."""
    if as_json:
        print(json.dumps({"recipe": recipe.model_dump(mode="json"), "how": how, **plan.as_dict()}, indent=2))
        return
    end = datetime.now() + timedelta(seconds=plan.seconds)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    rows = {
        "steps": f"{plan.steps:,} of {plan.batch} images ({plan.epochs:.1f} epochs)",
        "a step": f"{1000 * plan.seconds_per_step:.0f} ms ({plan.batch / plan.seconds_per_step:,.0f} images/s, "
        f"{100 * plan.waiting:.0f} % waiting for data), from {plural(plan.measured_steps, 'step')}",
        "evaluations": f"{plan.evaluations:,}, {1000 * plan.seconds_per_evaluation:,.0f} ms each"
        if plan.seconds_per_evaluation < 1
        else f"{plan.evaluations:,}, about {duration(plan.seconds_per_evaluation)} each",
        "time": f"about {duration(plan.seconds)}, until {end:%A %d %B %Y, %H:%M}",
        "memory": f"{words(plan.step_memory)} a step, {words(plan.peak_memory)} in all at its peak so far",
        "disk": f"{plan.disk / 1e6:,.1f} MB at most, {plan.disk_free / 1e9:,.1f} GB are free",
        "checked": "; ".join(plan.checked),
    }
    if plan.plan:
        rows["budget"] = plan.plan.removeprefix("memory: ")
    if plan.damaged:
        rows["damaged"] = f"{len(plan.damaged)} images so far: {'; '.join(plan.damaged[:3])}"
    for name, text in rows.items():
        table.add_row(name, text)
    console = Console()
    console.print(table)
    console.print("Nothing was written. Run without --dry-run to start.", highlight=False)
