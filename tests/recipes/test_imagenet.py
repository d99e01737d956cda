"""The recipes for photographs, field by field."""

import pytest

from reslab.data.spec import Colour, DataInfo, ResizedCrop, ScaleCrop
from reslab.errors import InputError
from reslab.recipes import RECIPES
from reslab.recipes.gross2016_imagenet import gross2016_imagenet
from reslab.recipes.he2015_imagenet import he2015_imagenet
from reslab.recipes.modern_imagenet import modern_imagenet
from reslab.train.recipe import Plateau, Ramp, Resolution, Sgd, Steps

from .sample import CIFAR10

IMAGENET = DataInfo(
    name="imagenet",
    source="made by hand",
    fingerprint="0",
    classes=tuple(map(str, range(1000))),
    channels=3,
    size=(224, 224),
    n_train=1_281_167,
    n_test=50_000,
    augment=ScaleCrop(),
)
NAMES = [name for name, entry in RECIPES.items() if entry.photographs]


def test_what_the_paper_says() -> None:
    recipe = he2015_imagenet("resnet50-v1", IMAGENET)
    assert recipe.data.augment == ScaleCrop(short=(256, 480), flip=True, colour=Colour(pca=0.1))
    assert recipe.optimizer == Sgd(lr=0.1, momentum=0.9, momentum_form="lr-inside", weight_decay=1e-4, decay="weights")
    assert (recipe.global_batch, recipe.iterations, recipe.label_smoothing) == (256, 600_000, 0)
    assert recipe.schedule == Plateau(factor=0.1, patience=5)
    assert recipe.evaluate_every == 5005  # a pass over the images
    assert recipe.resolution is None
    assert recipe.own_net.stages[1][0].stride == 2
    assert he2015_imagenet("plain34", IMAGENET).precision == "fp32"


def test_a_shorter_training_looks_more_often_and_is_content_sooner() -> None:
    recipe = he2015_imagenet("resnet18", IMAGENET, iterations=2400)
    assert (recipe.evaluate_every, recipe.schedule) == (100, Plateau(patience=1))


def test_smaller_crops_see_as_much_of_an_image() -> None:
    small = IMAGENET.model_copy(update={"size": (112, 112)})
    assert he2015_imagenet("resnet18", small).data.augment == ScaleCrop(short=(128, 240), colour=Colour(pca=0.1))


def test_the_re_implementation() -> None:
    """fb.resnet.torch: train.lua, opts.lua, datasets/imagenet.lua."""
    recipe = gross2016_imagenet("resnet50", IMAGENET)
    assert recipe.data.augment == ResizedCrop(area=(0.08, 1.0), colour=Colour(pca=0.1, jitter=0.4))
    assert recipe.optimizer == Sgd(
        lr=0.1, momentum=0.9, momentum_form="lr-outside", nesterov=True, weight_decay=1e-4, decay="all"
    )
    passes = IMAGENET.n_train / 256
    assert recipe.iterations == round(90 * passes)
    assert isinstance(recipe.schedule, Steps)
    assert [drop / passes for drop in recipe.schedule.drops] == pytest.approx([30, 60], abs=0.01)


@pytest.mark.parametrize(
    ("net", "batch", "lr", "decay"), [("resnet18", 1024, 0.5, 5e-5), ("resnet50", 4096, 1.7, 1e-4)]
)
def test_the_short_recipe(net: str, batch: int, lr: float, decay: float) -> None:
    """FFCV's two configurations of 16 passes; other batches in proportion."""
    recipe = modern_imagenet(net, IMAGENET, batch=batch)
    assert recipe.optimizer.lr == pytest.approx(lr)
    assert recipe.optimizer.weight_decay == decay  # type: ignore[union-attr]
    assert modern_imagenet(net, IMAGENET, batch=batch // 2).optimizer.lr == pytest.approx(lr / 2)
    assert recipe.schedule == Ramp(start=1e-4, peak=0.125, end=0.0)
    assert recipe.resolution == Resolution(start=160, end=192, ramp=(11 / 16, 13 / 16), step=32)
    assert (recipe.label_smoothing, recipe.test_time) == (0.1, "flip")
    assert recipe.iterations == round(16 * IMAGENET.n_train / batch)


@pytest.mark.parametrize("name", NAMES)
def test_small_images_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is for photographs on disk, 'cifar10' is of small images in memory"):
        RECIPES[name].make("resnet18", CIFAR10)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_out_of_range_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}: seed: .*, got -1$"):
        RECIPES[name].make("resnet18", IMAGENET, seed=-1)
