"""Forms the verdicts of committed studies again, from the runs in their summaries and the rules as they are now.

    python scripts/rejudge.py results

Nothing is trained. Figures and tables of runs stay as they are; what changes is the verdict, with the rule and its
history. Prints the claims whose verdict changed.
"""

import sys
from pathlib import Path

from reslab import studies
from reslab.report import files
from reslab.report.summary import Summary
from reslab.runs import read_json
from reslab.studies.verdict import judge


def again(summary: Summary) -> Summary:
    """The summary with the verdict of today's rule."""
    study = studies.find(summary.study)
    depths = tuple(sorted({row.depth for row in summary.rows if row.train_error is not None}))
    return summary.model_copy(update={"verdict": judge(study, depths, summary.runs)})


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
