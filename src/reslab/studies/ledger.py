"""The ledger: every claim that a study or a probe tests, and what results at hand say of it. Never typed by hand.

Of a claim that a study tests the strongest results count (`_evidence`), and these alone: on the papers' data, by their
recipe, large enough. All such claims are one family, and their verdicts are those that a false-discovery rate of 5 %
allows (`sequential.adjusted`). Why not Holm's procedure, by which all are right but with 5 %: the ledger is read
line by line, as so many findings, of which the share of false ones is what a reader has to know; and with three to
twelve seeds the first of some forty claims would have to pass 0.1 %. What is wrong of a claim in one direction cannot
be so in the other, so that the lesser of its two p-values stands for it. What a probe finds is of single networks, has
no error rate, and is not of the family.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reslab import studies
from reslab.probes.claims import CLAIMS as PROBED
from reslab.probes.claims import GROUP_OF, PairClaim, ProbeClaim, decided
from reslab.probes.result import FORMAT
from reslab.probes.rules import Measured, has_learnt, of_papers_data
from reslab.report.claims import ClaimRow, Evidence
from reslab.report.summary import Judgement
from reslab.studies import records
from reslab.studies.design import Claim, Study
from reslab.studies.design import of_papers_data as of_photographs
from reslab.studies.sequential import LEVEL, LOOKS, adjusted

ROOTS = ("results", "runs")
"""Where results are looked for if nobody says where."""


def roots_or_usual(roots: Sequence[Path]) -> Sequence[Path]:
    """The folders that were given, or the usual ones."""
    return roots or [Path(name) for name in ROOTS]


@dataclass(frozen=True)
class Ledger:
    """The evidence on all claims in some folders of results."""

    rows: tuple[ClaimRow, ...]
    """every claim, paper by paper as the studies come, with its evidence"""
    passed_over: tuple[Path, ...]
    """files called as a study's summary is that this version cannot read"""


def read(roots: Sequence[Path]) -> Ledger:
    """All that lies in some folders."""
    found: dict[str, list[tuple[tuple[float, ...], Evidence]]] = {}
    summaries, passed_over = _summaries(roots)
    for summary in summaries:
        for key, weight, evidence in _evidence(summary):
            found.setdefault(key, []).append((weight, evidence))
    by_key = {
        key: tuple(dict.fromkeys(about for _, about in sorted(each, key=lambda item: item[0], reverse=True)))
        for key, each in found.items()
    }
    by_key = _together(by_key)
    listed = [_row(study, claim, by_key.get(claim.key, ())) for study, claim in studies.claims()]
    figures = list(_figures(roots))
    listed += [_probed(claim, figures) for claim in PROBED]
    order = list(dict.fromkeys(row.paper for row in listed))
    return Ledger(tuple(sorted(listed, key=lambda row: order.index(row.paper))), tuple(passed_over))


def _together(found: Mapping[str, tuple[Evidence, ...]]) -> dict[str, tuple[Evidence, ...]]:
    """Verdicts after controlling the error rate over all claims, each by its strongest evidence."""
    family = adjusted({key: each[0].p for key, each in found.items() if each[0].p is not None})
    return {
        key: (_within_rate(each[0], family[key]), *each[1:]) if key in family else each for key, each in found.items()
    }


def _within_rate(evidence: Evidence, level: float) -> Evidence:
    verdict = evidence.verdict if level <= LEVEL else "not decided"
    return replace(evidence, verdict=verdict, adjusted=level)


def _row(study: Study, claim: Claim, evidence: tuple[Evidence, ...]) -> ClaimRow:
    paper, place = _where(claim.place)
    depths = "".join(f" {depth}" for depth in claim.asked_of)
    how = f" --depths{depths}" if depths else " --budget 60" if study.in_an_hour else ""
    command = f"reslab study {study.name} --data cifar10{how}"
    return ClaimRow(claim.key, paper, place, claim.text, command, evidence)


def _where(place: str) -> tuple[str, str]:
    """``He et al. 2015, Fig. 6`` as paper and place in it; what has no comma is a source by itself."""
    paper, _, inside = place.rpartition(", ")
    return (paper, inside) if paper else (inside, "")


# --- probes ------------------------------------------------------------------------------------------------------

Figure = tuple[Measured, dict[str, Any], Path]


def _figures(roots: Sequence[Path]) -> Iterator[Figure]:
    """Reads the files that `reslab probe` wrote, one for each figure of each network."""
    for root in roots:
        for path in sorted({*root.glob("probes/*/*.json"), *root.glob("*/probes/*/*.json")}):
            try:
                kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                if kept["key"]["format"] != FORMAT:
                    continue
                yield Measured(kept["figure"], kept["network"], kept["about"], kept["result"]), kept["made"], path
            except (OSError, ValueError, KeyError, TypeError):
                continue  # of another version


def _probed(claim: ProbeClaim | PairClaim, figures: Sequence[Figure]) -> ClaimRow:
    of_it = [figure for figure in figures if figure[0].figure == claim.figure]
    found = []
    if isinstance(claim, ProbeClaim):
        for measured, made, path in of_it:
            if claim.of(measured.about):
                found.append((_weight(measured), _looked(decided(claim, measured), made, path, measured)))
    else:
        for first, made, path in of_it:
            for second, _, _ in of_it:
                if claim.of(first.about, second.about):
                    found.append((_weight(first, second), _looked(decided(claim, first, second), made, path, first)))
    found.sort(key=lambda item: item[0], reverse=True)
    paper, place = _where(claim.place)
    command = f"reslab probe RUN --data cifar10 --{GROUP_OF.get(claim.figure, claim.figure)} --out runs/probes"
    return ClaimRow(claim.key, paper, place, claim.text, command, tuple(evidence for _, evidence in found))


