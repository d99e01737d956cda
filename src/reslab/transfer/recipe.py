"""The recipe of a fine-tuning: what follows from the number of images, and what a person may choose instead.

The defaults were found by measuring (docs/fine-tuning.md, results/transfer/).
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import ValidationError

from reslab.data.spec import AnyAugment, Augment, Colour, DataInfo, ResizedCrop, ScaleCrop
from reslab.errors import InputError
from reslab.nets.spec import AnyNet
from reslab.train.length import iterations_of
from reslab.train.recipe import FirstHead, Precision, Ramp, Recipe, Sgd, Trains, Transfer, what_is_wrong
from reslab.weights.preprocessing import Preprocessing

NAME = "finetune"
AugmentPreset = Literal["none", "light", "standard", "strong"]
BATCH = 32
"""Images of a step: small, so that few images are many steps."""
EVALUATIONS = 10
"""Looks at the validation images."""
STEPS = 25
"""Steps for the square root of the number of images, where no length is given: 200 of 64 images, 600 of 600, 3,000 of
15,000. Half as many were a little worse, twice as many no better, or with 2,000 images a class by 0.6 points."""
MOST = 10_000
"""Steps at the most."""
RATE = 0.01
"""Learning rate; a third and three times of it were as good, ten times was not."""


@dataclass(frozen=True)
class Choice:
    """What a person chose; None: by the number of images."""

    trains: Trains = "all"
    head: FirstHead = "bn-linear"
    stages: int = 1
    """that 'last' trains"""
    freeze_bn: bool = False
    decay: float = 1.0
    """learning rate of a stage as a share of that of the stage after it"""
    balanced: bool = False
    augment: AugmentPreset = "standard"
    mixup: float = 0.0
    epochs: float | None = None
    lr: float = RATE
    batch: int = BATCH
    early_stop: int | None = None
    precision: Precision = "auto"
    seed: int = 0


def augmentation(preset: AugmentPreset, info: DataInfo) -> AnyAugment:
    """What becomes of a training image, by a preset's name.

    Of photographs: none takes a random square of the whole image's height or width, light a part of at least half of
    its area, standard of a quarter, strong of 8 % with changes of colour (jitter 0.4). Of small images: none, mirrored,
    also shifted by an eighth, by a quarter. Grey images are never mirrored.
    """
    if isinstance(info.augment, Augment):
        side, flip = min(info.size), info.channels == 3 and preset != "none"
        pad = {"none": 0, "light": 0, "standard": side // 8, "strong": side // 4}[preset]
        return Augment(pad=pad, flip=flip, border="reflect" if 0 < pad < side else "mean")
    match preset:
        case "none":
            short = round(min(info.size) * 256 / 224)
            return ScaleCrop(short=(short, short), flip=False)
        case "light":
            return ResizedCrop(area=(0.5, 1.0))
        case "standard":
            return ResizedCrop(area=(0.25, 1.0))
        case "strong":
            return ResizedCrop(colour=Colour(jitter=0.4))


def usual_steps(images: int) -> int:
    """How many steps suit so many training images."""
    return max(1, min(MOST, round(STEPS * math.sqrt(images))))


def recipe_of(
    net: AnyNet, info: DataInfo, preprocessing: Preprocessing, choice: Choice, *, validation: int, fingerprint: str
) -> Recipe:
    """The complete recipe of a fine-tuning.

    Args:
        net: of the weights, with as many outputs as there are classes.
        info: the data; its training images include those for validation.
        preprocessing: of the weights.
        choice: what a person chose.
        validation: images set aside.
        fingerprint: of the weights that it starts from.

    Raises:
        InputError: a choice that cannot be, in words.
    """
    if choice.augment not in get_args(AugmentPreset):
        raise InputError(f"expected an augmentation of {', '.join(get_args(AugmentPreset))}, got '{choice.augment}'")
    if choice.early_stop is not None and not validation:
        raise InputError("early stopping needs validation images, and none are held out; add --validation 0.2")
    fitting = info.n_train - validation
    batch = max(2, min(choice.batch, fitting))
    length = usual_steps(fitting) if choice.epochs is None else iterations_of(choice.epochs, fitting, batch)
    if choice.trains == "head":
        length = 0  # it is fitted to its optimum before the first step
    mean = tuple(value for value in preprocessing.of_any_size().mean if isinstance(value, float))
    try:
        return Recipe(
            name=NAME,
            net=net,
            data=info.spec(
                holdout=validation, normalization="given", mean=mean, std=preprocessing.std, resize=preprocessing.resize
            ).model_copy(update={"augment": augmentation(choice.augment, info)}),
            global_batch=batch,
            optimizer=Sgd(lr=choice.lr, momentum_form="lr-outside", nesterov=True, weight_decay=1e-4, decay="weights"),
            schedule=Ramp(start=0.1, peak=0.1, end=0.0),
            iterations=length,
            mixup=choice.mixup,
            balanced=choice.balanced,
            transfer=Transfer(
                trains=choice.trains,
                stages=choice.stages,
                head=choice.head,
                freeze_bn=choice.freeze_bn,
                decay=choice.decay,
            ),
            early_stop=choice.early_stop,
            precision=choice.precision,
            seed=choice.seed,
            log_every=max(1, length // 40),
            evaluate_every=max(1, length // EVALUATIONS),
            select="best-validation" if length and choice.early_stop is not None else "last",
            cite=f"weights {fingerprint}; head first, then the rest: Kumar 2022, arXiv 2202.10054",
        )
    except ValidationError as error:
        raise InputError(f"{NAME}: {what_is_wrong(error)}") from None
