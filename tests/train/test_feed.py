"""Training on photographs that stay on disk, in each way that they are kept."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from reslab.data.sources import Dataset, Photographs, load, load_photographs
from reslab.data.spec import Augment, Colour, ScaleCrop
from reslab.data.stored import Files
from reslab.errors import InputError
from reslab.evaluate.metrics import evaluate
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir
from reslab.train.device import Execution
from reslab.train.distributed import World
from reslab.train.loop import Stopped, train
from reslab.train.recipe import Recipe, Resolution
from reslab.train.trainer import Trainer
from reslab.weights.files import read_safetensors

from .photographs import CLASSES, in_folders, in_shards, in_tables, photograph

CPU = Execution(torch.device("cpu"), workers=0)
SIZE = (16, 16)


@pytest.fixture(params=["folders", "flat", "shards", "tables"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Photographs:
    makers = {
        "folders": in_folders,
        "flat": lambda root: in_folders(root, flat=True),
        "shards": in_shards,
        "tables": in_tables,
    }
    return load_photographs(makers[request.param](tmp_path / "data"), SIZE, cache_dir=tmp_path / "cache")


def recipe_for(data: Photographs, iterations: int = 12) -> Recipe:
    small = he2015_cifar("cifar_resnet(depth=8, width=4)", data.info.model_copy(update={"augment": Augment()}))
    spec = data.info.spec(normalization="imagenet").model_copy(update={"augment": ScaleCrop(short=(18, 22))})
    changes = {
        "data": spec, "iterations": iterations, "global_batch": 12, "bn_group": None, "evaluate_every": 6,
        "log_every": 3, "precision": "fp32",
    }  # fmt: skip
    return Recipe.model_validate(
        small.model_dump() | {k: v for k, v in changes.items() if k != "data"} | {"data": spec}
    )


def test_it_is_found_trained_on_and_evaluated(kept: Photographs, tmp_path: Path) -> None:
    assert (kept.info.n_train, kept.info.n_test, len(kept.info.classes)) == (36, 15, 3)
    result = train(recipe_for(kept, 30), kept, tmp_path / "run", execution=CPU, quiet=True)
    assert result["n_test_images"] == 15
    assert result["train_error"] < 50
    assert result["damaged_images"] == 0
    header = read_safetensors(tmp_path / "run" / "checkpoints" / "final.safetensors")[1]
    assert header["preprocessing"]["crop"] == [16, 16]
    assert header["preprocessing"]["resize"] == 18


def test_a_run_that_was_stopped_ends_the_same(kept: Photographs, tmp_path: Path) -> None:
    recipe = recipe_for(kept)
    train(recipe, kept, tmp_path / "straight", execution=CPU, quiet=True)
    steps = iter(range(1, 100))
    with pytest.raises(Stopped):
        train(recipe, kept, tmp_path / "stopped", execution=CPU, quiet=True, stop=lambda: next(steps) == 5)
    train(recipe, kept, tmp_path / "stopped", execution=replace(CPU, workers=1), quiet=True)
    weights = [
        read_safetensors(tmp_path / name / "checkpoints" / "final.safetensors")[0] for name in ("straight", "stopped")
    ]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    metrics = [(RunDir(tmp_path / name).metrics).read_bytes() for name in ("straight", "stopped")]
    assert metrics[0] == metrics[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return in_folders(tmp_path / "data")


def test_damaged_images_are_left_out_counted_and_named(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "ant" / "003.png").write_bytes(photograph(3)[:50])
    (folder / "val" / "bee" / "100.png").write_bytes(b"no image")
    data = load_photographs(folder, SIZE, cache_dir=tmp_path / "cache")
    result = train(recipe_for(data), data, tmp_path / "run", execution=CPU, quiet=True)
    assert result["n_test_images"] == 14
    assert result["damaged_images"] == 2
    assert any("003.png" in text for text in result["damaged"])
    (folder / "train" / "ant" / "006.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="2 images cannot be decoded; at most 1 may be damaged"):
        train(recipe_for(data), data, tmp_path / "other", execution=CPU, quiet=True)


def test_ranks_evaluate_each_image_once(folder: Path, tmp_path: Path) -> None:
    data = load_photographs(folder, SIZE, cache_dir=tmp_path / "cache")
    alone = Trainer(recipe_for(data), data, CPU)
    whole = evaluate(alone.net, alone.test)
    wrong = 0.0
    for rank in range(2):
        recipe = recipe_for(data).model_copy(update={"bn_group": 6})
        part = Trainer(recipe, data, replace(CPU, world=World(rank, 2))).test
        found = evaluate(alone.net, part)
        wrong += found.top1_error * found.n_images
    assert wrong / 15 == pytest.approx(whole.top1_error)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"normalization": "per-pixel-mean"}, "normalised by ImageNet's constants or not, got 'per-pixel-mean'"),
        ({"holdout": 5}, "--holdout is for images in memory"),
        ({"augment": Augment()}, r"they are cropped \(scale-crop, resized-crop\), not shifted"),
    ],
)
def test_what_does_not_go_with_photographs(folder: Path, tmp_path: Path, change: dict[str, object], says: str) -> None:
    data = load_photographs(folder, SIZE, cache_dir=tmp_path / "cache")
    recipe = recipe_for(data)
    other = recipe.model_copy(update={"data": recipe.data.model_copy(update=change)})
    with pytest.raises(InputError, match=says):
        Trainer(other, data, CPU)


def test_crops_do_not_go_with_images_in_memory() -> None:
    digits = load("digits")
    recipe = he2015_cifar("cifar_resnet(depth=8, width=4)", digits.info, iterations=2)
    other = recipe.model_copy(update={"data": recipe.data.model_copy(update={"augment": ScaleCrop()})})
    with pytest.raises(InputError, match="'digits' is in memory: its images are shifted"):
        Trainer(other, digits, CPU)


def test_layouts_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing there"):
        load_photographs(tmp_path / "nowhere", SIZE)
    (tmp_path / "data" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="expected train/<class>/<image> and val/<class>/<image>"):
        load_photographs(tmp_path / "data", SIZE)
    with pytest.raises(InputError, match="--labels is for images that are not in class folders"):
        load_photographs(in_shards(tmp_path / "shards"), SIZE, labels=tmp_path / "list.txt")
    with pytest.raises(
        InputError, match=r"--labels is for images that are not in class folders, and .* has class folders"
    ):
        load_photographs(in_folders(tmp_path / "folders"), SIZE, labels=tmp_path / "list.txt")
    flat = in_folders(tmp_path / "flat", flat=True)
    (flat / "val.txt").unlink()
    with pytest.raises(InputError, match="the images are not in class folders and have no list of labels"):
        load_photographs(flat, SIZE, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_training_images_grow(where: str, folder: Path, tmp_path: Path) -> None:
    """The first are small, the last as large as said; evaluations see the data's own size; stopping changes nothing."""
    data: Photographs | Dataset
    if where == "disk":
        data = load_photographs(folder, SIZE, cache_dir=tmp_path / "cache")
        recipe = recipe_for(data)
    else:
        data = load("digits")
        recipe = he2015_cifar("cifar_resnet(depth=8, width=4)", data.info, iterations=12)
    growing = recipe.model_copy(update={"resolution": Resolution(start=6, end=12, ramp=(0.25, 0.75), step=3)})
    feed = Trainer(growing, data, CPU).feed
    sides = [feed(i)[0].shape[-1] for i in range(12)]
    assert (sides[0], sides[-1]) == (6, 12)
    assert sides == sorted(sides)
    assert 9 in sides
    assert next(iter(feed.test))[0].shape[-1] == data.info.size[0]
    whole = Trainer(recipe, data, CPU).feed(0)
    assert torch.equal(feed(0)[1], whole[1])  # the same images, in fewer pixels
    small = torch.nn.functional.interpolate(whole[0], (6, 6), mode="bilinear", antialias=True)
    assert torch.allclose(feed(0)[0], small, atol=0.2)
    train(growing, data, tmp_path / "straight", execution=CPU, quiet=True)
    steps = iter(range(1, 100))
    with pytest.raises(Stopped):
        train(growing, data, tmp_path / "stopped", execution=CPU, quiet=True, stop=lambda: next(steps) == 5)
    train(growing, data, tmp_path / "stopped", execution=CPU, quiet=True)
    both = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("straight", "stopped")]
    assert both[0] == both[1]