def _weight(*measured: Measured) -> tuple[bool, bool, int, int]:
    """How strong figures are: of networks that have learnt something first, then of the papers' data, then of more
    images, then of deeper networks."""
    abouts = [each.about for each in measured]
    learnt, real = all(map(has_learnt, measured)), all(map(of_papers_data, measured))
    return learnt, real, min(int(a.get("images") or 0) for a in abouts), sum(int(a.get("depth") or 0) for a in abouts)


def _looked(found: tuple[Judgement, str], made: dict[str, Any], path: Path, measured: Measured) -> Evidence:
    verdict, numbers = found
    return Evidence(
        verdict=verdict, numbers=numbers, n=1, of=made["of"], command=made["command"], when=made["when"],
        machine=made["machine"], source=path.as_posix(), papers_data=of_papers_data(measured),
    )  # fmt: skip


# --- studies -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """The part of a study's summary that the ledger needs."""

    source: str
    study: str
    data: str
    whole: bool
    """whether it is of the papers' data, all of it"""
    iterations: int
    depths: tuple[int, ...]
    """depths of the trained networks"""
    seeds: int
    """seeds of the row with the fewest"""
    most_seeds: int
    as_published: bool
    """whether the paper's recipe was used: no setting changed, batch size 128"""
    overall: Judgement
    parts: tuple[Mapping[str, Any], ...]
    command: str
    when: str
    machine: str


def _summaries(roots: Sequence[Path]) -> tuple[list[_Found], list[Path]]:
    """The summaries of judged studies, wherever they lie under some folders; and the files that cannot be read."""
    found, unread = [], []
    for path in records.paths(roots):
        try:
            summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if summary["verdict"] is not None:  # a comparison of runs has none
                found.append(_found(summary, path))
        except (OSError, ValueError, KeyError, TypeError):
            unread.append(path)  # not a study's summary, or one of another version
    return found, unread


def _found(summary: dict[str, Any], path: Path) -> _Found:
    verdict, data, machine, rows = summary["verdict"], summary["data"], summary["machine"], summary["rows"]
    return _Found(
        source=path.as_posix(),
        study=summary["study"],
        data=data["name"],
        whole=of_photographs(data["name"], data["n_train"]),
        iterations=int(summary["recipe"]["iterations"]),
        depths=tuple(sorted({row["depth"] for row in rows if row["train_error"] is not None})),
        seeds=min(row["n"] for row in rows if row["train_error"] is not None),
        most_seeds=max(row["n"] for row in rows),
        as_published=summary["recipe"]["batch"] == 128
        and not any(text.startswith("Settings changed") for text in summary["differs_from_paper"]),
        overall=verdict["overall"],
        parts=tuple(
            {key: part.get(key) for key in ("claim", "verdict", "numbers", "speaks_for", "against")}
            for part in verdict["parts"]
        ),
        command=summary["command"],
        when=summary["finished"],
        machine=", ".join(machine[key] for key in ("cpu", "gpu") if machine.get(key) not in (None, "none")),
    )


def _evidence(found: _Found) -> Iterator[tuple[str, tuple[float, ...], Evidence]]:
    """A study's evidence on claims, and its strength: by what was run, never by the outcome.

    First what counts, then whether there are seeds enough for a look, then length, depth, seeds.
    """
    for part in found.parts:
        if part["claim"]:
            p, lacks = _level(found, part)
            about = Evidence(
                verdict="not decided" if p is None else part["verdict"],
                numbers=f"{part['numbers']}. {lacks}" if lacks else part["numbers"],
                n=found.seeds,
                of=f"{found.data}, {_layers(found.depths)}, {found.iterations:,} iterations, n = {found.seeds}",
                command=found.command,
                when=found.when,
                machine=found.machine,
                source=found.source,
                papers_data=found.whole,
                p=p,
            )
            real = found.whole and found.as_published
            enough = found.seeds >= LOOKS[0]
            weight = (real, p is not None, enough, found.iterations, found.depths[-1], found.seeds)
            yield part["claim"], weight, about


def _level(found: _Found, part: Mapping[str, Any]) -> tuple[float | None, str]:
    """The p-value of what a study leans to; none for what does not count in the ledger, and then why."""
    verdict = f"The study's verdict, '{part['verdict']}',"
    if not found.whole:
        return None, f"{verdict} does not count in the ledger: its images are not the paper's"
    if not found.as_published:
        return None, f"{verdict} does not count in the ledger: its recipe is not the paper's"
    values = [part[key] for key in ("speaks_for", "against") if part[key] is not None]
    if values:
        return min(values), ""
    if part["verdict"] == "not decided":
        return None, ""
    return None, f"{verdict} is by an earlier version's rule: repeat the study's command to judge it again"


def _layers(depths: Sequence[int]) -> str:
    if len(depths) > 3:
        return f"{depths[0]} to {depths[-1]} layers"
    return f"{' and '.join(map(str, depths))} layers"


def verdicts() -> list[dict[str, Any]]:
    """The overall verdict of each study in the usual folders."""
    return [
        {
            "study": found.study,
            "verdict": found.overall,
            "data": found.data,
            "iterations": found.iterations,
            "n": found.most_seeds,
            "source": found.source,
        }
        for found in _summaries(roots_or_usual(()))[0]
    ]
