"""CIFAR-10 in minutes on a CPU: shallow, wide residual networks and the recipes of the record holders.

reslab train fast_cifar --data cifar10
reslab train fast_cifar94 --data cifar10
"""

from pydantic import ValidationError

from reslab.data.spec import Augment, DataInfo
from reslab.errors import InputError
from reslab.nets.catalog import resolve
from reslab.nets.spec import NetSpec
from reslab.train.recipe import Muon, Ramp, Recipe, Sgd, what_is_wrong


def fast_cifar(
    net: str | NetSpec,
    data: DataInfo,
    *,
    epochs: float = 6,
    iterations: int | None = None,
    holdout: int = 0,
    seed: int = 0,
    batch: int = 500,
) -> Recipe:
    """The paper's accuracy of ResNet-20 in a few passes over the images."""
    spec = resolve(net, num_classes=len(data.classes), in_channels=data.channels, size=data.size)
    length = iterations or max(1, round(epochs * (data.n_train - holdout) / batch))
    try:
        return Recipe(
            name="fast_cifar",
            net=spec,
            data=data.spec(holdout=holdout, normalization="per-channel").model_copy(
                update={"augment": Augment(pad=2, flip="alternating" if data.augment.flip else False, border="reflect")}
            ),
            global_batch=batch,
            optimizer=Muon(
                lr=0.24,
                others=Sgd(
                    lr=100, momentum=0.85, momentum_form="lr-outside", nesterov=True, weight_decay=4e-5, decay="all"
                ),
            ),
            schedule=Ramp(start=1.0, peak=0.0),
            iterations=length,
            label_smoothing=0.2,
            seed=seed,
            log_every=max(1, min(100, length // 40)),
            evaluate_every=length,
            cite="Jordan 2024, arXiv 2404.00498",
        )
    except ValidationError as error:
        raise InputError(f"fast_cifar: {what_is_wrong(error)}") from None
