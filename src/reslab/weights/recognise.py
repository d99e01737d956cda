"""Which network a state dict is of, as far as names and shapes can tell; what they cannot is said."""

import math
import re
from dataclasses import dataclass
from typing import Any

from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.equivalence import look_alikes
from reslab.nets.spec import Bottleneck, Conv1x1, ConvStem, ExclusiveGate, NetSpec, Projection, Stack, ZeroPad
from reslab.weights.fit import HEAD, State, by, headless, misfit
from reslab.weights.shapes import Unrecognised, from_shapes, get


@dataclass(frozen=True)
class Recognised:
    """A network that a state dict fits."""

    spec: NetSpec
    assumed: tuple[str, ...]
    """what names and shapes do not determine, and what was assumed"""
    look_alikes: tuple[str, ...]
    """names of the catalogue with the same names and shapes, this one's first if it has one"""


def recognise(state: State) -> Recognised:
    """The network of a state dict under our names.

    Raises `Unrecognised` where it is of no network that can be described; the reason is in the text.
    """
    if unknown := _unknown(state):
        raise Unrecognised(
            f"no residual network that Reslab can describe has parameters named {', '.join(unknown[:3])}"
            f"{f' ({len(unknown)} such)' if len(unknown) > 3 else ''}"
        )
    _check_ranks(state)
    if (named := _by_building(state)) is not None:
        return Recognised(named, _assumptions(named), look_alikes(named))
    spec = from_shapes(state)
    found = look_alikes(spec)
    if found:
        # The catalogue knows what shapes do not, as the papers have it: strides, orders, the place of zeros.
        spec = resolve(found[0], in_channels=spec.in_channels, **_classes(state))
    # Some names and shapes lead to a network, which need not have all of them.
    if apart := misfit(state, spec, missing=HEAD if headless(state) else ()):
        raise Unrecognised(f"the nearest network that Reslab can describe has other parameters: {apart}")
    return Recognised(spec, _assumptions(spec), found)


def _classes(state: State) -> dict[str, Any]:
    """The number of classes as an argument of a network; nothing where there is no last layer to say it."""
    return {} if headless(state) else {"num_classes": len(get(state, "fc.weight"))}


def _by_building(state: State) -> NetSpec | None:
    """A network of the catalogue with pooling or dropout among its layers, which leave no parameters to see."""
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
            spec = resolve(name, in_channels=get(state, "conv1.weight").shape[1], **_classes(state))
            if not misfit(state, spec, missing=HEAD if headless(state) else ()):
                return spec
    return None


_KNOWN = re.compile(
    r"(conv1(\.\d)?|bn1|linear1|bn_last|fc|layer\d+\.\d+\.(conv\d+|bn\d+|linear\d+|downsample\.\d|gate\.conv))"
    r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
)


def is_known(name: str) -> bool:
    """Whether a network of the grammar can have a parameter of that name."""
    return _KNOWN.fullmatch(name) is not None


def _unknown(state: State) -> list[str]:
    return [name for name in state if not is_known(name)]


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
            raise Unrecognised(f"{name} has the shape {by(tuple(tensor.shape))}, which no layer of its kind has")


# --- what names and shapes tell -----------------------------------------------------------------------------------


def _assumptions(spec: NetSpec) -> tuple[str, ...]:
    said = []
    blocks = spec.blocks
    if pads := [block.shortcut for block in blocks if isinstance(block.shortcut, ZeroPad)]:
        where = "on both sides" if pads[0].zeros == "both" else "after the others"
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
        said.append("ReLU and the layer before their BN, since the stem has no BN")
    if any(block.preactivated_shortcut for block in blocks):
        said.append("shortcuts that change the shape begin after the first BN and ReLU")
    if isinstance(spec.stem, ConvStem):
        strides = ", ".join(str(math.prod(block.stride for block in stage)) for stage in spec.stages)
        pool = ", then a max pool" if spec.stem.pool else ", no pool"
        said.append(f"a stem of stride {spec.stem.stride}{pool}; stages of stride {strides}")
    said.append(f"{spec.activation} activations{f', BN with eps {spec.norm.eps:g}' if spec.norm else ''}")
    return tuple(said)
