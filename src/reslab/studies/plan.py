"""A study on a data set: its runs as recipes, and how they differ from the paper's experiment."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from reslab import published
from reslab.data.spec import DataInfo
from reslab.errors import InputError
from reslab.nets.catalog import resolve
from reslab.nets.cost import cost
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.studies.design import ITERATIONS, Arm, Depths, Study
from reslab.studies.verdict import rule_of
from reslab.train.recipe import Recipe, override

FIXED = ("seed", "iterations", "global_batch", "select", "data.holdout", "net.name")
"""Fields of a recipe that a study says of its runs, so that nobody can set them beside it."""

MARK = "study.json"
"""What makes a folder a study's."""


@dataclass(frozen=True)
class Planned:
    """One run of a study."""

    name: str
    """of its folder"""
    arm: Arm
    recipe: Recipe
    after: str | None = None
    """the run whose result it starts from"""


def of_no_study(recipes: Mapping[str, Recipe]) -> tuple[Planned, ...]:
    """Runs by name that are carried out as those of a study are."""
    return tuple(Planned(name, Arm(name, recipe.net.name, ""), recipe) for name, recipe in recipes.items())


@dataclass(frozen=True)
class Plan:
    """A study, and what it is run on and for how long."""

    study: Study
    info: DataInfo
    depths: Depths
    seeds: int
    iterations: int
    batch: int = 128
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(sorted(set(self.depths))))
        if self.seeds < 1:
            raise InputError(f"--seeds takes 1 or more, got {self.seeds}")
        self.study.check(self.depths)
        # What cannot be trained is refused before anything is.
        precisions = {self.recipe(arm, 0).precision for arm in self.arms}
        assert len(precisions) == 1, f"{self.study.name} would compare {' with '.join(precisions)}"

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The rows."""
        return self.study.arms(self.depths)

    def recipe(self, arm: Arm, seed: int) -> Recipe:
        """Of one run."""
        iterations = round(self.iterations * arm.length)
        recipe = he2015_cifar(arm.net, self.info, iterations=iterations, seed=seed, batch=self.batch)
        if self.study.precision == "fp32":
            # In bf16 a deep plain network would be compared with its own rounding: docs/log.md.
            recipe = recipe.model_copy(update={"precision": "fp32"})
        recipe = override(recipe, arm.settings) if arm.settings else recipe
        return _changed(recipe, self.settings)

    def planned(self) -> tuple[Planned, ...]:
        """All runs, seed by seed, so that an early stop leaves whole pairs."""
        return tuple(self._planned())

    def _planned(self) -> Iterator[Planned]:
        arms = {arm.label: arm for arm in self.arms}
        for seed in range(self.seeds):
            for arm in arms.values():
                after = None if arm.start is None else f"{arms[arm.start].folder}-seed{seed}"
                yield Planned(f"{arm.folder}-seed{seed}", arm, self.recipe(arm, seed), after)

    def mark(self) -> dict[str, Any]:
        """Identifies a folder of this study: runs of another plan do not belong there.

        Not the number of seeds: a study may be gone on with by more of them.
        """
        return {
            "study": self.study.name,
            "version": version_of(self.study, self.depths),
            "data": self.info.fingerprint,
            "depths": list(self.depths),
            "iterations": self.iterations,
            "batch": self.batch,
            "settings": list(self.settings),
        }


def version_of(study: Study, depths: Depths) -> str:
    """Tells versions of a study apart: 12 hex digits over its rows and its rule."""
    rule = f"{rule_of(study, depths)} {study.threshold}"
    text = f"{study.arms(depths)!r} {rule} {study.measure} {study.derive} {study.precision}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """A recipe with settings, except of what the report says of every run."""
    changed = override(recipe, settings)
    for field in FIXED:
        before, after = attrgetter(field)(recipe), attrgetter(field)(changed)
        if before != after:
            raise InputError(
                f"--set {field}={after}: the study fixes this field at {before} for {recipe.net.name}; leave it out"
            )
    return changed


def differences(plan: Plan) -> tuple[str, ...]:
    """How a plan departs from the paper's experiment; empty if it does not."""
    found = []
    info = plan.info
    if plan.study.on != "CIFAR-10":
        found.append(
            f"The paper's experiment is on {plan.study.on}, with networks for it; here the same question is asked for "
            "small images and networks for them."
        )
    if (info.name, info.n_train, info.n_test) != ("cifar10", 50_000, 10_000):
        found.append(
            f"Data: {info.name} ({info.n_train:,} training images of {info.size[0]}x{info.size[1]} pixels), "
            "not the whole of CIFAR-10."
        )
    if plan.iterations != ITERATIONS:
        found.append(
            f"Length: {plan.iterations:,} iterations instead of {ITERATIONS:,}, learning-rate drops in proportion. "
            "Such a short run shows what can be learnt in this budget, not how good a network is after convergence."
        )
    if plan.batch != 128:
        found.append(f"Batch: {plan.batch} instead of 128.")
    if plan.settings:
        found.append("Settings changed: " + ", ".join(plan.settings) + ".")
    return tuple(found)


def other_networks(plan: Plan) -> tuple[str, ...]:
    """Said where the networks are not the paper's own; the figures of those that are stay comparable."""
    paper = plan.study.paper_sizes
    if not paper or set(plan.depths) == set(paper):
        return ()
    depths = " and ".join(map(str, plan.depths))
    return (f"Networks: of {depths} layers; the paper's have {' and '.join(map(str, paper))}.",)


def published_of(plan: Plan) -> Mapping[str, float]:
    """The paper's test error of each row that has one, where nothing departs from its experiment."""
    if differences(plan):
        return {}
    found = {}
    for arm in plan.arms:
        if arm.published and arm.length == 1 and arm.start is None:
            value: Any = published.load(arm.published[0])
            for key in arm.published[1:]:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, int | float):
                found[arm.label] = float(value)
    return found


def macs_of(net: str, info: DataInfo) -> int:
    """Multiply-adds of a network for one image of a data set."""
    spec = resolve(net, num_classes=len(info.classes), in_channels=info.channels, size=info.size)
    return cost(spec).macs
