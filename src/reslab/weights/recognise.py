"""Which network a state dict is of, as far as names and shapes can tell; what they cannot is said."""

import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from reslab.errors import InputError
from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.equivalence import by_names_and_shapes, look_alikes
from reslab.nets.network import Network
from reslab.nets.reference import build_reference
from reslab.nets.spec import (
    WEIGHTED,
    AnyNet,
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

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recognised:
    """A network that a state dict fits."""

    spec: NetSpec
    assumed: tuple[str, ...]
    """what names and shapes do not tell, and what was taken instead"""
    look_alikes: tuple[str, ...]
    """names of the catalogue with the same names and shapes, this one's first if it has one"""


class Unrecognised(InputError):
    """A state dict of no network in the grammar."""


def recognise(state: State) -> Recognised:
    """The network of a state dict under our names.

    Raises `Unrecognised` where it is of no network that can be described; the reason is in the text.
    """
    if unknown := _unknown(state):
        raise Unrecognised(
            f"no network of Reslab's grammar has parameters named {', '.join(unknown[:3])}"
            f"{f' ({len(unknown)} such)' if len(unknown) > 3 else ''}"
        )
    _check_ranks(state)
    if (named := _by_building(state)) is not None:
        return Recognised(named, _assumptions(named), look_alikes(named))
    spec = _from_shapes(state)
    found = look_alikes(spec)
    if found:
        # The catalogue knows what shapes do not, as the papers have it: strides, orders, the place of zeros.
        spec = resolve(found[0], num_classes=spec.num_classes, in_channels=spec.in_channels)
    # Some names and shapes lead to a network, which need not have all of them.
    if apart := misfit(state, spec):
        raise Unrecognised(f"the nearest network of Reslab's grammar has other parameters: {apart}")
    return Recognised(spec, _assumptions(spec), found)


def _by_building(state: State) -> NetSpec | None:
    """A network of the catalogue with pooling or dropout among its layers, which leave no parameters to see."""
    if "fc.weight" not in state:
        return None
    whitened = "conv1.bias" in state and any(name.endswith("running_mean") for name in state)
    if not whitened and not any(re.fullmatch(r"layer\d+\.\d+\.conv[23]\.weight", name) for name in state):
        return None
    if whitened or any(
        name.replace("conv3", "conv1").replace("conv2", "conv1") not in state for name in state if ".conv" in name
    ):
        for name in CATALOG:
            spec = resolve(name)
            if not any(isinstance(block.branch, Stack) for block in spec.blocks):
                continue
            spec = resolve(name, num_classes=len(state["fc.weight"]), in_channels=_get(state, "conv1.weight").shape[1])
            if not misfit(state, spec):
                return spec
    return None


@lru_cache(maxsize=8)
def shapes_of(spec: AnyNet) -> Mapping[str, tuple[int, ...]]:
    """The name and shape of each tensor in the state of a network."""
    with torch.device("meta"):
        net = Network(spec) if isinstance(spec, NetSpec) else build_reference(spec)
    return MappingProxyType({name: tuple(tensor.shape) for name, tensor in net.state_dict().items()})


LISTED = 4
"""How many names of parameters an error lists."""


def misfit(state: State, spec: AnyNet, *, missing: Container[str] = ()) -> str:
    """What keeps a state dict from a network, the first names of each kind; nothing if it fits, ``missing`` aside.

    BN's counters of batches, which files from before PyTorch 0.4.1 do not have, are not missed.
    """
    expected = shapes_of(spec)
    there = {name: tuple(tensor.shape) for name, tensor in state.items()}
    kinds = (
        ("missing", [n for n in expected if n not in there and n not in missing and not n.endswith(COUNTER)]),
        ("unexpected", [name for name in there if name not in expected]),
        (
            "of another shape",
            [
                f"{name} {_by(there[name])} instead of {_by(shape)}"
                for name, shape in expected.items()
                if name in there and there[name] != shape
            ],
        ),
        (
            "not of floating point",
            [
                f"{name} {str(tensor.dtype).removeprefix('torch.')}"
                for name, tensor in state.items()
                if isinstance(spec, NetSpec) and not tensor.is_floating_point() and not name.endswith(COUNTER)
            ],
        ),
    )
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:LISTED])}{', ...' if len(names) > LISTED else ''})"
        for what, names in kinds
        if names
    )


