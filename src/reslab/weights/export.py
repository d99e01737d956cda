"""Our weights under the names of other libraries, for ``load_state_dict(..., strict=True)`` there."""

from typing import Literal

from torch import Tensor

from reslab.errors import InputError
from reslab.nets.catalog import resolve
from reslab.nets.equivalence import same_function
from reslab.nets.spec import NetSpec
from reslab.weights.keys import to_resnetv2
from reslab.weights.load import Weights

Library = Literal["torchvision", "timm"]
_BOTH = {
    "resnet18": "resnet18", "resnet34": "resnet34", "resnet50": "resnet50", "resnet101": "resnet101",
    "resnet152": "resnet152", "resnext50-32x4d": "resnext50_32x4d", "resnext101-32x8d": "resnext101_32x8d",
    "resnext101-64x4d": "resnext101_64x4d", "wide-resnet50-2": "wide_resnet50_2",
    "wide-resnet101-2": "wide_resnet101_2",
}  # fmt: skip
PEERS: dict[Library, dict[str, str]] = {
    "torchvision": _BOTH,
    "timm": _BOTH
    | {"resnext101-32x4d": "resnext101_32x4d", "resnet200": "resnet200"}
    | {f"resnet{depth}{letter}": f"resnet{depth}{letter}" for depth in (50, 101, 152) for letter in "cd"}
    | {f"preresnet{depth}": f"resnetv2_{depth}" for depth in (50, 101, 152)},
}
"""Names of the catalogue that other libraries have too, and their names there."""


def peer_of(spec: NetSpec, library: Library) -> str | None:
    """What the library calls the network that computes the same; None if it has none."""
    if library == "torchvision" and spec.in_channels != 3:
        return None
    for name, theirs in PEERS[library].items():
        if same_function(resolve(name), spec):
            return theirs
    return None


def exported(weights: Weights, library: Library) -> tuple[dict[str, Tensor], str]:
    """The tensors under the library's names, and its name for the network.

    Raises `InputError` if the library has no network that computes the same from these weights.
    """
    spec = weights.spec
    name = peer_of(spec, library) if isinstance(spec, NetSpec) else None
    if name is None:
        raise InputError(
            f"{library} has no network that computes what '{spec.name}' does; it has "
            f"{', '.join(list(PEERS[library])[:6])}, ... Convert to 'reslab' instead, in any format"
        )
    return (to_resnetv2(weights.tensors) if name.startswith("resnetv2") else weights.tensors), name
