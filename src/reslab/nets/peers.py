"""Networks of the catalogue that other libraries have too, and what they are called there."""

from typing import Literal

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

ALIASES: dict[str, str] = {theirs: ours for names in PEERS.values() for ours, theirs in names.items() if theirs != ours}
"""What other libraries call a network of the catalogue: understood wherever a network is named."""
