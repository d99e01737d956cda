"""``reslab prune``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Parameter

from reslab.commands.options.common import (
    Command,
    Device,
    Figure,
    Force,
    Json,
    Looking,
    Split,
    Threads,
    Weights,
    positional,
)


@dataclass(frozen=True, kw_only=True)
class LookingToPrune(Looking):
    """Of the training images a number choose; the test images all decide."""

    images: int = 2000
    """Training images that choose the block, and that batch normalisation's statistics are taken from."""
    split: Annotated[Split, Parameter(parse=False)] = "test"


@positional
@dataclass(frozen=True)
class Options(Command):
    """Make a network faster by taking out the blocks that it misses least.

    `reslab prune runs/resnet56 --data cifar10 --max-error 1 --out small.safetensors --report curve.html`

    After each removal every block that is left is measured again. Training images choose the block, half of the test
    images decide how far it goes, and the errors shown are of the other half.
    """

    runs: ClassVar = "reslab.commands.prune:run"

    weights: Weights
    _: KW_ONLY
    out: Path
    """The file to write: .safetensors."""
    drop: int | None = None
    """Remove so many blocks; or give --max-error."""
    max_error: float | None = None
    """Remove as many blocks as raise the error by at most so many percentage points."""
    finetune: int = 0
    """Fine-tune the result for so many mini-batches of 128."""
    lr: float = 0.01
    """Initial learning rate of the fine-tuning; it falls linearly."""
    calibrate: Annotated[bool, Parameter(negative="--no-calibrate")] = True
    """Recompute the statistics of batch normalisation after each removal."""
    rounds: int = 5
    """Rounds of timing; each network is timed once a round."""
    report: Path | None = None
    """Also write the curve as this page, with its figures as JSON beside it."""
    figure: Figure = ()
    seed: int = 0
    """Random seed of the fine-tuning: order of the images, augmentation."""
    looking: Annotated[LookingToPrune, Parameter(name="*")]
    device: Device = None
    threads: Threads = None
    force: Force = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.looking.net, "data": self.looking.data, "weights": [self.weights]}
