"""``reslab weights``: list, inspect, convert, fetch."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from reslab.commands.options.common import Command, Force, Json, NetOfWeights, Weights, WhichWeights, positional


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """List the weights that come with Reslab."""

    runs: ClassVar = "reslab.commands.weights:listing"

    json: Json = False


@positional
@dataclass(frozen=True)
class Inspect(Command):
    """Show which network the weights belong to, what metadata they carry, and what had to be assumed."""

    runs: ClassVar = "reslab.commands.weights:inspect"

    weights: Weights
    _: KW_ONLY
    net: NetOfWeights = None
    which: WhichWeights = None
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [self.weights]}


@positional
@dataclass(frozen=True)
class Convert(Command):
    """Convert weights to the parameter names of Reslab (keeping all metadata), torchvision or timm."""

    runs: ClassVar = "reslab.commands.weights:convert"

    weights: Weights
    out: Path
    """The file to write: .safetensors, or .pth for torch.load."""
    _: KW_ONLY
    to: Literal["reslab", "torchvision", "timm"] = "reslab"
    """Library whose parameter names to use; the result loads there with strict=True."""
    net: NetOfWeights = None
    which: WhichWeights = None
    num_classes: int | None = None
    """Replace the last layer by a new one for this many classes."""
    force: Force = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [self.weights]}


@positional
@dataclass(frozen=True)
class Fetch(Command):
    """Download weights from a hub into its library's cache."""

    runs: ClassVar = "reslab.commands.weights:fetch"

    weights: str
    """torchvision:NAME/VARIANT, timm:NAME.TAG or hf:ORG/NAME."""
    _: KW_ONLY
    out: Path | None = None
    """Also write them to this file, together with network and preprocessing."""
    force: Force = False
    json: Json = False
