"""He, Zhang, Ren, Sun 2015, section 3.4: residual and plain networks on ImageNet.

    reslab train he2015_imagenet --net resnet50-v1 --data imagenet --out runs/resnet50
    torchrun --nproc-per-node 8 -m reslab train he2015_imagenet --net resnet50-v1 --data imagenet --out runs/resnet50

The paper: the shorter side resized to a random 256 to 480 pixels, a random crop of 224, flips, the colour changes of
Krizhevsky 2012; SGD with momentum 0.9, weight decay 1e-4, batch 256; rate 0.1, divided by 10 when the error plateaus;
up to 600,000 iterations. Published top-1 errors, of ten crops (Table 3): ResNet-34-B 24.52 %, ResNet-50 22.85 %. Where
it leaves a choice: docs/differences-from-the-papers.md. Nobody has run this recipe to its end here:
`reslab train ... --dry-run` says how long your machine would take.
"""

from reslab.data.spec import Colour, DataInfo, ScaleCrop
from reslab.nets.spec import AnyNet, NetSpec
from reslab.recipes.making import each_pass, in_groups, log_every, made, photographs
from reslab.train.recipe import Plateau, Recipe, Sgd

ITERATIONS = 600_000
NAME = "he2015_imagenet"
LOOKS = 24
"""Evaluations of a training at least."""
LOOKS_OF_THE_PAPER = 120
"""Passes over the images in its 600,000 iterations."""
PATIENCE = 5
"""Passes without a fall of the error that make a plateau, of so many."""


def he2015_imagenet(
    net: str | AnyNet,
    data: DataInfo,
    *,
    iterations: int = ITERATIONS,
    holdout: int = 0,
    seed: int = 0,
    batch: int = 256,
) -> Recipe:
    """The paper's recipe for photographs. It looks for a plateau after each pass over the images.

    A shorter training looks more often, `LOOKS` times at least, and is sooner content that it has found one.

    Raises:
        InputError: an unknown network, data that is not of photographs, or a number out of its range.
    """
    photographs(data, NAME)
    every = each_pass(data, batch, iterations, LOOKS)
    short = (round(256 * min(data.size) / 224), round(480 * min(data.size) / 224))  # for other sizes in proportion
    return made(
        NAME,
        net,
        data,
        lambda spec: {
            "data": data.spec(holdout=holdout, normalization="imagenet").model_copy(
                update={"augment": ScaleCrop(short=short, colour=Colour(pca=0.1))}
            ),
            "global_batch": batch,
            "bn_group": in_groups(batch, 32) if isinstance(spec, NetSpec) else None,  # of 256 images over 8 GPUs
            "optimizer": Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4),
            "schedule": Plateau(patience=max(1, round(PATIENCE * iterations / every / LOOKS_OF_THE_PAPER))),
            "iterations": iterations,
            "precision": "auto" if isinstance(spec, NetSpec) and spec.is_residual else "fp32",
            "seed": seed,
            "log_every": log_every(iterations),
            "evaluate_every": every,
            "cite": "He et al. 2015, arXiv 1512.03385, section 3.4",
        },
    )
