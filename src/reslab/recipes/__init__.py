"""A module per paper: functions that return a complete recipe, derived by copying."""

from collections.abc import Callable

from reslab.errors import InputError, nearest
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.train.recipe import Recipe

__all__ = ["RECIPES", "find", "he2015_cifar"]

RECIPES: dict[str, Callable[..., Recipe]] = {"he2015_cifar": he2015_cifar}


def find(name: str) -> Callable[..., Recipe]:
    """The recipe of that name, or an `InputError` with the nearest."""
    try:
        return RECIPES[name]
    except KeyError:
        raise InputError(f"unknown recipe '{name}'; {nearest(name, RECIPES)}") from None
