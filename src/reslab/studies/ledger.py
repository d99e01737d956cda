"""The ledger: every claim that a study or a probe tests, and what results at hand say of it. Never typed by hand."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from reslab import studies
from reslab.probes.claims import CLAIMS as PROBED
from reslab.probes.claims import GROUP_OF, Measured, PairClaim, ProbeClaim
from reslab.report.claims import ClaimRow, Evidence
from reslab.report.summary import Judgement
from reslab.studies.design import Claim, Study

ROOTS = ("results", "runs")
"""Where results are looked for if nobody says where."""
SUMMARY = "summary.json"


def rows(roots: Sequence[Path]) -> tuple[ClaimRow, ...]:
    """Every claim, paper by paper as the studies come, with its evidence."""
    found: dict[str, list[tuple[tuple[float, ...], Evidence]]] = {}
    for path in _summaries(roots):
        for key, weight, evidence in _evidence(path):
            found.setdefault(key, []).append((weight, evidence))
    listed = []
    for study, claim in studies.claims():
        strongest = sorted(found.get(claim.key, []), key=lambda item: item[0], reverse=True)
        listed.append(_row(study, claim, tuple(dict.fromkeys(about for _, about in strongest))))
    figures = list(_figures(roots))
    listed += [_probed(claim, figures) for claim in PROBED]
    order = list(dict.fromkeys(row.paper for row in listed))
    return tuple(sorted(listed, key=lambda row: order.index(row.paper)))


def _row(study: Study, claim: Claim, evidence: tuple[Evidence, ...]) -> ClaimRow:
    paper, place = _where(claim.place)
    command = f"reslab study {study.name} --data cifar10 --budget 60"
    return ClaimRow(claim.key, paper, place, claim.text, command, evidence)


def _where(place: str) -> tuple[str, str]:
    """``He et al. 2015, Fig. 6`` as paper and place in it; what has no comma is a source by itself."""
    paper, _, inside = place.rpartition(", ")
    return (paper, inside) if paper else (inside, "")


# --- probes ------------------------------------------------------------------------------------------------------

Figure = tuple[Measured, dict[str, Any], Path]


def _figures(roots: Sequence[Path]) -> Iterator[Figure]:
    """What `reslab probe` left: a file for each figure of each network, in a folder ``probes`` or a run's."""
    for root in roots:
        for path in sorted({*root.glob("probes/*/*.json"), *root.glob("*/probes/*/*.json")}):
            try:
                kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                yield Measured(kept["figure"], kept["network"], kept["about"], kept["result"]), kept["made"], path
            except (OSError, ValueError, KeyError, TypeError):
                continue  # of another version


def _probed(claim: ProbeClaim | PairClaim, figures: Sequence[Figure]) -> ClaimRow:
    of_it = [figure for figure in figures if figure[0].figure == claim.figure]
    found = []
    if isinstance(claim, ProbeClaim):
        for measured, made, path in of_it:
            if claim.of(measured.about):
                found.append((_depth(measured), _looked(claim.decide(measured), made, path)))
    else:
        for first, made, path in of_it:
            for second, _, _ in of_it:
                if claim.of(first.about, second.about):
                    found.append((_depth(first) + _depth(second), _looked(claim.decide(first, second), made, path)))
    found.sort(key=lambda item: -item[0])
    paper, place = _where(claim.place)
    command = f"reslab probe RUN --data cifar10 --{GROUP_OF.get(claim.figure, claim.figure)} --out runs/probes"
    return ClaimRow(claim.key, paper, place, claim.text, command, tuple(evidence for _, evidence in found))


def _depth(measured: Measured) -> int:
    return int(measured.about.get("depth") or 0)


def _looked(decided: tuple[Judgement, str], made: dict[str, Any], path: Path) -> Evidence:
    verdict, numbers = decided
    return Evidence(
        verdict=verdict, numbers=numbers, n=1, of=made["of"], command=made["command"], when=made["when"],
        machine=made["machine"], source=path.as_posix(),
    )  # fmt: skip


# --- studies -----------------------------------------------------------------------------------------------------


def _summaries(roots: Sequence[Path]) -> Iterator[Path]:
    for root in roots:
        if (root / SUMMARY).is_file():
            yield root / SUMMARY
        # A folder below a folder, and no deeper: the runs of a study are many files.
        yield from sorted(root.glob(f"*/{SUMMARY}"))
        yield from sorted(root.glob(f"*/*/{SUMMARY}"))


def _evidence(path: Path) -> Iterator[tuple[str, tuple[float, ...], Evidence]]:
    """What a study's summary says of claims, and how strong it is: the papers' data first, then length, then seeds."""
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        verdict = summary["verdict"]
        data, machine = summary["data"], summary["machine"]
        seeds = min(row["n"] for row in summary["rows"] if row["train_error"] is not None)
        iterations = int(summary["recipe"]["iterations"])
        whole = data["name"] == "cifar10" and data["n_train"] == 50_000
        deepest = max(row["depth"] for row in summary["rows"])
        for part in verdict["parts"] if verdict else ():
            if part.get("claim"):
                about = Evidence(
                    verdict=part["verdict"],
                    numbers=part["numbers"],
                    n=seeds,
                    of=f"{data['name']}, {iterations:,} iterations, n = {seeds}",
                    command=summary["command"],
                    when=summary["finished"],
                    machine=", ".join(machine[key] for key in ("cpu", "gpu") if machine.get(key) not in (None, "none")),
                    source=path.as_posix(),
                )
                yield part["claim"], (whole, seeds > 1, iterations, deepest, seeds), about
    except (OSError, ValueError, KeyError, TypeError):
        return  # not a study's summary, or one of another version


def verdicts(roots: Sequence[Path]) -> list[dict[str, Any]]:
    """What each study at hand came to as a whole."""
    found = []
    for path in _summaries(roots):
        try:
            summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if summary["verdict"] is None:
                continue
            found.append(
                {
                    "study": summary["study"],
                    "verdict": summary["verdict"]["overall"],
                    "data": summary["data"]["name"],
                    "iterations": int(summary["recipe"]["iterations"]),
                    "n": max(row["n"] for row in summary["rows"]),
                    "source": path.as_posix(),
                }
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
