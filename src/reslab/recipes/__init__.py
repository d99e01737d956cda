"""A module per paper: functions that return a complete recipe, derived by copying."""

from collections.abc import Callable
from dataclasses import dataclass

from reslab.errors import InputError, nearest
from reslab.recipes.fast_cifar import fast_cifar, fast_cifar94
from reslab.recipes.fast_he2015_cifar import fast_he2015_cifar
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.train.recipe import Recipe

__all__ = ["RECIPES", "Entry", "fast_cifar", "fast_cifar94", "fast_he2015_cifar", "find", "he2015_cifar"]


@dataclass(frozen=True)
class Entry:
    """A recipe's maker, the network that it is for where none is named, and what it is."""

    make: Callable[..., Recipe]
    net: str
    summary: str


RECIPES: dict[str, Entry] = {
    "he2015_cifar": Entry(he2015_cifar, "resnet20", "the paper's own, for plain and residual networks"),
    "fast_he2015_cifar": Entry(fast_he2015_cifar, "resnet20", "the paper's networks in a third of its iterations"),
    "fast_cifar": Entry(fast_cifar, "fast-resnet8", "the accuracy of the paper's ResNet-20 in minutes on a CPU"),
    "fast_cifar94": Entry(fast_cifar94, "fast-resnet8-wide", "94 % in minutes on a CPU, flips and shifts at test time"),
}


def find(name: str) -> Entry:
    """The recipe of that name, or an `InputError` with the nearest."""
    try:
        return RECIPES[name]
    except KeyError:
        raise InputError(f"unknown recipe '{name}'; {nearest(name, RECIPES)}") from None
