"""ImageNet in 16 passes: a short, well-known recipe, that of FFCV (Leclerc et al. 2023, arXiv 2306.12517).

    torchrun --nproc-per-node 8 -m reslab train modern_imagenet --net resnet50 --data imagenet --out runs/resnet50

Images of 160 pixels first and of 192 at the end, tested at 224 (Touvron 2019, FixRes; theirs at 256); label smoothing;
one ramp of the learning rate; decay on weights only; an image and its mirror at test time. FFCV's ImageNet table gives
top-1 accuracies of 66.9 % for ResNet-18 and 73.8 % for ResNet-50 after 16 passes (35 minutes on one A100, 15 on eight).
Left out of it: the blur in front of strided convolutions, which makes another network. Nobody has run this recipe to
its end here.
"""

from typing import Any

from reslab.data.spec import DataInfo, ResizedCrop
from reslab.nets.spec import AnyNet, NetSpec
from reslab.recipes.making import each_pass, in_groups, length_of, log_every, made, photographs
from reslab.train.recipe import Ramp, Recipe, Resolution, Sgd

NAME = "modern_imagenet"
LR = {"shallow": 0.5 / 1024, "deep": 1.7 / 4096}
"""Rates for each image of a batch, of their two configurations: 0.5 for 1,024 (ResNet-18), 1.7 for 8 x 512 (50)."""
DECAY = {"shallow": 5e-5, "deep": 1e-4}


def modern_imagenet(
    net: str | AnyNet,
    data: DataInfo,
    *,
    epochs: float = 16,
    iterations: int | None = None,
    holdout: int = 0,
    seed: int = 0,
    batch: int = 1024,
) -> Recipe:
    """Their recipe; ``iterations`` win over ``epochs``. The learning rate is in proportion to the batch.

    Raises:
        InputError: an unknown network, data that is not of photographs, or a number out of its range.
    """
    photographs(data, NAME)
    length = length_of(data, epochs=epochs, iterations=iterations, holdout=holdout, batch=batch)
    side = min(data.size)

    def fields(spec: AnyNet) -> dict[str, Any]:
        kind = "deep" if not isinstance(spec, NetSpec) or spec.depth >= 50 else "shallow"
        return {
            "data": data.spec(holdout=holdout, normalization="imagenet").model_copy(update={"augment": ResizedCrop()}),
            "global_batch": batch,
            "bn_group": in_groups(batch, 128) if isinstance(spec, NetSpec) else None,
            "optimizer": Sgd(
                lr=LR[kind] * batch, momentum=0.9, momentum_form="lr-outside", weight_decay=DECAY[kind], decay="weights"
            ),
            "schedule": Ramp(start=1e-4, peak=2 / 16),
            "resolution": Resolution(start=side * 160 // 224, end=side * 192 // 224, ramp=(11 / 16, 13 / 16)),
            "iterations": length,
            "label_smoothing": 0.1,
            "seed": seed,
            "log_every": log_every(length),
            "evaluate_every": each_pass(data, batch, length),
            "test_time": "flip",
            "cite": "Leclerc et al. 2023, arXiv 2306.12517; github.com/libffcv/ffcv-imagenet, rn18 and rn50, 16 epochs",
        }

    return made(NAME, net, data, fields)
