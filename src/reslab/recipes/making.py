"""What the recipes have in common: from a network's name and a data set to fields that fit, and errors in one line."""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from reslab.data.spec import Augment, DataInfo
from reslab.errors import InputError
from reslab.nets.catalog import arguments_of, resolve_any
from reslab.nets.spec import AnyNet
from reslab.train.length import iterations_of
from reslab.train.recipe import Recipe, what_is_wrong


def made(name: str, net: str | AnyNet, data: DataInfo, fields: Callable[[AnyNet], dict[str, Any]]) -> Recipe:
    """The recipe of those fields for a network that fits the data; ``fields`` is given that network.

    Every recipe is made here, and its network is none of its fields: so that none forgets to fit it to the data.
    Raises `InputError` for an unknown network, and one that names the recipe, the field and what came.
    """
    fitted = fitting(net, data)
    try:
        return Recipe(name=name, net=fitted, **fields(fitted))
    except ValidationError as error:
        raise InputError(f"{name}: {what_is_wrong(error)}") from None


def fitting(net: str | AnyNet, data: DataInfo) -> AnyNet:
    """A network with as many outputs as the data has classes, its channels and its size.

    Only a name that says another number, ``resnet20(num_classes=12)``, keeps it; a recipe that is there is changed by
    `override`. Raises `InputError` for an unknown name.
    """
    given = arguments_of(net) if isinstance(net, str) else {}
    classes = given.get("num_classes", len(data.classes))
    return resolve_any(net, num_classes=classes, in_channels=data.channels, size=data.size)


def length_of(data: DataInfo, *, epochs: float, iterations: int | None, holdout: int, batch: int) -> int:
    """Iterations of a training: as given, or of so many passes over the images that are not held out."""
    return iterations_of(epochs, data.n_train - holdout, batch) if iterations is None else iterations


def log_every(iterations: int) -> int:
    """So that a training has forty points or more on its curve."""
    return max(1, min(100, iterations // 40))


MOST_EVALUATIONS = 200
STEPS_APART = 10
"""Steps between two evaluations, at least: one may take as long as several steps."""


def each_pass(data: DataInfo, batch: int, iterations: int, least: int = 8) -> int:
    """Iterations between evaluations: a pass over the images, or less, so that a training has ``least`` of them.

    Of few images a pass is a step or two: evaluations are `STEPS_APART`, if the training is long enough for ``least``
    of them then, and `MOST_EVALUATIONS` at most.
    """
    a_pass = max(round(data.n_train / max(batch, 1)), STEPS_APART)
    return max(1, min(a_pass, iterations // least), -(-iterations // MOST_EVALUATIONS))


def photographs(data: DataInfo, name: str) -> DataInfo:
    """Raises `InputError` unless the data is of photographs on disk."""
    if isinstance(data.augment, Augment):
        raise InputError(
            f"{name} is for photographs on disk, '{data.name}' is of small images in memory; give the path of a folder"
        )
    return data


def in_groups(batch: int, group: int) -> int | None:
    """A group that BN takes its statistics over, where the batch has whole ones; None: the whole batch."""
    return group if batch % group == 0 else None
