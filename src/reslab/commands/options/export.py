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
    """Export a network to other runtimes, after checking that its predictions stay the same and it is no slower.

    For ONNX Runtime: `reslab export runs/mine --data photos --out mine`

    For all three: `reslab export torchvision:resnet50 --to onnx openvino torch --data imagenet --out resnet50`

    In 8 bits: `reslab export runs/mine --to openvino --int8 --data photos --out small`

    A detector: `reslab export runs/cells --to onnx openvino --data pictures --out cells`

    The folder holds the model files and a `metadata.json` with class names, preprocessing, checksums and the results
    of the checks. `predict` and `eval` (for a detector, `detect predict` and `detect eval`) accept it in place of
    weights. Exit code 1 if nothing passed and nothing was written.
    """

    runs: ClassVar = "reslab.commands.export:run"

    weights: Weights
    _: KW_ONLY
    out: Path
    """Folder to write."""
    to: Annotated[tuple[Literal["onnx", "openvino", "torch"], ...], Several] = ("onnx",)
    """Formats to write: onnx (ONNX Runtime and many others), openvino (Intel's runtime), torch (torch.export.load)."""
    input: Literal["photographs", "crops", "tensors"] = "photographs"
    """Input of the exported model. photographs: uint8 images of any size; resizing, cropping and normalisation are
    included. crops: uint8 images of the network's size; normalisation is included. tensors: fp32, already
    normalised."""
    explain: bool = False
    """Also write what heat maps need: a second output, from which `serve` computes class activation maps."""
    int8: bool = False
    """Quantise to 8 bits: smaller and faster. Layers that lose too much accuracy stay in fp32."""
    calibration: str | None = None
    """Images to calibrate --int8 on: a data set's name or a folder; by default training images of --data."""
    calibration_images: int = 300
    """Number of calibration images, evenly spaced."""
    data: str | None = None
    """Images to compare the predictions on: a data set's name or a folder, with or without labels."""
    split: WhichSplit = "test"
    images: int = 200
    """Number of images to compare on, evenly spaced."""
    labels: Path | None = None
    """File with the class of each image, one per line, if images are not in class folders; by default val.txt or
    similar."""
    outputs: Outputs = None
    net: NetOfWeights = None
    which: WhichWeights = None
    given: Annotated[Given, Parameter(name="*")] = GIVEN
    speed: Annotated[
        bool,
        Parameter(
            negative="--no-speed", help="Also compare the speed; turn it off if the file is for another machine."
        ),
    ] = True
    force: Annotated[
        bool, Parameter(help="Write even what did not pass or was not compared, and overwrite an existing artefact.")
    ] = False
    threads: Threads = None
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "data": self.data, "weights": [self.weights]}
