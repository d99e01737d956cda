"""``reslab predict``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import (
    GIVEN,
    Batch,
    Command,
    Device,
    Force,
    Given,
    NetOfWeights,
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
    """Say what images show: files, folders with all below them, or paths on standard input.

    One photograph: `reslab predict runs/mine holiday.jpg`

    A folder as a table: `reslab predict torchvision:resnet50 photos --csv > photos.csv`

    Paths, a line each: `find . -name "*.jpg" | reslab predict runs/mine - --json`

    Images that cannot be read are named and passed over; so are those of more than 178,956,970 pixels. Exit code 1
    if there is none that could be read.
    """

    runs: ClassVar = "reslab.commands.predict:run"

    weights: WeightsOrArtefact
    images: Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)]
    """Image files, folders, or - for paths on standard input."""
    _: KW_ONLY
    top: int = 5
    """So many of the likeliest classes of each image."""
    threshold: float | None = None
    """Say "not sure" where the likeliest class has less than this probability, 0 to 1."""
    json: bool = False
    """Print JSON Lines, an object for each image as it comes; a failure is one object with the key `error`."""
    csv: bool = False
    """Print a table of comma-separated values, a row for each image as it comes."""
    explain: Path | None = None
    """Folder for a picture of each image that shows where the network saw its answer (Grad-CAM)."""
    net: NetOfWeights = None
    which: WhichWeights = None
    outputs: Outputs = None
    given: Annotated[Given, Parameter(name="*")] = GIVEN
    oriented: Annotated[
        bool | None,
        Parameter(
            name="--orient",
            negative="--no-orient",
            help="Turn photographs upright as their camera notes (EXIF); by default done unless the weights say "
            "otherwise.",
        ),
    ] = None
    batch: Batch = 32
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """bf16 is faster where the hardware has it."""
    runtime: Runtime = None
    device: Device = None
    threads: Threads = None
    force: Force = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [self.weights]}
