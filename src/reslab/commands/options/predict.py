"""``reslab predict``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Parameter

from reslab.commands.options.common import (
    GIVEN,
    AnsweringPrecision,
    Batch,
    Command,
    Device,
    Force,
    Given,
    NetOfWeights,
    OrientedAsWeights,
    Outputs,
    Runtime,
    Threads,
    WeightsOrArtefact,
    WhichWeights,
    positional,
)


@positional
@dataclass(frozen=True)
class Options(Command):
    """Classify images: files, folders (with subfolders), or paths on standard input.

    One photograph: `reslab predict runs/mine holiday.jpg`

    A folder as a table: `reslab predict torchvision:resnet50 photos --csv > photos.csv`

    Paths, one per line: `find . -name "*.jpg" | reslab predict runs/mine - --json`

    Images that cannot be read, or have more than 178,956,970 pixels, are listed and skipped. Exit code 1 if none could
    be read.
    """

    runs: ClassVar = "reslab.commands.predict:run"

    weights: WeightsOrArtefact
    images: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)]
    """Image files, folders, or - for paths on standard input."""
    _: KW_ONLY
    top: int = 5
    """Number of most likely classes to print for each image."""
    threshold: float | None = None
    """Say "not sure" if the most likely class has less than this probability, 0 to 1."""
    json: bool = False
    """Print JSON Lines, one object per image as it is classified; a failure is one object with the key `error`."""
    csv: bool = False
    """Print CSV, one row per image as it is classified."""
    explain: Path | None = None
    """Write a Grad-CAM heat map of each image into this folder: the regions that support the predicted class."""
    net: NetOfWeights = None
    which: WhichWeights = None
    outputs: Outputs = None
    given: Annotated[Given, Parameter(name="*")] = GIVEN
    oriented: OrientedAsWeights = None
    batch: Batch = 32
    precision: AnsweringPrecision = "fp32"
    runtime: Runtime = None
    device: Device = None
    threads: Threads = None
    force: Force = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [self.weights]}
