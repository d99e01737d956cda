"""``reslab detect train``, ``eval``, ``predict``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import Command, Device, Force, Json, Open, Threads, positional

Boxes = Annotated[
    str | None,
    Parameter(
        help="Pictures with boxes: a folder as Pascal VOC, COCO or YOLO have them, or a COCO JSON file.",
    ),
]
Detector = Annotated[str, Parameter(help="The folder of a run of `reslab detect train`, or a file that it wrote.")]
Refine = Annotated[
    bool, Parameter(help="Classify and regress each box once more from where it came to lie, and vote over both.")
]
Scales = Annotated[
    tuple[int, ...], Parameter(consume_multiple=True, help="Short sides to look at, boxes of all voted over together.")
]
Score = Annotated[float, Parameter(help="Least score, 0 to 1, of a box that is shown and counted.")]


@positional
@dataclass(frozen=True)
class Train(Command):
    """Train a detector on your own pictures with boxes.

    They are looked at first: boxes outside the picture, of no size or of unknown classes, absent pictures and others
    are counted, named, and treated by a rule that is said.

    Stopped, or killed? The same command, or `reslab detect train --resume DIR`, goes on where it was.
    """

    runs: ClassVar = "reslab.commands.detect:train"

    data: Boxes = None
    _: KW_ONLY
    net: Annotated[str | None, Parameter(name=["--net", "--model"])] = None
    """Network to build on: a name of the catalogue, or vgg16 with `--kind c4`; by default resnet50."""
    weights: Annotated[str | None, Parameter(name=["--from", "--weights"])] = None
    """Weights of a classifier of that network to start from: torchvision:NAME, a file or a run. Without them weights
    are drawn, and BN is trained."""
    kind: Literal["fpn", "c4"] = "fpn"
    """A pyramid over all stages (fpn), or as the 2015 papers have it (c4): the last stage works on each region."""
    out: Path | None = None
    """Folder of the run; by default runs/detect-NET-FOLDER-seedS."""
    short: int = 600
    """Pixels of the short side that pictures are resized to."""
    long: int = 1000
    """Pixels that the long side has at most."""
    scales: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = ()
    """Short sides to draw from in training, at each picture; by default --short alone."""
    anchors: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = ()
    """Sides of anchors in pixels of the resized picture: one for each level of a pyramid; by default 32 64 128 256 512
    (fpn) or 128 256 512 (c4)."""
    channels: int = 256
    """Width of the pyramid."""
    regions: int = 512
    """Regions of a picture that are learnt from; fewer are faster."""
    pooling: Literal["align", "max"] = "align"
    """How features of a region are taken: RoIAlign, or max pooling as in 2015 (with --kind c4)."""
    norm: Literal["frozen", "batch"] | None = None
    """Whether batch normalisation is a fixed scale (frozen) or trained (batch); by default frozen with --from."""
    frozen_stages: int = 0
    """First stages that are not trained."""
    no_flip: bool = False
    """Do not mirror every second picture."""
    trainval: bool = False
    """Learn from the split val, too."""
    iterations: int | None = None
    """Steps; by default 12 passes over the training pictures."""
    batch: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 4
    """Pictures of one step."""
    lr: float = 0.01
    """Learning rate at its peak."""
    weight_decay: Annotated[float, Parameter(name=["--wd", "--weight-decay"])] = 1e-4
    """Weight decay."""
    seed: int = 0
    """Random seed: weights that are drawn, order of the pictures, mirroring, regions."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Number format; bf16 needs hardware for it, and is used by default where there is some."""
    evaluate_every: int | None = None
    """Steps between looks at the split val; by default ten looks."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; by default five minutes, and at each look."""
    resume: Path | None = None
    """Go on with the run in this folder."""
    look: bool = False
    """Only look at pictures and boxes, and write nothing."""
    device: Device = None
    threads: Threads = None
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [] if self.weights is None else [self.weights]}


@positional
@dataclass(frozen=True)
class Eval(Command):
    """Measure a detector on pictures with boxes: average precision by the rules of Pascal VOC and COCO."""

    runs: ClassVar = "reslab.commands.detect_eval:run"

    detector: Detector
    data: Boxes = None
    _: KW_ONLY
    split: Literal["train", "val", "test"] = "test"
    """Which pictures."""
    score: Score = 0.5
    resamples: int = 1000
    """Draws of the bootstrap that intervals come from."""
    short: int | None = None
    """Pixels of the short side; by default as in training."""
    refine: Refine = False
    scales: Scales = ()
    out: Path | None = None
    """File to write what was found to, as COCO's list of results (JSON); pictures are numbered from 1 in the order of
    their split."""
    page: Path | None = None
    """Also write a page (.html) with figures, curves, kinds of error and the pictures with most errors."""
    open: Open = False
    force: Force = False
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """Number format of the forward passes."""
    device: Device = None
    threads: Threads = None
    json: Json = False


@positional
@dataclass(frozen=True)
class Predict(Command):
    """Find objects in pictures, and draw their boxes."""

    runs: ClassVar = "reslab.commands.detect_predict:run"

    detector: Detector
    pictures: tuple[Path, ...] = ()
    """Pictures, or folders of pictures."""
    _: KW_ONLY
    score: Score = 0.5
    out: Path | None = None
    """Folder to write pictures with their boxes to, and detections.json, all that was found as COCO JSON."""
    short: int | None = None
    """Pixels of the short side; by default as in training."""
    refine: Refine = False
    scales: Scales = ()
    force: Force = False
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """Number format of the forward passes."""
    device: Device = None
    threads: Threads = None
    json: Json = False