COUNTER = "num_batches_tracked"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def nearest_network(state: State) -> NetSpec | None:
    """The network of the catalogue that has most of these names and shapes; None if none has more than half."""
    counts: dict[int, int] = {}
    for name in state:
        if found := re.match(r"layer(\d+)\.(\d+)\.", name):
            stage, block = int(found[1]), int(found[2])
            counts[stage] = max(counts.get(stage, 0), block + 1)
    there = {(name, tuple(tensor.shape)) for name, tensor in state.items()}
    best, most = None, len(there) / 2
    for names in by_names_and_shapes().values():
        name = min(names, key=lambda name: not resolve(name).is_residual)
        spec = resolve(name)
        if any(counts.get(number) != len(stage) for number, stage in enumerate(spec.stages, 1)):
            continue
        if (head := state.get("fc.weight")) is not None and head.dim() == 2 and len(head):
            spec = resolve(name, num_classes=len(head))
        shared = len(there & set(shapes_of(spec).items()))
        if shared > most:
            best, most = spec, shared
    return best


_KNOWN = re.compile(
    r"(conv1(\.\d)?|bn1|linear1|bn_last|fc|layer\d+\.\d+\.(conv\d+|bn\d+|linear\d+|downsample\.\d|gate\.conv))"
    r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
)


def _unknown(state: State) -> list[str]:
    return [name for name in state if not _KNOWN.fullmatch(name)]


def _check_ranks(state: State) -> None:
    """Raises `Unrecognised` for tensors of so many dimensions that their sizes cannot be asked for."""
    for name, tensor in state.items():
        layer = name.removesuffix(".weight")
        if layer == name:
            continue
        ranks: tuple[int, ...] = (1, 4)  # in a sequence a convolution or a BN
        if re.search(r"(^|\.)bn\w+$", layer):
            ranks = (1,)
        elif re.search(r"(^|\.)(fc|linear\d*)$", layer):
            ranks = (2,)
        elif re.search(r"(^|\.)conv\d*$", layer):
            ranks = (4,)
        if tensor.dim() not in ranks or 0 in tensor.shape:
            raise Unrecognised(f"{name} has the shape {_by(tuple(tensor.shape))}, which no layer of its kind has")


def _get(state: State, name: str) -> Tensor:
    if name not in state:
        raise Unrecognised(f"expected a parameter '{name}', found none; names begin with {', '.join(list(state)[:4])}")
    return state[name]


def _from_shapes(state: State) -> NetSpec:
    numbers = sorted({int(found[1]) for name in state if (found := re.match(r"layer(\d+)\.", name))})
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise Unrecognised(f"expected stages layer1, layer2, ..., found {numbers or 'none'}")
    head = _get(state, "fc.weight")
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
    fields: dict[str, Any] = {
        "name": "unnamed", "in_channels": channels, "size": size, "num_classes": len(head), "stem": stem,
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
    convs = deep or [_get(state, "conv1.weight")]
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


# --- what names and shapes tell -----------------------------------------------------------------------------------


def _assumptions(spec: NetSpec) -> tuple[str, ...]:
    said = []
    blocks = spec.blocks
    if pads := [block.shortcut for block in blocks if isinstance(block.shortcut, ZeroPad)]:
        where = "on both sides" if pads[0].zeros == "both" else "behind the others"
        said.append(f"option A shortcuts, zeros {where} (a plain network has the same names)")
    elif not spec.is_residual:
        said.append("no shortcuts")
    elif not any(isinstance(block.shortcut, Projection | Conv1x1 | ExclusiveGate) for block in blocks):
        said.append("identity shortcuts (a plain network has the same names)")
    if any(isinstance(block.branch, Bottleneck) and block.stride > 1 for block in blocks):
        middle = any(isinstance(b.branch, Bottleneck) and b.branch.stride_on == "middle" for b in blocks)
        said.append("stride in the 3x3 layers (v1.5)" if middle else "stride in the first 1x1 layers (v1)")
    if any(isinstance(block.shortcut, ExclusiveGate) for block in blocks):
        said.append("exclusive gates")
    if all(block.order == "original" for block in blocks):
        said.append("the original order of activations")
    elif all(block.order == "relu-only-preactivation" for block in blocks):
        said.append("ReLU and the layer before its BN, since the stem has none")
    if any(block.preactivated_shortcut for block in blocks):
        said.append("shortcuts that change the shape begin behind the first BN and ReLU")
    if isinstance(spec.stem, ConvStem):
        strides = ", ".join(str(math.prod(block.stride for block in stage)) for stage in spec.stages)
        pool = ", then a max pool" if spec.stem.pool else ", no pool"
        said.append(f"a stem of stride {spec.stem.stride}{pool}; stages of stride {strides}")
    said.append(f"{spec.activation} activations{f', BN with eps {spec.norm.eps:g}' if spec.norm else ''}")
    return tuple(said)
