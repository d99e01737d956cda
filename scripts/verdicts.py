"""Writes docs/verdicts.md from the records under results/: which claims hold, which do not, which are not decided.

    python scripts/verdicts.py

Nothing is trained; it takes some seconds. For each claim that is not decided, the page gives the smallest study that
would decide it and how long that takes, estimated from multiply-adds.
"""

import argparse
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from reslab.commands.studies import MACS_PER_SECOND
from reslab.nets.catalog import resolve
from reslab.nets.cost import cost
from reslab.report.claims import ClaimRow
from reslab.report.words import plural
from reslab.studies import claims as claims_of_studies
from reslab.studies import ledger
from reslab.studies.design import Study
from reslab.studies.power import Seen, differences_seen
from reslab.studies.queue import Ranked, cheapest, seeds_done

ROOT = Path(__file__).parents[1]
BATCH, CORES = 128, 2
H100 = 1.15e-3 / 40_551_040
"""Seconds of a captured step of ResNet-20 for each of its multiply-adds an image (results/gpu/third)."""
OUT = "docs/verdicts.md"
INTRO = """\
# Which of the papers' claims hold

Written by `python scripts/verdicts.py` from the records under `results/`; each line ends with the command to repeat it.
[The rule](studies.md#how-a-verdict-is-reached) was written down on 2026-11-22, and changed since, also after runs had
been seen (each change is dated): paired comparisons at 3, 5, 8 and 12 random seeds, at most 5 % false verdicts for a
single claim, and at most 5 % among all verdicts (Benjamini and Hochberg; *adjusted* is the p-value that counts). Claims
about what happens inside networks are tested on single networks, so they have no error rate. *Required* is what the
rule asks for.

"""


def macs(net: str) -> int:
    """Multiply-adds of a network for an image of CIFAR-10."""
    return _macs(net)


@cache
def _macs(net: str) -> int:
    return cost(resolve(net, num_classes=10)).macs


def on_cores(study: Study) -> float:
    """Seconds of a step for each multiply-add on two cores with bf16; fp32 takes twice as long."""
    return BATCH / (MACS_PER_SECOND * CORES) * (2 if study.precision == "fp32" else 1)


def time_of(seconds: float) -> str:
    """Hours, or minutes where they are less than one."""
    return f"{seconds / 3600:,.0f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"


def line(row: ClaimRow) -> str:
    """A claim with what was found."""
    found = row.evidence[0]
    where = f"{row.paper}, {row.place}" if row.place else row.paper
    level = f"; {found.level}" if found.level else ""
    source = os.path.relpath(ROOT / found.source, ROOT / "docs")
    numbers = found.numbers[0].upper() + found.numbers[1:]
    return (
        f"- **{row.claim}** ({where}) {numbers.rstrip('.')}. [{found.of}]({source}){level}. "
        f"`{found.command if found.command.startswith('reslab') else row.command}`"
    )


def price(row: ClaimRow, best: Ranked | None) -> str:
    """What would decide a claim, and what that takes."""
    if best is None:
        return (
            "Given what is known of the effect and its spread, even 12 seeds at the paper's length would hardly "
            "decide it"
        )
    chosen = best.candidate
    layers = " and ".join(map(str, chosen.depths))
    gpu = best.seconds * H100 / on_cores(chosen.study)
    return (
        f"To decide it: {layers} layers, {chosen.iterations:,} iterations, {chosen.seeds} seeds; about "
        f"{time_of(best.seconds)} on two cores, {time_of(gpu)} on an H100. `reslab study {chosen.study.name} "
        f"--data cifar10 --depths {' '.join(map(str, chosen.depths))} --iterations {chosen.iterations} "
        f"--seeds {chosen.seeds}`"
    )


def open_line(row: ClaimRow, best: Ranked | None, studied: bool) -> str:
    """A claim that is not decided: what is known, and the price."""
    where = f"{row.paper}, {row.place}" if row.place else row.paper
    known = ""
    if row.evidence:
        found = row.evidence[0]
        source = os.path.relpath(ROOT / found.source, ROOT / "docs")
        known = f" So far: {found.numbers.rstrip('.')} ([{found.of}]({source}))."
    needs = f" {price(row, best)}." if studied else f" `{row.command}`"
    return f"- **{row.claim}** ({where}){known}{needs}"


def article(results: Path) -> str:
    """The page."""
    rows = ledger.read([results]).rows
    seen: Sequence[Seen] = differences_seen([results])
    done = seeds_done([results])
    studied = {claim.key for _, claim in claims_of_studies()}
    by = {
        "held": [row for row in rows if row.evidence and row.verdict == "held"],
        "not held": [row for row in rows if row.evidence and row.verdict == "not held"],
    }
    undecided = [row for row in rows if row.verdict == "not decided"]
    counts = (
        f"Of {plural(len(rows), 'claim')} **{len(by['held'])} hold** here, **{len(by['not held'])} "
        f"{'does' if len(by['not held']) == 1 else 'do'} not**, and **{len(undecided)} are not decided**.\n"
    )
    parts = [INTRO, counts]
    for verdict, title in (("held", "Claims that hold"), ("not held", "Claims that do not hold")):
        trained = [row for row in by[verdict] if row.key in studied]
        inside = [row for row in by[verdict] if row.key not in studied]
        parts.append(f"\n## {title}\n")
        parts.append("\n".join(map(line, trained)) + "\n" if trained else "No claim that was tested by training.\n")
        if inside:
            parts.append("\nInside single networks:\n\n" + "\n".join(map(line, inside)) + "\n")
    parts.append("\n## Claims that are not decided\n")
    parts.append(
        "The runs were too short, too shallow or too few, or there are none yet. The study named for each claim is\n"
        "the smallest with a fair chance of deciding it. Its time is estimated at 50 billion forward multiply-adds a\n"
        "second on two cores, and from a measured step of ResNet-20 on an H100.\n\n"
    )
    for row in undecided:
        best = None
        if row.key in studied:
            best = cheapest(row.key, done, seen, macs=macs, per_mac=on_cores)
        parts.append(open_line(row, best, row.key in studied) + "\n")
    return "".join(parts)


def main() -> None:
    """Writes the page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--results", type=Path, default=Path("results"))
    words.add_argument("--out", type=Path, default=Path(OUT))
    given = words.parse_args()
    given.out.write_text(article(given.results), encoding="utf-8")


if __name__ == "__main__":
    main()
