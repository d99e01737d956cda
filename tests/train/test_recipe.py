"""Recipes as data: saved and read back, changed field by field, and refused where they cannot be."""

import json
import re
from typing import Any

import pytest

from reslab.data.sources import load
from reslab.errors import InputError
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.train.recipe import Recipe, Steps, WarmUp, override, validated


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return he2015_cifar("cifar_resnet(depth=8, width=4)", load("digits").info, iterations=40, batch=128)


def refusal(recipe: Recipe, *assignments: str) -> str:
    with pytest.raises(InputError) as caught:
        override(recipe, assignments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_json_and_back(recipe: Recipe) -> None:
    full = override(recipe, ['warm_up={"lr":0.02}', "bn_group=32", "data.holdout=100", "select=best-validation"])
    for each in (recipe, full):
        text = json.dumps(each.model_dump(mode="json"), allow_nan=False)
        assert Recipe.model_validate(json.loads(text)) == each
        assert Recipe.model_validate_json(text) == each


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("optimizer.lr=0.05", "optimizer.lr", 0.05),
        ("optimizer.lr=1", "optimizer.lr", 1.0),
        ("optimizer.nesterov=true", "optimizer.nesterov", True),
        ("optimizer.momentum_form=lr-outside", "optimizer.momentum_form", "lr-outside"),
        ("data.augment.flip=true", "data.augment.flip", True),
        ("net.init.zero_gamma=true", "net.init.zero_gamma", True),
        ("bn_group=null", "bn_group", None),
        ("schedule.drops=[10,20,30]", "schedule.drops", (10, 20, 30)),
        ("schedule.drops=[]", "schedule.drops", ()),
        ('schedule={"drops":[7]}', "schedule", Steps(drops=(7,))),
        ('warm_up={"until_error":70}', "warm_up", WarmUp(until_error=70)),
        (" optimizer.momentum =0.5", "optimizer.momentum", 0.5),
        ("cite=a=b", "cite", "a=b"),
    ],
)
def test_a_field_is_set(recipe: Recipe, assignment: str, path: str, value: object) -> None:
    changed: Any = override(recipe, [assignment])
    for step in path.split("."):
        changed = getattr(changed, step)
    assert changed == value
    assert type(changed) is type(value)


def test_nothing_else_changes_and_the_original_stays(recipe: Recipe) -> None:
    before = recipe.model_dump()
    changed = override(recipe, ["optimizer.lr=0.05", "seed=3"]).model_dump()
    assert recipe.model_dump() == before
    assert changed.pop("seed") == 3
    assert changed["optimizer"].pop("lr") == 0.05
    assert before.pop("seed") == 0
    before["optimizer"].pop("lr")
    assert changed == before
    assert override(recipe, []) == recipe
    assert override(recipe, ["seed=3", "seed=4"]).seed == 4  # the last word counts


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("optimiser.lr=0.1", r"the recipe has no field 'optimiser'; did you mean 'optimizer'\?"),
        ("optimizer.learning=0.1", "optimizer has no field 'learning'; .*"),
        ("optimizer.nestrov=true", r"optimizer has no field 'nestrov'; did you mean 'nesterov'\?"),
        ("optimizer.lr.x=1", "optimizer.lr has no field 'x'; no fields"),
        ("average.decay=0.9", r"average is null; give all of it, as average=\{\"decay\": 0.9\}"),
        ("data.augment.flop=1", r"data.augment has no field 'flop'; did you mean 'flip'\?"),
        ("=1", "the recipe has no field ''"),
        ("lr", "--set takes FIELD=VALUE such as optimizer.lr=0.05, got 'lr'"),
        ("optimizer.lr=fast", "optimizer.lr: .*number.*, got 'fast'"),
        ("optimizer.lr=true", "optimizer.lr takes a number .*, got true"),
        ("optimizer.lr=", "optimizer.lr: .*number.*, got ''"),
        ("optimizer.lr=-0.1", "optimizer.lr: .*greater than 0, got -0.1"),
        ("optimizer.lr=NaN", "optimizer.lr: .*, got nan"),
        ("optimizer.lr=Infinity", "optimizer.lr: .*finite number, got inf"),
        ("optimizer.lr=inf", "optimizer.lr: .*finite number, got 'inf'"),
        ("optimizer.lr=[0.1]", r"optimizer.lr: .*number, got \[0.1\]"),
        ("optimizer.momentum=1", "optimizer.momentum: .*less than 1, got 1"),
        ("optimizer.momentum_form=torch", "optimizer.momentum_form: .*'lr-inside' or 'lr-outside', got 'torch'"),
        ("optimizer=sgd", "optimizer: .*, got 'sgd'"),
        ("optimizer.nesterov=perhaps", "optimizer.nesterov: .*boolean.*, got 'perhaps'"),
        ("iterations=1.5", "iterations: .*integer.*, got 1.5"),
        ("iterations=true", "iterations takes a number .*, got true"),
        ("iterations=0", "iterations: .*, got 0"),
        ("global_batch=1", "global_batch: .*, got 1"),
        ("seed=-1", "seed: .*, got -1"),
        ("schedule.drops=[20,10]", r"schedule: drops must ascend from 1, got \[20, 10\]"),
        ("schedule.drops=[0]", r"drops must ascend from 1, got \[0\]"),
        ("schedule.drops=20", "schedule.drops: .*, got 20"),
        ("precision=fp16", "precision: .*, got 'fp16'"),
        ("average=0.99", r"average: has fields; give all of them as JSON, .*, got 0.99$"),
        ('average={"decay":0.9,"step":5}', "average.step: no such field, got 5"),
        ("optimizer.kind=adam", "optimizer.kind: should be 'sgd' or 'muon', got 'adam'"),
    ],
)
def test_a_wrong_field_or_value_is_named(recipe: Recipe, assignment: str, said: str) -> None:
    text = refusal(recipe, assignment)
    assert re.search(said, text), text
    assert "--set " + assignment.strip() in text or assignment == "lr"


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["bn_group=48"], "global_batch 128 cannot be divided into BN groups of 48; set bn_group to a divisor"),
        (["net.num_classes=5"], "the data has 10 classes but the network only 5; set net.num_classes=10"),
        (["net.in_channels=3"], "the network takes images of 3 channels, the data has 1"),
        (["select=best-validation"], r"needs validation images: set data.holdout \(--holdout\)"),
    ],
)
def test_fields_that_contradict_each_other(recipe: Recipe, assignments: list[str], said: str) -> None:
    assert re.search(said, refusal(recipe, *assignments))


@pytest.mark.parametrize(
    "assignments",
    [["bn_group=32"], ["bn_group=128"], ["bn_group=256"], ["bn_group=48", "global_batch=96"], ["net.num_classes=12"]],
)
def test_fields_that_agree(recipe: Recipe, assignments: list[str]) -> None:
    override(recipe, assignments)


def test_a_damaged_file_is_named(recipe: Recipe) -> None:
    values = recipe.model_dump(mode="json")
    with pytest.raises(InputError, match=r"^run/recipe.json: optimizer.lr: .*, got 'x'$"):
        validated({**values, "optimizer": {**values["optimizer"], "lr": "x"}}, "run/recipe.json")
    with pytest.raises(InputError, match=r"^run/recipe.json: "):
        validated(values["optimizer"], "run/recipe.json")
    with pytest.raises(InputError, match="future"):
        validated({**values, "future": 1}, "run/recipe.json")
