"""``reslab features``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Parameter

from reslab.commands.options.common import (
    Command,
    Device,
    Force,
    Json,
    Looking,
    Several,
    Threads,
    Weights,
    positional,
)


@dataclass(frozen=True, kw_only=True)
class LookingAtMany(Looking):
    """More images than a statistic takes."""

    images: int = 10000
    """At most so many images, evenly spaced over the split."""


@positional
@dataclass(frozen=True)
class Options(Command):
    """Write embeddings, or the feature maps of a network's stages, to a file for use in other tools.

    `reslab features runs/resnet20 --data cifar10 --stages layer3 pool --out features.npz`
    """

    runs: ClassVar = "reslab.commands.features:run"

    weights: Weights
    _: KW_ONLY
    out: Path
    """File to write: .npz or .parquet. Labels are included."""
    stages: Annotated[tuple[str, ...], Several] = ("pool",)
    """Outputs to write: stem, layer1, layer2, ..., pool (the embeddings, input of the last layer) or logits."""
    looking: Annotated[LookingAtMany, Parameter(name="*")]
    device: Device = None
    threads: Threads = None
    force: Force = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.looking.net, "data": self.looking.data, "weights": [self.weights]}
