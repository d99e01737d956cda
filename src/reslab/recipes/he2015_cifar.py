"""He, Zhang, Ren, Sun 2015, section 4.2: plain and residual networks on CIFAR-10.

    reslab train he2015_cifar --net resnet20 --data cifar10 --out runs/resnet20

The paper: SGD with momentum 0.9, weight decay 1e-4, batch 128 on two GPUs, rate 0.1 divided by 10 at
32k and 48k iterations, end at 64k; per-pixel mean subtracted, 4 pixels padded on each side, a random
crop of it or its flip; He initialisation; ResNet-110 starts at 0.01 until the training error is below
80 %. Its numbers are of the last iterate (no selection).
"""

from typing import Any

from reslab.data.spec import DataInfo
from reslab.nets.spec import AnyNet, NetSpec
from reslab.recipes.making import in_groups, log_every, made
from reslab.train.recipe import Recipe, Sgd, Steps, WarmUp

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
    return made(
        "he2015_cifar",
        net,
        data,
        lambda spec: fields(spec, data, iterations=iterations, holdout=holdout, seed=seed, batch=batch),
    )


def fields(spec: AnyNet, data: DataInfo, *, iterations: int, holdout: int, seed: int, batch: int) -> dict[str, Any]:
    """Of the paper's recipe, beside the network: for those that change some of them."""
    ours = isinstance(spec, NetSpec)
    return {
        "data": data.spec(holdout=holdout),
        "global_batch": batch,
        # 128 images over two GPUs: each normalised over its own 64.
        "bn_group": in_groups(batch, 64) if ours else None,
        "optimizer": Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
        "schedule": Steps(drops=(max(1, iterations // 2), max(2, iterations * 3 // 4))),
        "warm_up": WarmUp() if isinstance(spec, NetSpec) and spec.depth >= WARM_UP_DEPTH else None,
        "iterations": iterations,
        # A deep plain network amplifies rounding from layer to layer, until bf16 drowns the signal: docs/log.md.
        "precision": "auto" if isinstance(spec, NetSpec) and spec.is_residual else "fp32",
        "seed": seed,
        "log_every": log_every(iterations),
        "evaluate_every": max(1, min(1000, iterations // 8)),
        "select": "best-validation" if holdout else "last",
        "cite": "He et al. 2015, arXiv 1512.03385, section 4.2",
    }
