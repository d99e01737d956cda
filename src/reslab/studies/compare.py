"""Any runs side by side, without a claim: rows are recipes, and runs of one recipe its seeds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reslab import __version__, runs
from reslab.data.spec import DataInfo
from reslab.errors import InputError
from reslab.nets.spec import NetSpec
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.recipes.he2015_imagenet import he2015_imagenet
from reslab.report.summary import Run, Summary, rows_of
from reslab.report.words import plural
from reslab.runs import RunDir
from reslab.studies.design import Arm
from reslab.studies.summarise import machine_of, read_run
from reslab.train.recipe import Recipe

MOST_SAID = 3
"""Differences of recipes that a row's label says."""


def compare(folders: Sequence[Path], *, command: str) -> Summary:
    """A summary of runs, without a verdict.

    Raises `InputError` for a folder that is no finished run, or networks of another library.
    """
    recipes = {folder: _recipe(folder) for folder in folders}
    labels = _labels(recipes)
    found = []
    for folder, recipe in recipes.items():
        arm = Arm(
            labels[folder], recipe.net.name, "residual networks" if recipe.own_net.is_residual else "plain networks"
        )
        found.append(read_run(folder.name, folder, recipe, arm, threshold=None))
    found = _numbered(found)
    envs = [runs.read_json(RunDir(folder).env) for folder in recipes]
    results = [runs.read_json(RunDir(folder).result) for folder in recipes]
    data = envs[0]["data"]
    prints = {env["data"]["fingerprint"] for env in envs}
    several = () if len(prints) == 1 else ("The runs were trained on different data.",)
    return Summary(
        study="report",
        title="Runs side by side",
        question=f"{plural(len(found), 'run')} of {plural(len(set(labels.values())), 'recipe')}.",
        paper="",
        command=command,
        reslab_version=__version__,
        started=min(env["started"] for env in envs),
        finished=max(result["finished"] for result in results),
        wall_seconds=sum(result["seconds"] for result in results),
        machine=machine_of(envs),
        data={key: data[key] for key in ("name", "n_train", "n_test")} | {"classes": len(data["classes"])},
        recipe=_common(recipes.values()),
        how_measured=("Test error of each run's own result; the test curve chooses nothing.",),
        differs_from_paper=departures([*recipes.values()], envs),
        caveats=several,
        runs=tuple(found),
        rows=rows_of(found),
        threshold=None,
        verdict=None,
    )


def departures(recipes: Sequence[Recipe], envs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """How runs depart from He 2015: data, networks, recipe field by field, length, and how often it was repeated.

    The reference is the paper's training on CIFAR-10 (section 4.2) or on ImageNet (section 3.4), whichever the recipe
    is of by its name; of a recipe of another name that alone is said.
    """
    found: list[str] = []
    for recipe, env in zip(recipes, envs, strict=True):
        data = env["data"]
        sizes = (data["n_train"], data["n_test"])
        wanted = ("cifar10", (50_000, 10_000))
        if recipe.name == "he2015_imagenet":
            wanted = (data["name"], (1_281_167, 50_000))
        if (data["name"], sizes) != wanted:
            known = "the whole of CIFAR-10" if wanted[0] == "cifar10" else "ImageNet's 1,281,167 and 50,000 images"
            found.append(f"Data: {data['name']} ({sizes[0]:,} training and {sizes[1]:,} test images), not {known}.")
        if recipe.name not in REFERENCES:
            found.append(f"Recipe: {recipe.name}, not one of the paper's ({', '.join(REFERENCES)}).")
            continue
        info = DataInfo.model_validate({key: data[key] for key in DataInfo.model_fields if key in data})
        own, paper = _settings(recipe), _settings(REFERENCES[recipe.name](recipe.net, info))
        changed = [
            f"{key} {own.get(key, 'none')} (the paper: {paper.get(key, 'none')})"
            for key in sorted(own.keys() | paper.keys())
            if own.get(key) != paper.get(key) and not key.startswith(OF_OURS)
        ]
        if changed:
            found.append(f"Recipe: {'; '.join(changed)}.")
        if recipe.net.name not in IN_THE_PAPER:
            found.append(f"Network: {recipe.net.name} is not in the paper's tables.")
    if len(recipes) == 1:
        found.append("One run: nothing says how far another random seed would lie from it.")
    return tuple(dict.fromkeys(found))


REFERENCES = {"he2015_cifar": he2015_cifar, "he2015_imagenet": he2015_imagenet}
OF_OURS = ("log_every", "evaluate_every", "precision", "data.name", "name")
"""Fields that decide nothing of the result, or of which the paper says nothing."""
IN_THE_PAPER = (
    *(f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110)), "resnet1202",
    *(f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (18, 34)),
    "resnet50-v1", "resnet101-v1", "resnet152-v1",
)  # fmt: skip


def _recipe(folder: Path) -> Recipe:
    run = RunDir(folder)
    if not run.exists:
        raise InputError(f"{folder}: expected the folder of a run, found no recipe.json in it")
    if not run.finished:
        raise InputError(f"{folder} holds an unfinished run; continue it with reslab train --resume {folder}")
    try:
        recipe = Recipe.model_validate(runs.read_json(run.recipe))
    except ValidationError:
        raise InputError(f"{folder} holds a run by another version of reslab") from None
    if not isinstance(recipe.net, NetSpec):
        raise InputError(
            f"{folder} holds a run of {recipe.net.name}, a network of {recipe.net.library}; expected one of Reslab's"
        )
    return recipe


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from _flat(inside, f"{at}.{key}" if at else key)
    else:
        yield at, str(value)


def _settings(recipe: Recipe) -> dict[str, str]:
    """All that tells a recipe from another, but for its seed and the inside of its network."""
    plain = recipe.model_dump(mode="json", exclude={"seed", "net", "cite"})
    return {"net": recipe.net.name, **dict(_flat(plain))}


def _labels(recipes: Mapping[Path, Recipe]) -> dict[Path, str]:
    """The network of each, and where several recipes have the same network, in what they differ."""
    settings = {folder: _settings(recipe) for folder, recipe in recipes.items()}
    found = {}
    for folder, own in settings.items():
        others = [each for each in settings.values() if each["net"] == own["net"]]
        apart = [key for key in own if len({each.get(key) for each in others}) > 1]
        said = ", ".join(f"{key.rpartition('.')[2]} {own[key]}" for key in apart[:MOST_SAID])
        found[folder] = f"{own['net']}, {said}" if said else own["net"]
    return found


def _numbered(found: Sequence[Run]) -> list[Run]:
    """Two runs of one recipe and one seed are told apart, so that none hides the other."""
    seen: set[tuple[str, int]] = set()
    kept = []
    for run in found:
        seed = run.seed
        while (run.label, seed) in seen:
            seed += 1
        seen.add((run.label, seed))
        kept.append(run.model_copy(update={"seed": seed}))
    return kept


def _common(recipes: Any) -> dict[str, Any]:
    """The settings that all recipes share, as far as a reader asks for them."""
    settings = [_settings(recipe) for recipe in recipes]
    asked = (
        "name",
        "iterations",
        "global_batch",
        "optimizer.kind",
        "optimizer.lr",
        "optimizer.weight_decay",
        "precision",
    )
    return {
        key.rpartition(".")[2] if key != "optimizer.kind" else "optimizer": settings[0][key]
        for key in asked
        if key in settings[0] and len({each.get(key) for each in settings}) == 1
    } | {"iterations": max(recipe.iterations for recipe in recipes)}
