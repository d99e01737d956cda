"""A training as plain data. The same recipe means the same training anywhere; importable without torch."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from reslab.data.spec import DataSpec
from reslab.errors import InputError, nearest
from reslab.nets.spec import AnyNet, NetSpec, Spec

Precision = Literal["auto", "bf16", "fp32"]


class Finite(Spec):
    """Plain data in which infinity and NaN, for which JSON has no word, are no numbers."""

    model_config = ConfigDict(allow_inf_nan=False)


class Sgd(Finite):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    momentum_form: Literal["lr-inside", "lr-outside"] = Field(
        "lr-inside",
        description="'lr-inside': v = m v + lr g, w -= v (Caffe, in which the paper was done); "
        "'lr-outside': v = m v + g, w -= lr v (PyTorch). They differ only where the lr changes",
    )
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0)
    decay: Literal["weights", "all"] = Field(
        "weights",
        description="'weights': convolutions and the last layer only; 'all': BN scales and shifts and biases too",
    )


class Muon(Finite):
    """Momentum orthogonalised by Newton-Schulz iteration for the filters (Jordan et al. 2024), SGD for the others.

    ``lr`` is of the filters; the rate of the others follows the same schedule from its own.
    """

    kind: Literal["muon"] = "muon"
    lr: float = Field(0.24, gt=0)
    momentum: float = Field(0.6, ge=0, lt=1)
    nesterov: bool = True
    steps: int = Field(3, ge=1, description="steps of the Newton-Schulz iteration")
    normalize: bool = Field(
        True, description="keep each filter bank's norm at the square root of its number of filters"
    )
    others: Sgd = Sgd(lr=0.05, momentum=0.85, momentum_form="lr-outside", nesterov=True)


def kind_or(usual: str) -> Discriminator:
    """Tells the members of a union by their ``kind``; what names none is of the usual kind."""

    def kind(value: Any) -> str:
        return str(value.get("kind", usual) if isinstance(value, dict) else getattr(value, "kind", usual))

    return Discriminator(kind)


AnyOptimizer = Annotated[Annotated[Sgd, Tag("sgd")] | Annotated[Muon, Tag("muon")], kind_or("sgd")]


class Steps(Finite):
    """The learning rate is multiplied by ``factor`` once each of ``drops`` iterations is reached."""

    kind: Literal["steps"] = "steps"
    drops: tuple[int, ...] = Field(description="iterations, ascending")
    factor: float = Field(0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.drops) != sorted(set(self.drops)) or any(drop < 1 for drop in self.drops):
            raise ValueError(f"drops must ascend from 1, got {list(self.drops)}")
        return self


class Ramp(Finite):
    """The learning rate rises linearly to its peak and falls linearly again (Smith 2018, arXiv 1803.09820)."""

    kind: Literal["ramp"] = "ramp"
    start: float = Field(0.2, ge=0, le=1, description="rate at the first iteration, as a fraction of the peak rate")
    peak: float = Field(0.2, ge=0, lt=1, description="fraction of the training at which the rate is at its peak")
    end: float = Field(0.0, ge=0, le=1, description="rate after the last iteration, as a fraction of the peak rate")


class Plateau(Finite):
    """The learning rate is multiplied by ``factor`` whenever the error has stopped falling (He 2015, section 3.4).

    The error is that of the validation images (``data.holdout``), looked at at each evaluation; without such images
    that of the training since the last one. The test images decide nothing.
    """

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(0.1, gt=0, lt=1)
    patience: int = Field(5, ge=1, description="evaluations without improvement that count as a plateau")
    threshold: float = Field(0.01, ge=0, lt=1, description="relative fall of the best error that counts as improvement")
    drops: int = Field(2, ge=1, description="maximum number of drops")


Schedule = Annotated[
    Annotated[Steps, Tag("steps")] | Annotated[Ramp, Tag("ramp")] | Annotated[Plateau, Tag("plateau")],
    kind_or("steps"),
]


class Resolution(Finite):
    """Progressive resolution: training begins with small images, which cost less (Howard 2018; FFCV's recipes).

    Of photographs the same part of the image is seen, in fewer pixels; small images are resized behind their
    augmentation. Evaluations see ``data.size`` (for which ``end`` may be a little small: Touvron 2019, FixRes).
    """

    start: int = Field(ge=1, description="side of an image in pixels until the first of ``ramp``")
    end: int = Field(ge=1, description="side from the second of ``ramp`` on")
    ramp: tuple[float, float] = Field((0.0, 1.0), description="fractions of the training between which the side grows")
    step: int = Field(32, ge=1, description="in between, the side is a multiple of this many pixels")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"start has to be at most end, got {self.start} and {self.end}")
        if not 0 <= self.ramp[0] <= self.ramp[1] <= 1:
            raise ValueError(f"ramp is two shares of the length that ascend within 0 to 1, got {list(self.ramp)}")
        return self


class Average(Finite):
    """An exponential moving average of the weights is what is evaluated and kept (Polyak, Juditsky 1992).

    Training goes on from the weights themselves. BN's running statistics are averaged with them.
    """

    decay: float = Field(0.95, gt=0, lt=1, description="fraction of the average that is kept at each update")
    every: int = Field(5, ge=1, description="iterations between updates")


Trains = Literal["head", "last", "all", "gradual"]
FirstHead = Literal["bn-linear", "linear", "drawn"]


class Transfer(Finite):
    """Which parts of a network that starts from weights are trained, and how fast each (fine-tuning)."""

    trains: Trains = Field(
        "all",
        description="'head': the last layer; 'last': the last stages too; 'all': everything; 'gradual': the head, "
        "then stage after stage, the last one first (Howard, Ruder 2018, arXiv 1801.06146, section 3.3)",
    )
    stages: int = Field(1, ge=1, description="stages that 'last' trains")
    head: FirstHead = Field(
        "bn-linear",
        description="the last layer that training starts from: fitted to the embeddings of the images to its optimum, "
        "normalised before ('bn-linear', a BatchNorm1d folded into the layer) or not ('linear'); or drawn at random",
    )
    freeze_bn: bool = Field(
        False,
        description="frozen BN: normalises by the statistics of the initial weights, even if its scales are trained",
    )
    decay: float = Field(
        1.0, gt=0, le=1, description="learning rate of a stage as a share of that of the stage after it (section 3.2)"
    )
    unfrozen: float = Field(0.5, gt=0, le=1, description="share of the length after which 'gradual' trains everything")


class WarmUp(Finite):
    """A low rate until the training error falls below a bound (He 2015, section 4.2, ResNet-110)."""

    lr: float = Field(0.01, gt=0)
    until_error: float = Field(80.0, gt=0, lt=100, description="training error in per cent that ends the warm-up")
    window: int = Field(
        100, ge=1, description="iterations over which the error is averaged, and after which it is checked"
    )


class Recipe(Finite):
    """Everything that decides the result of a training. Lengths are in iterations (mini-batches)."""

    name: str
    net: AnyNet
    data: DataSpec
    global_batch: int = Field(128, ge=2, description="images of one step, over all devices")
    bn_group: int | None = Field(
        None,
        ge=2,
        description="images that BN takes its statistics over while training; null: the whole batch",
    )
    optimizer: AnyOptimizer = Sgd()
    schedule: Schedule
    resolution: Resolution | None = Field(None, description="size of the training images over time; null: data.size")
    warm_up: WarmUp | None = None
    iterations: int = Field(ge=0, description="0: evaluates the initial weights, which are the result")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(
        0.0,
        ge=0,
        description="alpha of the Beta distribution that says how strongly each image of a batch is mixed with another "
        "(Zhang 2018, arXiv 1710.09412); 0: not",
    )
    balanced: bool = Field(False, description="the loss of an image counts more the rarer its class is in training")
    transfer: Transfer | None = Field(None, description="which parts are trained; null: all, at one learning rate")
    early_stop: int | None = Field(
        None, ge=1, description="evaluations without a lower validation error that end the training; null: none do"
    )
    average: Average | None = Field(None, description="average of the weights over time; null: the weights themselves")
    precision: Precision = "auto"
    seed: int = Field(0, ge=0, lt=2**31)
    log_every: int = Field(100, ge=1, description="iterations over which a point of the training curve is averaged")
    evaluate_every: int = Field(1000, ge=1, description="iterations between evaluations")
    test_time: Literal["none", "flip", "flip-shift"] = Field(
        "none", description="test-time augmentation in evaluations: see reslab.evaluate.metrics"
    )
    select: Literal["last", "best-validation"] = Field(
        "last", description="which weights are the result; 'best-validation' needs data.holdout"
    )
    cite: str = ""

    @property
    def own_net(self) -> NetSpec:
        """The network, where it is one of ours; ValueError for another library's."""
        if not isinstance(self.net, NetSpec):
            raise ValueError(f"{self.net.name} is {self.net.library}'s network")
        return self.net

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bn_group is not None and self.global_batch > self.bn_group and self.global_batch % self.bn_group:
            raise ValueError(
                f"global_batch {self.global_batch} cannot be divided into BN groups of {self.bn_group}; "
                "set bn_group to a divisor of it, or to null"
            )
        if self.bn_group is not None and not isinstance(self.net, NetSpec):
            raise ValueError(f"bn_group is for Reslab's own networks, not for {self.net.name}; set it to null")
        if self.resolution is not None and len(set(self.data.size)) > 1:
            raise ValueError(f"resolution is for square images, the data's are {list(self.data.size)}")
        if self.select == "best-validation" and not self.data.holdout:
            raise ValueError("select 'best-validation' needs validation images: set data.holdout (--holdout)")
        if not self.iterations and self.transfer is None:
            raise ValueError("iterations: should be greater than or equal to 1, got 0")
        if self.early_stop is not None and not self.data.holdout:
            raise ValueError("early_stop needs validation images: set data.holdout (--holdout)")
        if self.transfer is not None and not isinstance(self.optimizer, Sgd):
            raise ValueError(f"transfer is for the optimizer 'sgd', not for '{self.optimizer.kind}'")
        if self.data.num_classes > self.net.num_classes:
            raise ValueError(
                f"the data has {self.data.num_classes} classes but the network only {self.net.num_classes}; "
                f"set net.num_classes={self.data.num_classes}"
            )
        if self.net.in_channels != self.data.channels:
            raise ValueError(
                f"the network takes images of {self.net.in_channels} channels, the data has {self.data.channels}"
            )
        return self


def override(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A recipe with fields changed by ``path=value`` texts, such as ``optimizer.lr=0.05``.

    Values are read as JSON (``null``, ``true``, ``[16000, 24000]``), anything else as a word. Raises
    `InputError` for a field that does not exist (with the nearest) and a value of the wrong type.
    """
    values = recipe.model_dump()
    for text in assignments:
        path, sign, given = text.partition("=")
        if not sign:
            raise InputError(f"--set takes FIELD=VALUE such as optimizer.lr=0.05, got '{text}'")
        try:
            value: Any = json.loads(given)
        except json.JSONDecodeError:
            value = given
        *parents, last = path.strip().split(".")
        target: Any = values
        for depth, step in enumerate([*parents, last]):
            if target is None:
                where = ".".join([*parents, last][:depth])
                raise InputError(f'--set {text}: {where} is null; give all of it, as {where}={{"{step}": {given}}}')
            if not isinstance(target, dict) or step not in target:
                known = ", ".join(target) if isinstance(target, dict) else "no fields"
                hint = nearest(step, target) if isinstance(target, dict) else ""
                where = ".".join([*parents, last][:depth]) or "the recipe"
                raise InputError(f"--set {text}: {where} has no field '{step}'; {hint or known}")
            if depth < len(parents):
                target = target[step]
        if isinstance(value, bool) and isinstance(target[last], int | float) and not isinstance(target[last], bool):
            # pydantic reads true as 1; nobody means a learning rate of 1 by it.
            raise InputError(f"--set {text}: {path.strip()} takes a number such as {target[last]}, got {given}")
        old = target[last]
        if isinstance(value, dict) and isinstance(old, dict) and "kind" in old:
            value = {"kind": old["kind"], **value}  # another kind has to be named
        target[last] = value
    return validated(values, "--set " + " ".join(assignments) if assignments else "the recipe")


def validated(values: dict[str, Any], source: str) -> Recipe:
    """A recipe from plain values; what does not fit is an `InputError` that names field, value and source."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{source}: {what_is_wrong(error)}") from None


TAGS = ("sgd", "muon", "steps", "ramp", "plateau", "ours", "reference", "shift", "scale-crop", "resized-crop", "bool")
"""Members of unions, which pydantic names on the way to a field, and nobody writes there."""


def what_is_wrong(error: ValidationError) -> str:
    """The first thing that does not fit, in one line: field, reason, and the value that came."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in TAGS)
    match first["type"]:
        case "model_type" | "dict_type":
            reason = 'has fields; give all of them as JSON, {"FIELD": VALUE, ...}'
        case "union_tag_invalid":
            about = first["ctx"]
            return f"{where}.kind: should be {about['expected_tags'].replace(', ', ' or ')}, got {about['tag']!r}"
        case "extra_forbidden":
            reason = "no such field"
        case _:
            reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: {reason}, got {first['input']!r}" if where else reason