def test_colours_are_part_of_the_recipe(folder: Path, tmp_path: Path) -> None:
    data = load_photographs(folder, SIZE, cache_dir=tmp_path / "cache")
    recipe = recipe_for(data)
    changed = recipe.data.augment.model_copy(update={"colour": Colour(pca=0.1, jitter=0.4)})
    other = recipe.model_copy(update={"data": recipe.data.model_copy(update={"augment": changed})})
    plain, coloured = (Trainer(each, data, CPU).feed(3)[0] for each in (recipe, other))
    assert plain.shape == coloured.shape
    assert not torch.equal(plain, coloured)
    assert coloured.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(coloured, Trainer(other, data, CPU).feed(3)[0])


def test_folders_come_before_the_archives_they_were_unpacked_from(folder: Path, tmp_path: Path) -> None:
    for name in ("ILSVRC2012_img_val.tar", "backup.tar", "train.tar"):
        (folder / name).write_bytes(b"")
    assert load_photographs(folder, SIZE, cache_dir=tmp_path / "cache").info.n_train == 36


def test_kaggles_layout(tmp_path: Path) -> None:
    root = tmp_path / "kaggle"
    in_folders(root / "ILSVRC" / "Data" / "CLS-LOC", flat=True)
    (root / "ILSVRC" / "Data" / "CLS-LOC" / "val.txt").unlink()
    rows = "".join(f"{i},{CLASSES[i % 3]} 1 2 3 4\n" for i in range(100, 115))
    (root / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{rows}")
    unlabelled = root / "ILSVRC" / "Data" / "CLS-LOC" / "test"  # Kaggle's has 100,000 images, and no list of them
    unlabelled.mkdir()
    (unlabelled / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"")
    data = load_photographs(root, SIZE, cache_dir=tmp_path / "cache")
    assert (data.info.n_train, data.info.n_test) == (36, 15)
    assert [data.test.classes[int(label)] for label in data.test.labels] == [CLASSES[i % 3] for i in range(100, 115)]


def test_names_of_classes_beside_shards(tmp_path: Path) -> None:
    root = in_shards(tmp_path / "shards")
    for text in ("ant\nbee\ncow\n", "ant\nbee\ncow"):
        (root / "classes.txt").write_text(text)
        assert load_photographs(root, SIZE, cache_dir=tmp_path / "cache").info.classes == CLASSES


def test_other_images_are_another_data_set(tmp_path: Path) -> None:
    found = {load_photographs(in_tables(tmp_path / "a"), SIZE).info.fingerprint}
    table = pq.read_table(next((tmp_path / "a").glob("train*")))
    pq.write_table(table, next((tmp_path / "a").glob("train*")), row_group_size=9)
    found.add(load_photographs(tmp_path / "a", SIZE).info.fingerprint)
    assert len(found) == 2  # cut into other groups, the images come in another order


def test_a_decoding_process_that_is_ended(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system does it when memory runs out."""
    own, read = os.getpid(), Files.read

    def fatal(self: Files, index: int) -> bytes:
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, index)

    monkeypatch.setattr(Files, "read", fatal)
    data = load_photographs(folder, SIZE, cache_dir=tmp_path / "cache")
    with pytest.raises(InputError, match="a process that decodes photographs was ended by the system"):
        train(recipe_for(data), data, tmp_path / "run", execution=replace(CPU, workers=1), quiet=True)
