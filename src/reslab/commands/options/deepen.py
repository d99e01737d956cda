"""``reslab deepen``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

from reslab.commands.options.common import Command, Force, Json, NetOfWeights, Weights, WhichWeights, positional


@positional
@dataclass(frozen=True)
class Options(Command):
    """Make a deeper network that computes exactly the same function: the paper's "solution by construction".

    That such a solution exists, yet deeper plain networks still train to a higher error, is the degradation problem.
    Continue training from it with `reslab train ... --weights OUT`.
    """

    runs: ClassVar = "reslab.commands.deepen:run"

    weights: Weights
    _: KW_ONLY
    to: str
    """The deeper network: resnet56, "cifar_plain(depth=38)"."""
    out: Path
    """The file to write: .safetensors, or .pth."""
    net: NetOfWeights = None
    which: WhichWeights = None
    force: Force = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [self.weights]}
