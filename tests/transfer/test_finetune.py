"""From a folder and weights to a classifier: what is trained, what stays, and that it is worth something."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reslab.errors import InputError
from reslab.runs import RunDir
from reslab.train.device import Execution
from reslab.train.loop import Stopped
from reslab.train.partial import Partial, parts_of
from reslab.train.recipe import Transfer
from reslab.train.trainer import balanced, mixing
from reslab.transfer.embed import embedded, into_head
from reslab.transfer.finetune import Prepared, fit, network, prepare
from reslab.transfer.recipe import Choice
from reslab.weights.load import load

from .pictures import COLOURS, folder, weights

CPU = Execution(torch.device("cpu"), workers=0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("photos"), 20)


def prepared(photos: Path, start: Path, tmp_path: Path, **choice: Any) -> Prepared:
    usual: dict[str, Any] = {"precision": "fp32", "epochs": 4, "batch": 12}
    wanted = Choice(**(usual | choice))
    return prepare(photos, str(start), wanted, cache_dir=tmp_path / "cache", validation=0.2)


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return load(run).tensors


def test_the_head_alone(photos: Path, start: Path, tmp_path: Path) -> None:
    plan = prepared(photos, start, tmp_path, trains="head")
    result = fit(plan, tmp_path / "run", execution=CPU, quiet=True)
    assert result["test_error"] < 25
    assert result["n_test_images"] == 12
    assert result["iterations"] == 0
    before, after = load(start).tensors, tensors(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("fc"))
    made = load(tmp_path / "run")
    assert made.classes == tuple(COLOURS)
    assert made.preprocessing == plan.preprocessing


def test_everything_is_trained_from_the_fitted_head(photos: Path, start: Path, tmp_path: Path) -> None:
    result = fit(prepared(photos, start, tmp_path, early_stop=99), tmp_path / "run", execution=CPU, quiet=True)
    lines = RunDir(tmp_path / "run").read_metrics()
    assert lines[0]["iteration"] == 0
    assert lines[0]["validation_error"] < 40
    assert result["validation_error"] == min(line["validation_error"] for line in lines if "validation_error" in line)
    assert not any("test_error" in line for line in lines)  # the test images are read once, at the end
    before, after = load(start).tensors, tensors(tmp_path / "run")
    if result["selected_iteration"]:
        assert not torch.equal(before["conv1.weight"], after["conv1.weight"])


def test_a_run_that_was_stopped_ends_the_same(photos: Path, start: Path, tmp_path: Path) -> None:
    plan = prepared(photos, start, tmp_path, trains="gradual", decay=1.0, mixup=0.2, balanced=True, augment="strong")
    whole = fit(plan, tmp_path / "whole", execution=CPU, quiet=True)
    asked = iter([False] * 6 + [True] * 99)
    with pytest.raises(Stopped):
        fit(plan, tmp_path / "parts", execution=CPU, quiet=True, stop=lambda: next(asked))
    parts = fit(plan, tmp_path / "parts", execution=CPU, quiet=True)
    assert parts["test_loss"] == whole["test_loss"]
    one, other = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("choice", "moved"),
    [
        ({"trains": "last"}, {"layer3", "fc"}),
        ({"trains": "last", "stages": 2}, {"layer2", "layer3", "fc"}),
        ({"trains": "all"}, {"conv1", "bn1", "layer1", "layer2", "layer3", "fc"}),
    ],
)
def test_what_is_not_trained_stays_bit_for_bit(
    choice: dict[str, Any], moved: set[str], photos: Path, start: Path, tmp_path: Path
) -> None:
    plan = prepared(photos, start, tmp_path, head="drawn", epochs=1, **choice)
    plan = dataclasses.replace(plan, recipe=plan.recipe.model_copy(update={"select": "last"}))
    fit(plan, tmp_path / "run", execution=CPU, quiet=True)
    before, after = load(start).tensors, tensors(tmp_path / "run")
    found = {
        name.split(".")[0]
        for name in before
        if not name.startswith("fc") and not torch.equal(before[name], after[name])
    }
    assert found | {"fc"} == moved


@pytest.mark.parametrize("fused", [False, True])
def test_frozen_bn_keeps_its_statistics_and_trains_its_scales(
    fused: bool, photos: Path, start: Path, tmp_path: Path
) -> None:
    plan = prepared(photos, start, tmp_path, trains="all", freeze_bn=True, head="drawn", epochs=1)
    plan = dataclasses.replace(plan, recipe=plan.recipe.model_copy(update={"select": "last"}))
    fit(plan, tmp_path / "run", execution=dataclasses.replace(CPU, fused=fused), quiet=True)
    before, after = load(start).tensors, tensors(tmp_path / "run")
    for name in before:
        if "running" in name or "batches" in name:
            assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["bn1.weight"], after["bn1.weight"])


def test_parts_become_trained_one_after_the_other() -> None:
    from reslab.nets.network import build

    net = build("cifar_resnet(depth=8, width=4)")
    rule = Partial(net, Transfer(trains="gradual", unfrozen=0.5))
    firsts = [rule.first(progress) for progress in (0.0, 0.1, 0.13, 0.3, 0.45, 0.5, 1.0)]
    assert firsts == [4, 4, 3, 2, 1, 0, 0]
    assert list(parts_of(net)) == ["stem", "layer1", "layer2", "layer3", "head"]
    rule.apply(0.0)
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    assert not net.bn1.training
    rule.apply(0.5)
    assert all(p.requires_grad for p in net.parameters())
    assert net.bn1.training


def test_rates_fall_from_the_head_down() -> None:
    from reslab.nets.network import build

    rates = Partial(build("cifar_resnet(depth=8, width=4)"), Transfer(decay=0.5)).rates()
    assert (rates["fc.weight"], rates["layer3.0.conv1.weight"], rates["conv1.weight"]) == (1.0, 0.5, 0.0625)


def test_rates_are_what_the_step_takes(photos: Path, start: Path, tmp_path: Path) -> None:
    from reslab.train.trainer import Trainer

    steps = []
    for decay in (1.0, 0.25):
        plan = prepared(photos, start, tmp_path, trains="all", decay=decay, head="drawn")
        trainer = Trainer(plan.recipe, plan.data, CPU)
        before = trainer.net.get_parameter("layer3.0.conv1.weight").detach().clone()
        trainer.step()
        steps.append(trainer.net.get_parameter("layer3.0.conv1.weight").detach() - before)
    torch.testing.assert_close(steps[1], 0.25 * steps[0], rtol=1e-3, atol=1e-7)


def test_another_librarys_network(photos: Path) -> None:
    net = nn.Sequential()
    net.add_module("body", nn.Conv2d(3, 4, 1))
    net.add_module("classifier", nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)))
    assert parts_of(net) == {"body": ("body",), "head": ("classifier",)}
    with pytest.raises(InputError, match="stages of another library's network"):
        Partial(net, Transfer(trains="last"))
    with pytest.raises(InputError, match="no linear layer that could be its head"):
        parts_of(nn.Conv2d(3, 4, 1))


def test_the_training_ends_early(photos: Path, start: Path, tmp_path: Path) -> None:
    plan = prepared(photos, start, tmp_path, trains="all", lr=1e-9, epochs=30, early_stop=2)
    result = fit(plan, tmp_path / "run", execution=CPU, quiet=True)
    last = RunDir(tmp_path / "run").read_metrics()[-1]["iteration"]
    assert last == result["selected_iteration"] + 2 * plan.recipe.evaluate_every
    assert last < plan.recipe.iterations


def test_photographs_stay_on_disk(tmp_path: Path) -> None:
    photos = folder(tmp_path / "photos", 6, side=90)
    start = weights(tmp_path / "w.safetensors", "resnet18", side=72)
    plan = prepare(
        photos, str(start), Choice(trains="all", precision="fp32", epochs=1, batch=4), cache_dir=tmp_path / "cache"
    )
    plan = dataclasses.replace(plan, recipe=plan.recipe.model_copy(update={"iterations": 2, "evaluate_every": 1}))
    result = fit(plan, tmp_path / "run", execution=CPU, quiet=True)
    assert result["n_test_images"] == 3
    assert load(tmp_path / "run").preprocessing == plan.preprocessing


def test_embeddings_are_what_the_head_takes_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = folder(tmp_path / "photos", 20, side=90)
    start = weights(tmp_path / "w.safetensors", "resnet18", side=72)
    plan = prepare(photos, str(start), cache_dir=tmp_path / "cache")
    net = network(plan.weights, CPU)
    how: dict[str, Any] = {
        "precision": "fp32", "device": torch.device("cpu"), "weights": "w", "cache_dir": tmp_path / "cache"
    }  # fmt: skip
    rows = embedded(net, plan.data.train, plan.preprocessing, **how)
    assert rows.shape == (len(plan.division.train), 512)
    monkeypatch.setattr("reslab.transfer.embed.embeddings_of", None)
    assert np.array_equal(rows, embedded(net, plan.data.train, plan.preprocessing, **how))
    with into_head(net) as seen, torch.no_grad():
        logits = net(torch.rand(2, 3, 72, 72))
    torch.testing.assert_close(seen[0] @ net.get_parameter("fc.weight").T + net.get_parameter("fc.bias"), logits)


def test_rare_classes_count_for_more() -> None:
    found = balanced(torch.tensor([0, 0, 0, 1]), 3)
    torch.testing.assert_close(found, torch.tensor([4 / 6, 2.0, 0.0]))


def test_mixing_is_a_function_of_the_iteration() -> None:
    drawn = [mixing(0.2, 7, i) for i in range(50)]
    assert drawn == [mixing(0.2, 7, i) for i in range(50)]
    assert all(0.5 <= share <= 1 for share in drawn)
    assert len(set(drawn)) > 40


def test_a_class_without_images_to_train_on(tmp_path: Path, start: Path) -> None:
    photos = folder(tmp_path / "photos", 3)
    (photos / "grey").mkdir()
    (photos / "grey" / "x.jpg").write_text("no picture")
    with pytest.raises(InputError, match="found none in 'grey'"):
        prepare(photos, str(start), cache_dir=tmp_path / "cache")


def test_choices_that_cannot_be(photos: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finetune: mixup"):
        prepared(photos, start, tmp_path, mixup=-1)
    with pytest.raises(InputError, match="expected an augmentation of none, light, standard, strong"):
        prepared(photos, start, tmp_path, augment="heavy")


def test_what_it_is_worth(photos: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reslab.runs import read_json
    from reslab.transfer import worth
    from reslab.weights.files import read_safetensors

    monkeypatch.setattr("reslab.transfer.worth.ENOUGH", 20)
    plan = prepare(
        photos, str(start), Choice(trains="head", precision="fp32"), cache_dir=tmp_path / "cache", validation=0.7
    )
    result = fit(plan, tmp_path / "run", execution=CPU, quiet=True)
    found = worth.measure(plan, tmp_path / "run", CPU)
    plain, calibrated = found.figures()
    assert plain.top1_error == pytest.approx(result["test_error"])
    assert plain.loss == pytest.approx(result["test_loss"], rel=1e-4)
    assert found.temperature is not None
    assert calibrated.top1_error == plain.top1_error
    assert [Path(name).parent.name for name in found.test.names] == [found.classes[i] for i in found.test.labels]
    assert read_safetensors(tmp_path / "run" / "checkpoints" / "final.safetensors")[1]["temperature"] == (
        found.temperature
    )
    kept = read_json(tmp_path / "run" / "result.json")
    assert kept["accuracy"] == pytest.approx(100 - result["test_error"])
    again = worth.measure(plan, tmp_path / "run", CPU)
    assert np.array_equal(again.test.logs, found.test.logs)
    assert again.test.names == found.test.names
    with pytest.raises(InputError, match="expected a finished fine-tuning"):
        worth.read(tmp_path)


@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_the_last_weights_are_the_result_and_the_test_images_are_read_once(
    validation: float, photos: Path, start: Path, tmp_path: Path
) -> None:
    plan = prepare(
        photos, str(start), Choice(precision="fp32", epochs=4, batch=12), cache_dir=tmp_path / "cache",
        validation=validation,
    )  # fmt: skip
    result = fit(plan, tmp_path / "run", execution=CPU, quiet=True)
    lines = RunDir(tmp_path / "run").read_metrics()
    assert result["selected_iteration"] == plan.recipe.iterations
    read = [line["iteration"] for line in lines if "test_error" in line]
    assert read == ([] if validation else [plan.recipe.iterations])
    assert ("validation_error" in result) == bool(validation)


def test_length_follows_from_the_number_of_images() -> None:
    from reslab.transfer.recipe import usual_steps

    assert [usual_steps(n) for n in (64, 600, 15_000, 10**7)] == [200, 612, 3062, 10_000]
