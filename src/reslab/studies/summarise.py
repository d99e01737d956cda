"""Makes the summary of a finished study's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reslab import __version__, runs
from reslab.data.sources import Dataset
from reslab.report.summary import Curve, Run, Summary, rows_of
from reslab.runs import RunDir
from reslab.studies.design import TAIL, Arm, of_papers_data
from reslab.studies.plan import Plan, Planned, differences, other_networks, published_of
from reslab.studies.verdict import judge
from reslab.train.recipe import Recipe, Sgd, Steps


def summarise(plan: Plan, folder: Path, *, data: Dataset | None = None, command: str) -> Summary:
    """Reads all runs of a plan from ``folder`` and judges them.

    Args:
        plan: what was run.
        folder: where the runs lie.
        data: what it was run on, for studies that derive something from all runs.
        command: that did it.
    """
    planned = plan.planned()
    trained = tuple(_read(run, folder / run.name, plan.study.threshold) for run in planned)
    found = trained + _derived(plan, trained, folder, data)
    recipes = {run.name: run.recipe for run in planned}
    envs = [runs.read_json(RunDir(folder / name).env) for name in recipes]
    results = [runs.read_json(RunDir(folder / name).result) for name in recipes]
    precisions = dict.fromkeys(runs.read_json(RunDir(folder / name).recipe)["precision"] for name in recipes)
    precision = " / ".join(precisions)
    failed = tuple(
        f"{name} failed: {result['failed']}. Its errors are those of guessing."
        for name, result in zip(recipes, results, strict=True)
        if result.get("failed")
    )
    return Summary(
        study=plan.study.name,
        title=plan.study.title,
        question=plan.study.question,
        paper=plan.study.paper,
        command=command,
        reslab_version=__version__,
        started=min(env["started"] for env in envs),
        finished=max(result["finished"] for result in results),
        wall_seconds=sum(result["seconds"] for result in results),
        machine=machine_of(envs) | {"precision": precision},
        data={
            "name": plan.info.name,
            "source": plan.info.source,
            "n_train": plan.info.n_train,
            "n_test": plan.info.n_test,
            "classes": len(plan.info.classes),
            "fingerprint": plan.info.fingerprint,
        },
        recipe=_recipe(plan, next(iter(recipes.values())), precision),
        how_measured=_how(plan, planned),
        differs_from_paper=differences(plan) + other_networks(plan),
        caveats=failed + plan.study.caveats + _caveats(precisions),
        runs=found,
        rows=rows_of(found, published_of(plan)),
        threshold=plan.study.threshold,
        x_label=plan.study.x_label,
        verdict=judge(plan.study, plan.depths, found, papers_data=of_papers_data(plan.info.name, plan.info.n_train)),
    )


def _derived(plan: Plan, trained: Sequence[Run], folder: Path, data: Dataset | None) -> tuple[Run, ...]:
    if plan.study.derive is None:
        return ()
    from reslab.studies.derived import DERIVED

    assert data is not None, f"{plan.study.name} derives something from its data"
    return DERIVED[plan.study.derive](trained, folder, data)


def _read(planned: Planned, folder: Path, threshold: float | None) -> Run:
    from reslab.studies.measures import FILE

    kept = folder / FILE
    measured = (
        {name: value for group in runs.read_json(kept).values() for name, value in group.items()}
        if kept.exists()
        else {}
    )
    return read_run(planned.name, folder, planned.recipe, planned.arm, threshold=threshold, measures=measured)


def read_run(
    name: str, folder: Path, recipe: Recipe, arm: Arm, *, threshold: float | None, measures: Mapping[str, float] = {}
) -> Run:
    """A finished run, as the report needs it."""
    run = RunDir(folder)
    result, history = runs.read_json(run.result), run.read_metrics()
    reached = [line["iteration"] for line in history if threshold is not None and line["train_error"] <= threshold]
    return Run(
        name=name,
        label=arm.label,
        group=arm.group,
        net=recipe.net.name,
        kind="residual" if recipe.own_net.is_residual else "plain",
        depth=recipe.own_net.depth,
        x=arm.x,
        seed=recipe.seed,
        iterations=recipe.iterations,
        params=result["params"],
        final_train_error=tail_error(history, recipe.iterations),
        final_test_error=result["test_error"],
        best_test_error=result.get("best_test_error"),  # none where images were held out
        iterations_to_threshold=reached[0] if reached else None,
        curve=Curve(
            iteration=tuple(line["iteration"] for line in history),
            train_error=tuple(line["train_error"] for line in history),
            test_error=tuple(line.get("test_error") for line in history),
        ),
        measures=dict(measures),
    )


def tail_error(history: Sequence[Mapping[str, Any]], iterations: int) -> float:
    """Training error over the last `TAIL` of the iterations: the mean of the windows, by the iterations of each there.

    Windows differ in length where an evaluation cuts one short.
    """
    start, before = iterations * (1 - TAIL), 0
    total = weight = 0.0
    for line in history:
        inside = line["iteration"] - max(before, start)
        before = line["iteration"]
        if inside > 0:
            total, weight = total + inside * line["train_error"], weight + inside
    return total / weight


def machine_of(envs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The machines of the runs; several values if they differ."""
    keys = ("cpu", "cores", "threads", "memory", "gpu", "python", "torch", "reslab", "git_commit")
    return {key: " / ".join(dict.fromkeys(str(env.get(key, "unknown")) for env in envs)) for key in keys}


def _recipe(plan: Plan, first: Recipe, precision: str) -> dict[str, Any]:
    return {
        "name": first.name,
        "iterations": plan.iterations,
        "batch": first.global_batch,
        "epochs": round(plan.iterations * first.global_batch / plan.info.n_train, 1),
        "lr": first.optimizer.lr,
        "drops": first.schedule.drops if isinstance(first.schedule, Steps) else (),
        "momentum": first.optimizer.momentum,
        "weight_decay": first.optimizer.weight_decay if isinstance(first.optimizer, Sgd) else None,
        "bn_group": first.bn_group,
        "precision": precision,
    }


def _how(plan: Plan, planned: Sequence[Planned]) -> tuple[str, ...]:
    found = [
        "Each network is trained on the whole training set; the result is that of its last iterate, and the test curve "
        "influences no choice.",
        "For each seed all networks see the same images in the same order and augmentation; networks with the same "
        "layers, such as plain and residual twins (option A), start from the same weights.",
        *plan.study.how,
    ]
    if plan.study.threshold is not None:
        every = planned[0].recipe.log_every
        found.append(
            f"Threshold of convergence: {plan.study.threshold:g} % training error, at a resolution of {every} "
            "iterations."
        )
    for arm in plan.arms:
        if arm.settings:
            found.append(f"{arm.label}: {', '.join(arm.settings)}.")
        if arm.length != 1:
            found.append(f"{arm.label}: {arm.length:g} times the iterations.")
        if arm.start is not None:
            found.append(f"{arm.label}: training continues from {arm.start}, deepened without changing its function.")
    return (*found, f"Time is the sum over the {len(planned)} runs, including evaluations.")


def _caveats(precisions: Mapping[str, object]) -> tuple[str, ...]:
    found = [
        "Weight decay acts on convolutions and the last layer, not on BN and biases; the paper does not specify this.",
        "The paper's Caffe and this implementation differ in rounding, random numbers and details of BN statistics.",
    ]
    others = [precision for precision in precisions if precision != "fp32"]
    if others:
        said = ", ".join(others)
        found.append(f"Convolutions are computed in {said}, all accumulations in fp32; the paper trained in fp32.")
    return tuple(found)
