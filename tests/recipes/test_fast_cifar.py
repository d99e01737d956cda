"""The quick recipes."""

from pathlib import Path
from typing import Any

import pytest

from reslab.data.sources import load
from reslab.data.spec import Augment, DataInfo
from reslab.errors import InputError
from reslab.nets.spec import NetSpec
from reslab.recipes import RECIPES
from reslab.weights.load import load as load_weights

from .sample import CIFAR10

QUICK = [name for name in RECIPES if name.startswith("fast")]


@pytest.mark.parametrize("name", QUICK)
def test_a_residual_network_on_all_images(name: str) -> None:
    entry = RECIPES[name]
    recipe = entry.make(entry.net, CIFAR10)
    assert recipe.name == name
    assert isinstance(recipe.net, NetSpec)
    assert recipe.net.is_residual
    assert (recipe.data.holdout, recipe.select, recipe.evaluate_every) == (0, "last", recipe.iterations)
    assert recipe.data.augment.flip == "alternating"


@pytest.mark.parametrize("name", QUICK)
def test_as_many_passes_over_fewer_images(name: str) -> None:
    entry = RECIPES[name]
    whole, part = (entry.make(entry.net, CIFAR10, holdout=holdout) for holdout in (0, 25_000))
    assert part.iterations == pytest.approx(whole.iterations / 2, abs=1)


@pytest.mark.parametrize("name", QUICK)
def test_digits_are_not_mirrored(name: str) -> None:
    digits = load("digits").info
    recipe = RECIPES[name].make("cifar_resnet(depth=8, width=4)", digits)
    assert recipe.data.augment == Augment(pad=1, flip=False, border="reflect")


@pytest.mark.parametrize("name", QUICK)
def test_numbers_out_of_range_are_refused_in_one_line(name: str) -> None:
    for field, arguments in (("seed", {"seed": -1}), ("iterations", {"iterations": 0}), ("holdout", {"holdout": -5})):
        with pytest.raises(InputError, match=rf"^{name}: {field}: .*, got -?\d+$"):
            RECIPES[name].make("resnet20", CIFAR10, **arguments)


def hundred() -> DataInfo:
    return CIFAR10.model_copy(update={"classes": tuple(map(str, range(100)))})


@pytest.mark.parametrize("name", QUICK)
def test_the_network_fits_the_data(name: str) -> None:
    entry = RECIPES[name]
    assert entry.make(entry.net, hundred()).net.num_classes == 100


def test_grey_images_have_a_narrower_stem(reslab: Any, tmp_path: Path) -> None:
    net = "cifar_fast(widths=(8, 16), blocks=(1, 1))"
    words = ("train", "fast_cifar", "--net", net, "--data", "digits", "--iterations", 2, "--out", tmp_path / "run")
    code, _, err = reslab(*words, "--threads", 1)
    assert code == 0, err
    assert load_weights(tmp_path / "run").tensors["conv1.weight"].shape == (8, 1, 2, 2)
