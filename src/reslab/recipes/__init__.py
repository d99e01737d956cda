"""A module per paper: functions that return a complete recipe, derived by copying."""

from collections.abc import Callable
from dataclasses import dataclass

from reslab.errors import InputError, nearest
from reslab.recipes.fast_cifar import fast_cifar, fast_cifar94
from reslab.recipes.fast_he2015_cifar import fast_he2015_cifar
from reslab.recipes.gross2016_imagenet import gross2016_imagenet
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.recipes.he2015_imagenet import he2015_imagenet
from reslab.recipes.modern_imagenet import modern_imagenet
from reslab.train.recipe import Recipe

__all__ = [
    "RECIPES",
    "Entry",
    "fast_cifar",
    "fast_cifar94",
    "fast_he2015_cifar",
    "find",
    "gross2016_imagenet",
    "he2015_cifar",
    "he2015_imagenet",
    "modern_imagenet",
]


@dataclass(frozen=True)
class Entry:
    """A recipe's maker, the network that it is for where none is named, and what it is."""

    make: Callable[..., Recipe]
    net: str
    summary: str
    photographs: bool = False
    """whether it trains on photographs that stay on disk, or on small images in memory"""


RECIPES: dict[str, Entry] = {
    "he2015_cifar": Entry(he2015_cifar, "resnet20", "the paper's own, for plain and residual networks"),
    "fast_he2015_cifar": Entry(fast_he2015_cifar, "resnet20", "the paper's networks in a third of its iterations"),
    "fast_cifar": Entry(fast_cifar, "fast-resnet8", "the accuracy of the paper's ResNet-20 in minutes on a CPU"),
    "fast_cifar94": Entry(fast_cifar94, "fast-resnet8-wide", "94 % in minutes on a CPU, flips and shifts at test time"),
    "he2015_imagenet": Entry(he2015_imagenet, "resnet50-v1", "the paper's own for ImageNet", photographs=True),
    "gross2016_imagenet": Entry(
        gross2016_imagenet, "resnet50", "the re-implementation of it that most follow", photographs=True
    ),
    "modern_imagenet": Entry(
        modern_imagenet, "resnet50", "ImageNet in 16 passes, small images first", photographs=True
    ),
}


def find(name: str) -> Entry:
    """The recipe of that name, or an `InputError` with the nearest."""
    try:
        return RECIPES[name]
    except KeyError:
        raise InputError(f"unknown recipe '{name}'; {nearest(name, RECIPES)}") from None
