"""He, Zhang, Ren, Sun 2015, section 4.2: plain and residual networks on CIFAR-10.

    reslab train he2015_cifar --net resnet20 --data cifar10 --out runs/resnet20

The paper: SGD with momentum 0.9, weight decay 1e-4, batch 128 on two GPUs, rate 0.1 divided by 10 at
32k and 48k iterations, end at 64k; per-pixel mean subtracted, 4 pixels padded on each side, a random
crop of it or its flip; He initialisation; ResNet-110 starts at 0.01 until the training error is below
80 %. Its numbers are of the last iterate (no selection).
"""

from pydantic import ValidationError

from reslab.data.spec import DataInfo
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any
from reslab.nets.spec import AnyNet, NetSpec
from reslab.train.recipe import Recipe, Sgd, Steps, WarmUp, what_is_wrong

ITERATIONS = 64_000
WARM_UP_DEPTH = 110
"""From this depth on the paper warms up."""


def he2015_cifar(
    net: str | AnyNet,
    data: DataInfo,
    *,
    iterations: int = ITERATIONS,
    holdout: int = 0,
    seed: int = 0,
    batch: int = 128,
) -> Recipe:
    """The paper's recipe for a network and a data set. Fewer iterations scale the drops in proportion.

    Raises:
        InputError: an unknown network, or a number out of its range.
    """
    # As many outputs as the data has classes, unless the network was asked for with another number.
    asked = resolve_any(net)
    default = type(asked).model_fields["num_classes"].default
    classes = len(data.classes) if asked.num_classes == default else asked.num_classes
    spec = resolve_any(net, num_classes=classes, in_channels=data.channels, size=data.size)
    try:
        return _recipe(spec, data, iterations=iterations, holdout=holdout, seed=seed, batch=batch)
    except ValidationError as error:
        raise InputError(f"he2015_cifar: {what_is_wrong(error)}") from None


def _recipe(spec: AnyNet, data: DataInfo, *, iterations: int, holdout: int, seed: int, batch: int) -> Recipe:
    ours = isinstance(spec, NetSpec)
    return Recipe(
        name="he2015_cifar",
        net=spec,
        data=data.spec(holdout=holdout),
        global_batch=batch,
        # 128 images over two GPUs: each normalised over its own 64.
        bn_group=64 if batch % 64 == 0 and ours else None,
        optimizer=Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=Steps(drops=(max(1, iterations // 2), max(2, iterations * 3 // 4))),
        warm_up=WarmUp() if isinstance(spec, NetSpec) and spec.depth >= WARM_UP_DEPTH else None,
        iterations=iterations,
        # A deep plain network amplifies rounding from layer to layer, until bf16 drowns the signal: docs/log.md.
        precision="auto" if isinstance(spec, NetSpec) and spec.is_residual else "fp32",
        seed=seed,
        log_every=max(1, min(100, iterations // 40)),
        evaluate_every=max(1, min(1000, iterations // 8)),
        select="best-validation" if holdout else "last",
        cite="He et al. 2015, arXiv 1512.03385, section 4.2",
    )
