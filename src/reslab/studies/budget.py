"""Chooses a plan for a time budget: depth, length and seeds, from the measured time of a step of each network.

Seeds come first, as many as one of the rule's looks takes: with three seeds a difference has to be 5.2 standard
deviations to come to a verdict four times in five, with five 2.1. So five seeds; then the deepest networks whose study
can still be as long as it asks for (`Study.enough`); then as many iterations as there is time for, up to the paper's;
what is left then goes into more seeds. Where not even the smallest networks can be trained for long enough with five
seeds, there are three.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from reslab.data.sources import Dataset
from reslab.errors import InputError
from reslab.report import words
from reslab.studies.design import ITERATIONS, Depths, Study
from reslab.studies.plan import Plan, macs_of
from reslab.studies.sequential import LOOKS, looked
from reslab.train.device import Execution
from reslab.train.rehearsal import rehearse

SEEDS = 3
"""Of a study without a budget, and the fewest of one with it."""
WANTED_SEEDS = 5
CROWDED = 1.15
"""How much longer a step takes beside others on the same machine than alone: they share its memory."""
OVERHEAD = 5.0
"""Seconds of a run beside its steps and evaluations: start, checkpoints, measurement."""
SHARE = 0.03
"""Of the budget, that measuring may take, for all networks together."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one run of a row, but for what does not depend on its length."""

    step: float
    evaluation: float

    def run(self, plan: Plan, length: float) -> float:
        """Seconds of a run that is ``length`` times as long as the others."""
        iterations = plan.iterations * length
        evaluations = max(8.0, iterations / 1000)  # as `he2015_cifar` has them
        return OVERHEAD + iterations * self.step + evaluations * self.evaluation


Costs = dict[str, Cost]
"""By network."""


@dataclass(frozen=True)
class Budget:
    """A plan, and what it takes."""

    plan: Plan
    costs: Costs
    jobs: int

    def seconds(self, label: str) -> float:
        """Seconds of one run of a row."""
        arm = next(arm for arm in self.plan.arms if arm.label == label)
        return self.costs[arm.net].run(self.plan, arm.length) * (CROWDED if self.jobs > 1 else 1)

    @property
    def total(self) -> float:
        """Seconds of everything, several runs at a time."""
        each = sum(self.seconds(arm.label) for arm in self.plan.arms)
        return each * self.plan.seeds / self.jobs


def measured(plan: Plan, data: Dataset, out: Path, execution: Execution, jobs: int, seconds: float,
             said: Callable[[str], None]) -> Costs:  # fmt: skip
    """Measures a step and an evaluation of each network, with the number of threads that a run will have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // jobs))
    found: Costs = {}
    nets = {arm.net: arm for arm in plan.arms}
    try:
        for net, arm in nets.items():
            said(f"measuring {net}")
            tried = rehearse(
                plan.recipe(arm, 0), data, out / "not-written", execution=execution, seconds=seconds / len(nets)
            )
            found[net] = Cost(tried.seconds_per_step, tried.seconds_per_evaluation)
    finally:
        torch.set_num_threads(threads)
    return found


def guessed(plan: Plan, known: Costs, macs: Callable[[str], int]) -> Costs:
    """Costs of networks that were not measured, in proportion to their multiply-adds."""
    step = sum(cost.step for cost in known.values()) / sum(macs(net) for net in known)
    evaluation = sum(cost.evaluation for cost in known.values()) / sum(macs(net) for net in known)
    return {arm.net: known.get(arm.net, Cost(step * macs(arm.net), evaluation * macs(arm.net))) for arm in plan.arms}


def fitted(plan: Plan, costs: Costs, jobs: int, seconds: float, *, most: int = ITERATIONS) -> int:
    """The greatest number of iterations with which a plan keeps to its time; 0 if none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if Budget(replace(plan, iterations=middle), costs, jobs).total <= seconds:
            low = middle
        else:
            high = middle - 1
    return _round(low)


