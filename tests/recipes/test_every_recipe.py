"""What holds of every recipe that there is, and so of one that is added."""

import pytest

from reslab.data.spec import DataInfo, ScaleCrop
from reslab.nets.catalog import resolve_any
from reslab.nets.spec import NetSpec
from reslab.recipes import RECIPES
from reslab.train.length import doubts
from reslab.train.recipe import override

from .sample import CIFAR10
from .test_imagenet import IMAGENET

THREE = {"classes": ("cat", "dog", "owl"), "n_train": 144, "n_test": 36}


def few(name: str) -> DataInfo:
    """Three classes of the kind of images that a recipe is for."""
    if RECIPES[name].photographs:
        return CIFAR10.model_copy(update={**THREE, "size": (64, 64), "augment": ScaleCrop()})
    return CIFAR10.model_copy(update={**THREE, "size": (28, 28)})


@pytest.mark.parametrize("name", RECIPES)
def test_the_head_takes_its_classes_from_the_data(name: str) -> None:
    entry, data = RECIPES[name], few(name)
    nets = {entry.net, "resnet18" if entry.photographs else "resnet20"}
    for net in nets:
        for asked in (net, resolve_any(net), resolve_any(net, num_classes=7)):
            recipe = entry.make(asked, data)
            assert recipe.net.num_classes == recipe.data.num_classes == 3, asked
            assert (recipe.net.in_channels, recipe.net.size) == (data.channels, data.size)
        assert entry.make(f"{net}(num_classes=5)", data).net.num_classes == 5
        grey = data.model_copy(update={"channels": 1})
        spec = resolve_any(net)
        if not isinstance(spec, NetSpec) or spec.stem.kind != "whitening":
            assert entry.make(net, grey).net.in_channels == 1
        assert override(entry.make(net, data), ["net.num_classes=1000"]).net.num_classes == 1000


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_is_doubted_on_the_data_that_it_is_for(name: str) -> None:
    entry = RECIPES[name]
    data = IMAGENET if entry.photographs else CIFAR10
    for holdout in (0, 0 if entry.photographs else 5000):  # 164 and 182 epochs of the paper
        recipe = entry.make(entry.net, data, holdout=holdout)
        assert doubts(recipe.iterations, recipe.global_batch, data.n_train - holdout) == ""
