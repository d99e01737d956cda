"""Rows of a study's table that are computed from all its runs together."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reslab.data.sources import Dataset
from reslab.report.summary import Curve, Run
from reslab.runs import RunDir
from reslab.studies.design import ALL_DEPTHS, same_depth
from reslab.studies.measures import SCORES, scores_of

NO_CURVE = Curve(iteration=(), train_error=(), test_error=())
MIXED = "one network of each depth"
"""A group of the figure."""

Scores = npt.NDArray[np.float32]


def ensembles(runs: Sequence[Run], folder: Path, data: Dataset) -> tuple[Run, ...]:
    """Test errors of ensembles: softmax scores of the members averaged, the greatest taken.

    Of mixed depths there is one ensemble for each seed: networks of different depth from the same seed, the deepest
    k of them. Of one depth, the deepest, there is one for each set of k seeds that shares none with the others, so
    that they are independent.
    """
    labels = data.test.labels.numpy()
    kept = [run for run in runs if (folder / run.name / SCORES).exists()]  # a training that failed has none
    scores = {(run.label, run.seed): scores_of(RunDir(folder / run.name)) for run in kept}
    deepest_first = sorted({run.label: run.depth for run in runs}.items(), key=lambda item: -item[1])
    names = [label for label, _ in deepest_first]
    by = {(run.label, run.seed): run for run in runs}
    seeds = sorted({run.seed for run in runs})
    found = []
    for count in range(2, len(names) + 1):
        label = ALL_DEPTHS if count == len(names) else f"the {count} deepest"
        for seed in seeds:
            members = [(name, seed) for name in names[:count]]
            if all(member in scores for member in members):
                found.append(_ensemble(label, MIXED, count, seed, members, by, scores, labels))
    best = names[0]
    own = [seed for seed in seeds if (best, seed) in scores]
    for count in range(2, len(own) + 1):
        for number, start in enumerate(range(0, len(own) - count + 1, count)):
            members = [(best, seed) for seed in own[start : start + count]]
            label = same_depth(best, count)
            found.append(_ensemble(label, f"{best} from different seeds", count, number, members, by, scores, labels))
    return tuple(found)


def _ensemble(label: str, group: str, count: int, number: int, members: Sequence[tuple[str, int]],
              by: Mapping[tuple[str, int], Run], scores: Mapping[tuple[str, int], Scores],
              labels: npt.NDArray[np.int64]) -> Run:  # fmt: skip
    mean = np.mean([scores[member] for member in members], axis=0)
    return Run(
        name=f"{label}-{number}".replace(" ", "-"),
        label=label,
        group=group,
        net=" + ".join(by[member].net for member in members) if group == MIXED else by[members[0]].net,
        kind="residual",
        depth=max(by[member].depth for member in members),
        x=float(count),
        seed=number,
        iterations=0,
        params=sum(by[member].params for member in members),
        final_train_error=None,
        final_test_error=round(100 * float((mean.argmax(1) != labels).mean()), 6),
        best_test_error=None,
        iterations_to_threshold=None,
        curve=NO_CURVE,
    )


DERIVED: dict[str, Callable[[Sequence[Run], Path, Dataset], tuple[Run, ...]]] = {"ensembles": ensembles}
