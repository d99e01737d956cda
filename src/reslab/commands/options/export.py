"""``reslab export``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import (
    Command,
    Given,
    Json,
    NetOfWeights,
    Outputs,
    Several,
    Threads,
    Weights,
    WhichSplit,
    WhichWeights,
    positional,
)

GIVEN = Given()


@positional
@dataclass(frozen=True)
class Options(Command):
    """Write a network for other runtimes, once it has been seen to say the same there and to be no slower.

    For ONNX Runtime: `reslab export runs/mine --data photos --out mine`

    For all three: `reslab export torchvision:resnet50 --to onnx openvino torch --data imagenet --out resnet50`

    In 8 bits: `reslab export runs/mine --to openvino --int8 --data photos --out small`

    The folder holds the model files, and a `metadata.json` with class names, preprocessing, checksums and what was
    found. `predict` and `eval` take it as they take weights. Exit code 1 if nothing passed, and nothing was written.
    """

    runs: ClassVar = "reslab.commands.export:run"

    weights: Weights
    _: KW_ONLY
    out: Path
    """Folder to write."""
    to: Annotated[tuple[Literal["onnx", "openvino", "torch"], ...], Several] = ("onnx",)
    """Formats: onnx for ONNX Runtime and many others, openvino for Intel's runtime, torch for torch.export.load."""
    input: Literal["photographs", "crops", "tensors"] = "photographs"
    """What the file takes. photographs: uint8 pixels of any size, resized, cropped and normalised inside; crops: uint8
    pixels of the network's size, normalised inside; tensors: fp32 input that the caller has normalised."""
    int8: bool = False
    """Compute in 8 bits: smaller and faster. Layers that cannot bear it stay in fp32."""
    calibration: str | None = None
    """Real images that --int8 takes its ranges from: a known name or a folder; by default training images of --data."""
    calibration_images: int = 300
    """How many of them, evenly spaced."""
    data: str | None = None
    """Real images to compare on: a known name, or a folder, with labels or without."""
    split: WhichSplit = "test"
    images: int = 200
    """How many of them, evenly spaced."""
    labels: Path | None = None
    """File that gives the class of each image, one a line, where they lie flat; by default val.txt and the like."""
    outputs: Outputs = None
    net: NetOfWeights = None
    which: WhichWeights = None
    given: Annotated[Given, Parameter(name="*")] = GIVEN
    speed: Annotated[
        bool,
        Parameter(negative="--no-speed", help="Compare the speed, too; not, where the file is for another machine."),
    ] = True
    force: Annotated[
        bool, Parameter(help="Write what did not pass, or was not compared; overwrite an artefact that is there.")
    ] = False
    threads: Threads = None
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "data": self.data, "weights": [self.weights]}
