"""The paper's own CIFAR networks, untouched, in a third of its iterations.

    reslab train fast_he2015_cifar --net resnet20 --data cifar10

From He 2015, section 4.2, stay the network, its initialisation, the batch of 128 with BN over 64, and He's weights.
Changed are the schedule (a linear ramp up over a tenth and down to zero, in place of two drops and a warm-up), the rate
(0.2 at its peak), the momentum (Nesterov's, the rate outside the velocity), the weight decay (5e-4), mirror images that
alternate, and shifts of up to 2 pixels with mirrored borders in place of 4 with mean-coloured ones.
Figures: docs/fast.md.
"""

from typing import Any

from reslab.data.spec import DataInfo
from reslab.nets.spec import AnyNet
from reslab.recipes.fast_cifar import lightly
from reslab.recipes.he2015_cifar import fields as paper
from reslab.recipes.making import length_of, made
from reslab.train.recipe import Ramp, Recipe, Sgd


def fast_he2015_cifar(
    net: str | AnyNet,
    data: DataInfo,
    *,
    epochs: float = 50,
    iterations: int | None = None,
    holdout: int = 0,
    seed: int = 0,
    batch: int = 128,
) -> Recipe:
    """As `he2015_cifar`, quicker. ``iterations`` win over ``epochs``.

    Raises:
        InputError: an unknown network, or a number out of its range.
    """
    length = length_of(data, epochs=epochs, iterations=iterations, holdout=holdout, batch=batch)

    def fields(spec: AnyNet) -> dict[str, Any]:
        found = paper(spec, data, iterations=length, holdout=holdout, seed=seed, batch=batch)
        return found | {
            "data": found["data"].model_copy(update={"augment": lightly(data.augment)}),
            "optimizer": Sgd(lr=0.2, momentum=0.9, momentum_form="lr-outside", nesterov=True, weight_decay=5e-4),
            "schedule": Ramp(start=0.2, peak=0.1),
            "warm_up": None,  # the ramp begins low
            "evaluate_every": max(1, length),
            "select": "last",
            "cite": "He et al. 2015, arXiv 1512.03385, section 4.2; schedule: Smith 2018, arXiv 1803.09820",
        }

    return made("fast_he2015_cifar", net, data, fields)
