"""Forms the verdicts of committed studies again, from the runs in their summaries and the rules as they are now.

    python scripts/rejudge.py results

Nothing is trained. Figures and tables of runs stay as they are, but for where a curve crosses a changed threshold;
what changes is the verdict, with the rule and its history. Prints the claims whose verdict changed.
"""

import sys
from pathlib import Path

from reslab import studies
from reslab.report import files
from reslab.report.summary import Run, Summary, rows_of
from reslab.runs import read_json
from reslab.studies.records import depths_of, on_papers_data
from reslab.studies.verdict import judge


def again(summary: Summary) -> Summary:
    """The summary with the verdict of today's rule."""
    study = studies.find(summary.study)
    if study.threshold != summary.threshold:
        summary = _crossing(summary, study.threshold)
    verdict = judge(study, depths_of(summary), summary.runs, papers_data=on_papers_data(summary))
    return summary.model_copy(update={"verdict": verdict})


def _crossing(summary: Summary, threshold: float | None) -> Summary:
    """With the iterations at which curves come under another threshold."""

    def reached(run: Run) -> int | None:
        points = zip(run.curve.iteration, run.curve.train_error, strict=True)
        return next((at for at, error in points if threshold and error is not None and error <= threshold), None)

    runs = tuple(run.model_copy(update={"iterations_to_threshold": reached(run)}) for run in summary.runs)
    published = {row.label: row.published for row in summary.rows if row.published is not None}
    how = tuple(
        text.replace(f"{summary.threshold:g} % training error", f"{threshold:g} % training error")
        for text in summary.how_measured
    )
    changed = {"runs": runs, "rows": rows_of(runs, published), "threshold": threshold, "how_measured": how}
    return summary.model_copy(update=changed)


def main(roots: list[Path]) -> None:
    for path in sorted(path for root in roots for path in root.rglob(files.SUMMARY)):
        old = Summary.of(read_json(path))
        if old.verdict is None:
            continue
        new = again(old)
        assert new.verdict is not None
        before = {part.claim: part.verdict for part in old.verdict.parts}
        for part in new.verdict.parts:
            if before.get(part.claim) != part.verdict:
                print(f"{path.parent}: {part.claim}: {before.get(part.claim)} -> {part.verdict}")
        path.write_text(new.to_json(), encoding="utf-8")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:] or ["results"]])