LADDER = (1, 1.5, 2, 3, 4, 6, 8)


def _round(iterations: int) -> int:
    """Down to a rung of 1, 1.5, 2, 3, 4, 6, 8, 10 ..., so that studies meet on it and take over each other's runs."""
    if iterations in (0, ITERATIONS):
        return iterations
    unit = int(10 ** (len(str(iterations)) - 1))
    return max(round(rung * unit) for rung in LADDER if rung * unit <= iterations)


def choose(
    study: Study,
    make: Callable[[Depths, int, int], Plan],
    data: Dataset,
    out: Path,
    *,
    minutes: float,
    depths: Depths | None,
    seeds: int | None,
    iterations: int | None,
    execution: Execution,
    jobs: int,
    said: Callable[[str], None] = lambda text: None,
) -> Budget:
    """The plan for a budget.

    Args:
        study: what is planned.
        make: the plan of depths, seeds and iterations.
        data: that steps are measured on.
        out: the study's folder; nothing is written there.
        minutes: of wall time, for everything.
        depths, seeds, iterations: where they are given they stand, and the others are chosen.
        execution: device and mode.
        jobs: runs at a time.
        said: told what is being measured.

    Raises:
        InputError: the budget is too small for the least that the study can be.
    """
    if not 0 < minutes < math.inf:
        raise InputError(f"--budget takes minutes, more than 0, got {minutes:g}")
    begun = time.perf_counter()
    least = study.least if iterations is None else iterations
    enough = max(study.enough, least) if iterations is None else iterations
    scales = study.scales if depths is None else (depths,)
    macs = _Macs(data)
    trial = min(4.0 * len(study.arms(scales[0])), SHARE * 60 * minutes)

    def plan_of(scale: Depths, count: int = WANTED_SEEDS) -> Plan:
        return make(scale, seeds or count, enough)

    def left() -> float:
        return 60 * minutes - (time.perf_counter() - begun)

    def longest(plan: Plan, costs: Costs) -> int:
        if iterations is None:
            return fitted(plan, costs, jobs, left())
        return iterations if Budget(replace(plan, iterations=iterations), costs, jobs).total <= left() else 0

    known = measured(plan_of(scales[0]), data, out, execution, jobs, trial, said)
    at = next(
        (
            i
            for i in range(len(scales) - 1, 0, -1)
            if longest(plan_of(scales[i]), guessed(plan_of(scales[i]), known, macs)) >= enough
        ),
        0,
    )
    while True:
        plan = plan_of(scales[at])
        if any(arm.net not in known for arm in plan.arms):
            known |= measured(plan, data, out, execution, jobs, trial, said)
        most = longest(plan, known)
        if at == 0 or most >= enough:
            break
        at -= 1
    for count in (look for look in reversed(LOOKS) if look < WANTED_SEEDS):
        if seeds is None and most < enough:
            plan = plan_of(scales[at], count)
            most = longest(plan, known)
    if most < least:
        need = Budget(replace(plan, iterations=least), known, jobs).total + (60 * minutes - left())
        wanted = math.ceil(need / 60)
        raise InputError(
            f"--budget {minutes:g} is too small: {len(plan.planned())} runs of {least:,} iterations, the minimum for "
            f"this study, take about {words.duration(60 * wanted)} here; give --budget {wanted}, or fewer --seeds"
        )
    plan = replace(plan, iterations=most if iterations is None else iterations)
    if seeds is None and plan.iterations in (ITERATIONS, iterations):
        more = Budget(replace(plan, seeds=1), known, jobs).total
        plan = replace(plan, seeds=max(plan.seeds, *looked(int(left() / more)), 0))
    return Budget(plan, known, jobs)


class _Macs:
    def __init__(self, data: Dataset) -> None:
        self._info, self._known = data.info, dict[str, int]()

    def __call__(self, net: str) -> int:
        if net not in self._known:
            self._known[net] = macs_of(net, self._info)
        return self._known[net]
