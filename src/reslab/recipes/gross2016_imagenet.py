"""Gross, Wilber 2016, "Training and investigating Residual Nets" (fb.resnet.torch): the re-implementation most follow.

    reslab train gross2016_imagenet --net resnet50 --data imagenet --out runs/resnet50

Beside He 2015: drops fixed at 30 and 60 of 90 epochs, parts of random area and shape, colour jitter, Nesterov's
momentum, and the decay on all parameters. Its authors publish one centre crop's top-1 errors of 30.43 % (ResNet-18),
26.73 % (34), 24.01 % (50) and 22.44 % (101). Nobody has run this recipe to its end here.
"""

from reslab.data.spec import Colour, DataInfo, ResizedCrop
from reslab.nets.spec import AnyNet, NetSpec
from reslab.recipes.making import each_pass, in_groups, length_of, log_every, made, photographs
from reslab.train.recipe import Recipe, Sgd, Steps

NAME = "gross2016_imagenet"


def gross2016_imagenet(
    net: str | AnyNet,
    data: DataInfo,
    *,
    epochs: float = 90,
    iterations: int | None = None,
    holdout: int = 0,
    seed: int = 0,
    batch: int = 256,
) -> Recipe:
    """Their recipe; ``iterations`` win over ``epochs``, and the drops move in proportion.

    Raises:
        InputError: an unknown network, data that is not of photographs, or a number out of its range.
    """
    photographs(data, NAME)
    length = length_of(data, epochs=epochs, iterations=iterations, holdout=holdout, batch=batch)
    return made(
        NAME,
        net,
        data,
        lambda spec: {
            "data": data.spec(holdout=holdout, normalization="imagenet").model_copy(
                update={"augment": ResizedCrop(colour=Colour(pca=0.1, jitter=0.4))}
            ),
            "global_batch": batch,
            "bn_group": in_groups(batch, 32) if isinstance(spec, NetSpec) else None,  # of 256 images over 8 GPUs
            "optimizer": Sgd(
                lr=0.1, momentum=0.9, momentum_form="lr-outside", nesterov=True, weight_decay=1e-4, decay="all"
            ),
            "schedule": Steps(drops=(max(1, length // 3), max(2, length * 2 // 3))),
            "iterations": length,
            "seed": seed,
            "log_every": log_every(length),
            "evaluate_every": each_pass(data, batch, length),
            "cite": "Gross, Wilber 2016, Training and investigating Residual Nets (facebookarchive/fb.resnet.torch)",
        },
    )
