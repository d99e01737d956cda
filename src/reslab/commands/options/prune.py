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
    """Number of training images used to choose blocks and to recompute batch-normalisation statistics."""
    split: Annotated[Split, Parameter(parse=False)] = "test"


@positional
@dataclass(frozen=True)
class Options(Command):
    """Make a network faster by removing the blocks that matter least.

    `reslab prune runs/resnet56 --data cifar10 --max-error 1 --out small.safetensors --report curve.html`

    After each removal, all remaining blocks are measured again. Training images choose which block to remove, half of
    the test images decide when to stop, and the reported errors are measured on the other half.
    """

    runs: ClassVar = "reslab.commands.prune:run"

    weights: Weights
    _: KW_ONLY
    out: Path
    """The file to write: .safetensors."""
    drop: int | None = None
    """Remove this many blocks (0 with --finetune: fine-tune a network that was pruned before); or give --max-error."""
    max_error: float | None = None
    """Remove as many blocks as possible while the error rises by at most this many percentage points."""
    finetune: int = 0
    """Fine-tune the result for this many mini-batches of 128."""
    lr: float = 0.01
    """Initial learning rate for fine-tuning; decays linearly."""
    calibrate: Annotated[bool, Parameter(negative="--no-calibrate")] = True
    """Recompute batch-normalisation statistics after each removal."""
    rounds: int = 5
    """Rounds of timing; each network is timed once a round."""
    report: Path | None = None
    """Also write the error curve to this HTML page, with the numbers as JSON next to it."""
    figure: Figure = ()
    seed: int = 0
    """Random seed for fine-tuning: order of the images, augmentation."""
    looking: Annotated[LookingToPrune, Parameter(name="*")]
    device: Device = None
    threads: Threads = None
    force: Force = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.looking.net, "data": self.looking.data, "weights": [self.weights]}
