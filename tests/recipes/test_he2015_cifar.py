"""The paper's recipe, field by field (He et al. 2015, section 4.2)."""

import pytest

from reslab.data.sources import load
from reslab.data.spec import Augment
from reslab.errors import InputError
from reslab.recipes import RECIPES, find
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.train.recipe import Sgd, Steps, WarmUp

from .sample import CIFAR10


def test_what_the_paper_says() -> None:
    recipe = he2015_cifar("resnet110", CIFAR10)
    assert recipe.optimizer == Sgd(
        lr=0.1, momentum=0.9, momentum_form="lr-inside", nesterov=False, weight_decay=1e-4, decay="weights"
    )
    assert recipe.schedule == Steps(drops=(32_000, 48_000), factor=0.1)
    assert recipe.warm_up == WarmUp(lr=0.01, until_error=80.0)
    assert (recipe.iterations, recipe.global_batch, recipe.bn_group) == (64_000, 128, 64)
    assert recipe.data.augment == Augment(pad=4, flip=True, border="mean")
    assert recipe.data.normalization == "per-pixel-mean"
    assert (recipe.data.holdout, recipe.select) == (0, "last")
    assert not recipe.own_net.init.zero_gamma
    assert recipe.label_smoothing == 0
    assert "1512.03385" in recipe.cite


def test_a_held_out_part_is_what_is_selected_on() -> None:
    recipe = he2015_cifar("resnet20", CIFAR10, holdout=5000)
    assert (recipe.data.holdout, recipe.select) == (5000, "best-validation")


def test_the_network_fits_the_data() -> None:
    digits = load("digits").info
    net = he2015_cifar("resnet20", digits).net
    assert (net.in_channels, net.size, net.num_classes) == (1, (8, 8), 10)
    hundred = CIFAR10.model_copy(update={"classes": tuple(map(str, range(100)))})
    assert he2015_cifar("resnet20", hundred).net.num_classes == 100


def test_more_classes_than_a_network_was_asked_for() -> None:
    with pytest.raises(InputError, match=r"the data has 10 classes but the network only 5; set net.num_classes=10"):
        he2015_cifar("resnet20(num_classes=5)", CIFAR10)
    assert he2015_cifar("resnet20(num_classes=12)", CIFAR10).net.num_classes == 12


@pytest.mark.parametrize(("batch", "group"), [(128, 64), (64, 64), (256, 64), (100, None), (32, None)])
def test_groups_of_64_where_the_batch_has_them(batch: int, group: int | None) -> None:
    assert he2015_cifar("resnet20", CIFAR10, batch=batch).bn_group == group


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("seed", {"seed": -1}),
        ("global_batch", {"batch": 1}),
        ("holdout", {"holdout": -5}),
        ("iterations", {"iterations": 0}),
        ("iterations", {"iterations": -5}),
    ],
)
def test_numbers_out_of_range_are_refused_in_one_line(field: str, arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match=rf"^he2015_cifar: {field}: .*, got -?\d+$"):
        he2015_cifar("resnet20", CIFAR10, **arguments)


def test_points_of_the_curve() -> None:
    assert (he2015_cifar("resnet20", CIFAR10).log_every, he2015_cifar("resnet20", CIFAR10).evaluate_every) == (
        100,
        1000,
    )
    short = he2015_cifar("resnet20", CIFAR10, iterations=400)
    assert (short.log_every, short.evaluate_every) == (10, 50)
    assert he2015_cifar("resnet20", CIFAR10, iterations=1).evaluate_every == 1


def test_recipes_by_name() -> None:
    assert find("he2015_cifar") is RECIPES["he2015_cifar"]
    with pytest.raises(InputError, match=r"unknown recipe 'he2015_cifra'; did you mean 'he2015_cifar'\?"):
        find("he2015_cifra")
