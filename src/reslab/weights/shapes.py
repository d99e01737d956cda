"""A network read off the names and shapes of its parameters, layer by layer."""

import re
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from reslab.errors import InputError
from reslab.nets.spec import (
    WEIGHTED,
    Basic,
    Block,
    Bottleneck,
    Branch,
    Conv,
    Conv1x1,
    ConvStem,
    Dense,
    DenseStem,
    ExclusiveGate,
    Identity,
    Layer,
    NetSpec,
    Norm,
    Order,
    Projection,
    Shortcut,
    Stack,
    ZeroPad,
)
from reslab.weights.fit import State, headless


class Unrecognised(InputError):
    """A state dict of no network in the grammar."""


def get(state: State, name: str) -> Tensor:
    """A parameter that every network has; `Unrecognised` where it is not there."""
    if name not in state:
        raise Unrecognised(f"expected a parameter '{name}', found none; names begin with {', '.join(list(state)[:4])}")
    return state[name]


def from_shapes(state: State) -> NetSpec:
    """The network of a state dict under our names, built up from what its tensors show, layer by layer."""
    numbers = sorted({int(found[1]) for name in state if (found := re.match(r"layer(\d+)\.", name))})
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise Unrecognised(f"expected stages layer1, layer2, ..., found {numbers or 'none'}")
    normed = any(name.endswith("running_mean") for name in state)
    stem, channels = _stem(state)
    order: Order = "original"
    if normed and ("bn_last.weight" in state or _normed_before(state)):
        order = "full-preactivation"
    elif not stem.norm:
        order = "relu-only-preactivation"
    stages, width = [], stem.width
    for stage in numbers:
        indices = {int(found[1]) for name in state if (found := re.match(rf"layer{stage}\.(\d+)\.", name))}
        if indices != set(range(len(indices))):
            raise Unrecognised(f"expected blocks layer{stage}.0, layer{stage}.1, ..., found {sorted(indices)}")
        blocks = []
        for index in range(len(indices)):
            prefix = f"layer{stage}.{index}."
            part = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            block = _block(part, width, prefix, order=order, stride=2 if stage > 1 and index == 0 else 1)
            width = block.width
            blocks.append(block)
        stages.append(tuple(blocks))
    large = isinstance(stem, ConvStem) and stem.pool
    size = (1, 1) if isinstance(stem, DenseStem) else (224, 224) if large else (32, 32)
    # Without a last layer the number of classes is nobody's; the data sets of the papers have so many.
    classes = 1000 if large else 10
    if not headless(state):
        classes = len(get(state, "fc.weight"))
    fields: dict[str, Any] = {
        "name": "unnamed", "in_channels": channels, "size": size, "num_classes": classes, "stem": stem,
        "stages": tuple(stages), "final": "norm-activation" if "bn_last.weight" in state else FINAL[order],
        "norm": Norm() if normed else None, "cite": "recognised from weights",
    }  # fmt: skip
    try:
        return NetSpec.model_validate(fields)
    except ValidationError as error:
        raise Unrecognised(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _stem(state: State) -> tuple[ConvStem | DenseStem, int]:
    norm = "bn1.weight" in state
    if "linear1.weight" in state:
        first = state["linear1.weight"]
        return DenseStem(width=len(first), norm=norm), first.shape[1]
    deep = [state[f"conv1.{i}.weight"] for i in (0, 3, 6, 9) if f"conv1.{i}.weight" in state]
    convs = deep or [get(state, "conv1.weight")]
    kernel = convs[-1].shape[-1]
    large = bool(deep) or kernel == 7
    try:
        stem = ConvStem(
            width=len(convs[-1]),
            kernel=kernel,
            stride=2 if large else 1,
            before=tuple(len(conv) for conv in convs[:-1]),
            norm=norm or not any(name.endswith("running_mean") for name in state),
            pool=large,
        )
    except ValidationError as error:
        raise Unrecognised(f"conv1: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return stem, convs[0].shape[1]


FINAL: dict[Order, str] = {"original": "none", "full-preactivation": "none", "relu-only-preactivation": "activation"}
"""What stands behind the last block where there is no BN."""


def _normed_before(state: State) -> bool:
    """Whether the first BN of the blocks has the width of what comes in rather than of what the layer puts out."""
    for name, tensor in state.items():
        if re.fullmatch(r"layer\d+\.\d+\.bn1\.weight", name):
            conv = state.get(name.replace("bn1", "conv1"), state.get(name.replace("bn1", "linear1")))
            if conv is not None and len(tensor) != len(conv):
                return True
    return False


def _layers(part: State, before: int, prefix: str, stride: int) -> list[Layer]:
    layers: list[Layer] = []
    names = sorted(
        (name for name in part if re.fullmatch(r"(conv|linear)\d+\.weight", name)),
        key=lambda name: int(re.sub(r"\D", "", name)),
    )
    if [int(re.sub(r"\D", "", name)) for name in names] != list(range(1, len(names) + 1)) or not names:
        raise Unrecognised(
            f"{prefix[:-1]} has {', '.join(name.removesuffix('.weight') for name in names) or 'no layers'}: others are "
            "missing, or without parameters"
        )
    for name in names:
        weight = part[name]
        if name.startswith("linear"):
            layers.append(Dense(width=len(weight)))
        else:
            if weight.shape[-1] % 2 == 0 or before % weight.shape[1]:
                raise Unrecognised(f"{prefix}{name} has the shape {tuple(weight.shape)} on {before} channels")
            layers.append(Conv(width=len(weight), kernel=weight.shape[-1], groups=before // weight.shape[1]))
        before = len(weight)
    return layers


def _branch(layers: list[Layer], stride: int) -> Branch:
    convs = [layer for layer in layers if isinstance(layer, Conv)]
    kernels = [conv.kernel for conv in convs]
    groups = [conv.groups for conv in convs]
    if kernels == [3, 3] and groups == [1, 1] and convs[0].width == convs[1].width:
        return Basic()
    if kernels == [1, 3, 1] and groups[::2] == [1, 1] and convs[0].width == convs[1].width:
        return Bottleneck(inner=convs[1].width, groups=groups[1])
    if stride > 1:
        # Of layers in no known arrangement the first strides.
        layers = [layers[0].model_copy(update={"stride": stride}), *layers[1:]]
    return Stack(layers=tuple(layers))


def _block(part: State, before: int, prefix: str, *, order: Order, stride: int) -> Block:
    layers = _layers(part, before, prefix, stride)
    width = layers[-1].width if isinstance(layers[-1], WEIGHTED) else before
    if isinstance(layers[-1], Dense):
        stride = 1
    changes = width != before or stride != 1
    pre = order.endswith("preactivation")
    shortcut: Shortcut
    if "gate.conv.weight" in part:
        gate = part["gate.conv.weight"]
        shortcut = ExclusiveGate(kernel=gate.shape[-1])
        order = "relu-before-addition" if "bn1.weight" not in part else order
    elif "downsample.1.weight" in part and part["downsample.1.weight"].dim() == 4:
        shortcut = Projection(norm="downsample.2.weight" in part, pool=True)
    elif "downsample.0.weight" in part:
        free = "downsample.0.bias" in part and "downsample.1.weight" not in part and not changes
        shortcut = Conv1x1() if free else Projection(norm="downsample.1.weight" in part)
    else:
        shortcut = ZeroPad() if changes else Identity()
    try:
        return Block(
            branch=_branch(layers, stride), width=width, stride=stride, shortcut=shortcut, order=order,
            preactivated_shortcut=pre and changes,
        )  # fmt: skip
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise Unrecognised(f"{prefix[:-1]}: {reason}") from None
