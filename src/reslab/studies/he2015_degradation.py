"""The degradation problem and its cure: He et al. 2015, Fig. 1 and 6, Table 6.

    reslab study degradation --data cifar10 --depths 20 56 --seeds 3 --iterations 4000 --out runs/degradation

Each depth is trained plain and residual (option A, so that the twins have equal parameters), from the
same initial weights and the same order and augmentation of the images for each seed: the comparison
is paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from reslab import __version__, published, runs
from reslab.data.spec import DataInfo
from reslab.errors import InputError
from reslab.nets.catalog import CATALOG
from reslab.recipes.he2015_cifar import ITERATIONS, he2015_cifar
from reslab.report.summary import Curve, Judgement, Kind, Run, Summary, Verdict, VerdictPart, rows_of
from reslab.runs import RunDir
from reslab.studies.verdict import Difference, both
from reslab.train.recipe import Recipe, Sgd, Steps, override

QUESTION = "Does a deeper plain network have the higher training error, and do shortcuts turn that round?"
PAPER = "He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Fig. 1 and 6, Table 6"

# Fixed before the runs; printed with the verdict.
MARGIN = 2.0
"""Points of training error by which the deeper residual network may exceed the shallower and still count as cured."""
THRESHOLD = 40.0
"""Training error in per cent whose first crossing measures the speed of convergence."""
TAIL = 0.1
"""Share of the iterations, at the end, that the final training error is averaged over."""

RULE = (
    f"Training error is that of the augmented mini-batches, averaged over the last {TAIL:.0%} of the iterations. "
    "Differences are taken seed by seed between networks with the same initial weights and the same batches. "
    "Degradation is held if the one-sided 95 % t-interval of (deepest plain - shallowest plain) lies above 0. "
    f"The cure is held if that of (deepest residual - shallowest residual) lies below {MARGIN:g} points and that of "
    "(deepest residual - deepest plain) lies below 0. An interval on the other side is 'not held', one that "
    "straddles the bound, or a single seed, 'not decided'. The verdict is held if both are. Whether the deeper "
    "residual network is strictly better, as after the paper's 64k iterations, and whether it converges faster, "
    "is reported and does not enter the verdict."
)


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    info: DataInfo
    depths: tuple[int, ...]
    seeds: int
    iterations: int
    batch: int = 128
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.depths)) < 2:
            raise InputError(f"the study compares at least two depths such as --depths 20 56, got {list(self.depths)}")
        if self.seeds < 1:
            raise InputError(f"--seeds takes 1 or more, got {self.seeds}")
        self.recipes()

    def recipes(self) -> dict[str, Recipe]:
        """The recipe of each run by its name; seed by seed, so that an early stop leaves whole pairs."""
        found = {}
        for seed in range(self.seeds):
            for depth in sorted(set(self.depths)):
                for kind in ("plain", "residual"):
                    net = net_name(kind, depth)
                    recipe = he2015_cifar(net, self.info, iterations=self.iterations, seed=seed, batch=self.batch)
                    # In bf16 a deep plain network would be compared with its own rounding: docs/log.md.
                    exact = recipe.model_copy(update={"precision": "fp32"})
                    found[f"{kind}{depth}-seed{seed}"] = _changed(exact, self.settings)
        return found


def _changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """A recipe with settings, except of what the report says of every run: its net, seed and length, no selection."""
    changed = override(recipe, settings)
    for field in ("seed", "iterations", "global_batch", "select", "data.holdout", "net.name"):
        before, after = attrgetter(field)(recipe), attrgetter(field)(changed)
        if before != after:
            raise InputError(
                f"--set {field}={after}: the study fixes it, at {before} for {recipe.net.name}; leave it out"
            )
    return changed


def net_name(kind: str, depth: int) -> str:
    """The catalogue's name for a plain or residual network of a depth."""
    short = f"{'plain' if kind == 'plain' else 'resnet'}{depth}"
    return short if short in CATALOG else f"cifar_{'plain' if kind == 'plain' else 'resnet'}(depth={depth})"


