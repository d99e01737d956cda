"""CIFAR-10 in minutes on two cores with bf16: shallow, wide residual networks and what the record holders found.

    reslab train fast_cifar --data cifar10
    reslab train fast_cifar94 --data cifar10

Optimiser, rates, label smoothing, augmentation and test-time views are those of airbench94_muon (Jordan 2024, arXiv
2404.00498 and its repository), whose network is not residual: ours has shortcuts. What each part is worth
here is in docs/fast.md, with the time and the accuracy of both recipes.
"""

from reslab.data.spec import AnyAugment, Augment, DataInfo
from reslab.errors import InputError
from reslab.nets.catalog import resolve
from reslab.nets.spec import NetSpec
from reslab.recipes.making import length_of, log_every, made
from reslab.train.recipe import Muon, Ramp, Recipe, Sgd

CITE = "Jordan 2024, arXiv 2404.00498; Jordan et al. 2024, Muon"
OTHERS = Sgd(
    lr=100.0,  # of shifts and the last layer, whose gradients are small: logits are scaled down, filters normalised
    momentum=0.85,
    momentum_form="lr-outside",
    nesterov=True,
    weight_decay=4e-5,
    decay="all",
)


def fast_cifar(
    net: str | NetSpec,
    data: DataInfo,
    *,
    epochs: float = 8,
    iterations: int | None = None,
    holdout: int = 0,
    seed: int = 0,
    batch: int = 500,
) -> Recipe:
    """The accuracy of the paper's ResNet-20 in a few passes over the images. ``iterations`` win over ``epochs``.

    Raises:
        InputError: an unknown network, or a number out of its range.
    """
    return _made("fast_cifar", net, data, epochs, iterations, holdout, seed, batch)


def fast_cifar94(
    net: str | NetSpec,
    data: DataInfo,
    *,
    epochs: float = 14,
    iterations: int | None = None,
    holdout: int = 0,
    seed: int = 0,
    batch: int = 500,
) -> Recipe:
    """94 % with flips and shifts at test time: `fast_cifar` for a wider network, and longer."""
    quick = _made("fast_cifar94", net, data, epochs, iterations, holdout, seed, batch)
    return quick.model_copy(update={"test_time": "flip-shift"})


def _made(
    name: str, net: str | NetSpec, data: DataInfo, epochs: float, iterations: int | None, holdout: int, seed: int,
    batch: int,
) -> Recipe:  # fmt: skip
    resolve(net)  # Muon is for the filters of our own networks
    length = length_of(data, epochs=epochs, iterations=iterations, holdout=holdout, batch=batch)
    augment = lightly(data.augment)
    return made(
        name,
        net,
        data,
        lambda _spec: {
            "data": data.spec(holdout=holdout, normalization="per-channel").model_copy(update={"augment": augment}),
            "global_batch": batch,
            "optimizer": Muon(lr=0.24, momentum=0.6, others=OTHERS),
            "schedule": Ramp(start=1.0, peak=0.0),
            "iterations": length,
            "label_smoothing": 0.2,
            "seed": seed,
            "log_every": log_every(length),
            "evaluate_every": max(1, length),
            "cite": CITE,
        },
    )


def lightly(usual: AnyAugment) -> Augment:
    """Half the shift that suits a data set for long trainings, and each image mirrored every other time.

    Raises `InputError` for photographs, which are cropped and not shifted.
    """
    if not isinstance(usual, Augment):
        raise InputError("the fast recipes are for small images in memory, not for photographs on disk")
    return Augment(pad=usual.pad // 2 or usual.pad, flip="alternating" if usual.flip else False, border="reflect")