def read_run(name: str, folder: Path, recipe: Recipe) -> Run:
    """A finished run, as the report needs it."""
    run = RunDir(folder)
    result, history = runs.read_json(run.result), run.read_metrics()
    reached = [line["iteration"] for line in history if line["train_error"] <= THRESHOLD]
    return Run(
        name=name,
        net=recipe.net.name,
        kind="residual" if recipe.own_net.is_residual else "plain",
        depth=recipe.own_net.depth,
        seed=recipe.seed,
        iterations=recipe.iterations,
        params=result["params"],
        final_train_error=tail_error(history, recipe.iterations),
        final_test_error=result["test_error"],
        best_test_error=result["best_test_error"],
        iterations_to_threshold=reached[0] if reached else None,
        curve=Curve(
            iteration=tuple(line["iteration"] for line in history),
            train_error=tuple(line["train_error"] for line in history),
            test_error=tuple(line.get("test_error") for line in history),
        ),
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


def judge(found: Sequence[Run]) -> Verdict:
    """The rule, applied to finished runs."""
    depths = sorted({run.depth for run in found})
    shallow, deep = depths[0], depths[-1]
    error = {(run.kind, run.depth, run.seed): run.final_train_error for run in found}
    seeds = sorted({run.seed for run in found})

    def difference(a: tuple[Kind, int], b: tuple[Kind, int]) -> Difference:
        return Difference.of([error[(*a, seed)] - error[(*b, seed)] for seed in seeds])

    worse = difference(("plain", deep), ("plain", shallow))
    gap = difference(("residual", deep), ("residual", shallow))
    against_plain = difference(("residual", deep), ("plain", deep))
    degradation = worse.above(0)
    cure = both(gap.below(MARGIN), against_plain.below(0))
    overall = both(degradation, cure)
    parts = (
        VerdictPart(
            question=f"Degradation: does plain-{deep} have a higher training error than plain-{shallow}?",
            verdict=degradation,
            numbers=str(worse),
        ),
        VerdictPart(
            question=(
                f"Cure: does ResNet-{deep} stay within {MARGIN:g} points of ResNet-{shallow}, and below plain-{deep}?"
            ),
            verdict=cure,
            numbers=f"against ResNet-{shallow} {gap}; against plain-{deep} {against_plain}",
        ),
        VerdictPart(
            question=f"Beyond the cure: does ResNet-{deep} have a lower training error than ResNet-{shallow}?",
            verdict=gap.below(0),
            numbers=str(gap),
        ),
        _convergence(found, deep),
    )
    return Verdict(
        rule=RULE,
        parts=parts,
        overall=overall,
        sentence=_sentence(overall, degradation, cure, shallow, deep, worse, gap),
    )


def _sentence(overall: Judgement, degradation: Judgement, cure: Judgement, shallow: int, deep: int,
              worse: Difference, gap: Difference) -> str:  # fmt: skip
    if overall == "held":
        return (
            f"Shown here: plain-{deep} trains {worse.mean:.1f} points worse than plain-{shallow}, "
            f"and with shortcuts the gap is {gap.mean:+.1f} points."
        )
    first = {
        "held": f"the degradation was shown here ({worse.mean:+.1f} points)",
        "not held": (
            f"the degradation was not shown here: plain-{deep} trained no worse than plain-{shallow} "
            f"({worse.mean:+.1f} points)"
        ),
        "not decided": f"the degradation was not shown here: the seeds do not decide it ({worse.mean:+.1f} points)",
    }[degradation]
    second = {
        "held": "the cure was",
        "not held": "the cure was not",
        "not decided": "the cure was not decided",
    }[cure]
    numbers = f"ResNet-{deep} against ResNet-{shallow}: {gap.mean:+.1f} points"
    return f"Not shown here as a whole: {first}; {second} ({numbers})."


def _convergence(found: Sequence[Run], depth: int) -> VerdictPart:
    at = {(run.kind, run.seed): run.iterations_to_threshold for run in found if run.depth == depth}
    seeds = sorted({seed for _, seed in at})
    plain = [at["plain", seed] for seed in seeds]
    residual = [at["residual", seed] for seed in seeds]

    def show(values: Sequence[int | None]) -> str:
        return ", ".join("never" if v is None else str(v) for v in values)

    # A run that never came under the threshold is later than any that did.
    sooner = [r is not None and (p is None or r < p) for r, p in zip(residual, plain, strict=True)]
    later = [p is not None and (r is None or p <= r) for r, p in zip(residual, plain, strict=True)]
    verdict: Judgement = "held" if all(sooner) else "not held" if all(later) else "not decided"
    return VerdictPart(
        question=(
            f"Convergence: does ResNet-{depth} come under {THRESHOLD:g} % training error before plain-{depth}, "
            "for each seed?"
        ),
        verdict=verdict if len(seeds) > 1 else "not decided",
        numbers=f"iterations: ResNet-{depth} {show(residual)}; plain-{depth} {show(plain)}",
    )


def differences(plan: Plan) -> tuple[str, ...]:
    """How a plan departs from the paper's experiment; empty if it does not."""
    found = []
    info = plan.info
    if (info.name, info.n_train, info.n_test) != ("cifar10", 50_000, 10_000):
        found.append(
            f"Data: {info.name} ({info.n_train:,} training images of {info.size[0]}x{info.size[1]} pixels), "
            "not the whole of CIFAR-10."
        )
    if plan.iterations != ITERATIONS:
        found.append(
            f"Length: {plan.iterations:,} iterations instead of {ITERATIONS:,}, the drops of the rate in proportion. "
            "So short a run shows a network that cannot be optimised in the budget in which its shallow twin can; "
            "degradation after saturation takes the full length."
        )
    if plan.batch != 128:
        found.append(f"Batch: {plan.batch} instead of 128.")
    if plan.settings:
        found.append("Settings changed: " + ", ".join(plan.settings) + ".")
    return tuple(found)


def summarise(plan: Plan, folder: Path, *, command: str) -> Summary:
    """Reads all runs of a plan from ``folder`` and judges them."""
    recipes = plan.recipes()
    found = [read_run(name, folder / name, recipe) for name, recipe in recipes.items()]
    first = next(iter(recipes.values()))
    envs = [runs.read_json(RunDir(folder / name).env) for name in recipes]
    saved = runs.read_json(RunDir(folder / next(iter(recipes))).recipe)
    times = [runs.read_json(RunDir(folder / name).result) for name in recipes]
    differs = differences(plan)
    table6 = published.load("he2015")["table6"]["rows"]
    paper = (
        {} if differs else {f"resnet{d}": row["test_error"] for d in plan.depths if (row := table6.get(f"resnet{d}"))}
    )
    seconds = sum(t["seconds"] for t in times)
    return Summary(
        study="degradation",
        title="The degradation problem and its cure",
        question=QUESTION,
        paper=PAPER,
        command=command,
        reslab_version=__version__,
        started=min(env["started"] for env in envs),
        finished=max(t["finished"] for t in times),
        wall_seconds=seconds,
        machine=_machine(envs, saved),
        data={
            "name": plan.info.name,
            "source": plan.info.source,
            "n_train": plan.info.n_train,
            "n_test": plan.info.n_test,
            "classes": len(plan.info.classes),
            "fingerprint": plan.info.fingerprint,
        },
        recipe={
            "name": first.name,
            "iterations": first.iterations,
            "batch": first.global_batch,
            "epochs": round(first.iterations * first.global_batch / plan.info.n_train, 1),
            "lr": first.optimizer.lr,
            "drops": first.schedule.drops if isinstance(first.schedule, Steps) else (),
            "momentum": first.optimizer.momentum,
            "weight_decay": first.optimizer.weight_decay if isinstance(first.optimizer, Sgd) else None,
            "bn_group": first.bn_group,
            "precision": saved["precision"],
        },
        how_measured=(
            "Each network is trained on the whole training set; its last iterate is the result, "
            "and the test curve chooses nothing.",
            "Plain and residual twins (option A) have equal parameters and, for each seed, "
            "the same initial weights and batches.",
            f"Threshold of convergence: {THRESHOLD:g} % training error, at a resolution of "
            f"{first.log_every} iterations.",
            f"Time is the sum over the {len(found)} runs, evaluations included.",
        ),
        differs_from_paper=differs,
        caveats=_caveats(saved["precision"]),
        runs=tuple(found),
        rows=rows_of(found, paper),
        threshold=THRESHOLD,
        verdict=judge(found),
    )


def _machine(envs: Sequence[dict[str, Any]], saved: dict[str, Any]) -> dict[str, str]:
    keys = ("cpu", "cores", "threads", "memory", "gpu", "python", "torch", "reslab", "git_commit")
    merged = {key: " / ".join(dict.fromkeys(str(env.get(key, "unknown")) for env in envs)) for key in keys}
    return merged | {"precision": saved["precision"]}


def _caveats(precision: str) -> tuple[str, ...]:
    found = [
        "Weight decay acts on convolutions and the last layer, not on BN and biases: the paper does not say.",
        "The paper's Caffe and this implementation differ in rounding, random draws and the border of BN statistics.",
    ]
    if precision != "fp32":
        found.append(f"Convolutions in {precision}, everything that accumulates in fp32; the paper trained in fp32.")
    return tuple(found)
