"""``reslab detect train``, ``eval``, ``predict``, ``study``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import Command, Device, Force, Json, Open, Threads, positional

Boxes = Annotated[
    str | None,
    Parameter(
        help="Images with boxes: a folder in the format of Pascal VOC, COCO or YOLO, or a COCO JSON file.",
    ),
]
Detector = Annotated[
    str,
    Parameter(
        help="Folder of a `reslab detect train` run, its final.safetensors or one of its checkpoints, or an artefact "
        "that `reslab export` wrote."
    ),
]
Refine = Annotated[
    bool, Parameter(help="Refine each predicted box in a second pass, and combine both passes by box voting.")
]
Scales = Annotated[
    tuple[int, ...],
    Parameter(
        consume_multiple=True,
        help="Multi-scale testing: sizes of the shorter side in pixels; the boxes of all are combined by box voting.",
    ),
]
Also = Annotated[
    tuple[str, ...],
    Parameter(
        consume_multiple=True,
        help="Ensemble with these detectors of the same classes; the boxes of all are combined by box voting.",
    ),
]
Score = Annotated[float, Parameter(help="Minimum score, 0 to 1, of a box to show and count.")]


@positional
@dataclass(frozen=True)
class Train(Command):
    """Train a detector on your own images with boxes.

    Checks them first: boxes outside the image, of zero size or of unknown classes, missing images and others are
    counted and listed, together with how they are handled.

    Interrupted? Repeat the command, or use `reslab detect train --resume DIR`, to continue.
    """

    runs: ClassVar = "reslab.commands.detect:train"

    data: Boxes = None
    _: KW_ONLY
    net: Annotated[str | None, Parameter(name=["--net", "--model"])] = None
    """Backbone: a name from `reslab nets`, or vgg16 with `--kind c4`; by default resnet50."""
    weights: Annotated[str | None, Parameter(name=["--from", "--weights"])] = None
    """Backbone weights to start from, of a classifier: torchvision:NAME, a file or a run. Without them, weights are
    random and BN is trained."""
    kind: Literal["fpn", "c4", "localise"] = "fpn"
    """fpn: a feature pyramid over all stages. c4: as in the 2015 papers, the last stage runs on each region. localise:
    the class of the whole image, and one box for each class (He et al. 2015, appendix C)."""
    out: Path | None = None
    """Folder of the run; by default runs/detect-NET-FOLDER-seedS."""
    short: int = 600
    """Resize the shorter side of images to this many pixels."""
    long: int = 1000
    """Maximum length of the longer side in pixels."""
    scales: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = ()
    """Sizes of the shorter side to choose from at random in training; by default only --short."""
    anchors: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = ()
    """Anchor sizes in pixels of the resized image, one for each level of the pyramid; by default 32 64 128 256 512
    (fpn), 128 256 512 (c4), or a quarter, a half and the whole of --short (localise)."""
    channels: int = 256
    """Number of channels of the feature pyramid."""
    regions: int | None = None
    """Regions (with --kind localise, anchors) per image to train on; fewer are faster; by default 512 (8)."""
    pooling: Literal["align", "max"] = "align"
    """How to pool a region's features: RoIAlign (align), or max pooling as in 2015 (max, with --kind c4)."""
    norm: Literal["frozen", "batch", "group"] | None = None
    """Batch normalisation: frozen or trained (batch), or GroupNorm in its place (group, without --from); by default
    frozen with --from."""
    context: Annotated[bool, Parameter(negative="")] = False
    """Classify each region together with features of the whole image (global context, He et al. 2015, appendix B)."""
    frozen_stages: int = 0
    """Freeze this many stages, counted from the input."""
    no_flip: bool = False
    """Switch off random horizontal flips."""
    trainval: bool = False
    """Train on the validation split too."""
    iterations: int | None = None
    """Training steps; by default 12 epochs."""
    batch: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 4
    """Images per training step."""
    lr: float = 0.01
    """Peak learning rate."""
    weight_decay: Annotated[float, Parameter(name=["--wd", "--weight-decay"])] = 1e-4
    """Weight decay."""
    seed: int = 0
    """Random seed: initial weights, order of the images, flips, sampled regions."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision; by default bf16 where the hardware supports it."""
    evaluate_every: int | None = None
    """Steps between evaluations on the validation split; by default ten evaluations."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; by default every five minutes and at each evaluation."""
    resume: Path | None = None
    """Continue the run in this folder."""
    look: bool = False
    """Only check images and boxes, and write nothing."""
    device: Device = None
    threads: Threads = None
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [] if self.weights is None else [self.weights]}


@positional
@dataclass(frozen=True)
class Eval(Command):
    """Measure the average precision of a detector on images with boxes, by the rules of Pascal VOC and COCO."""

    runs: ClassVar = "reslab.commands.detect_eval:run"

    detector: Detector
    data: Boxes = None
    _: KW_ONLY
    split: Literal["train", "val", "test"] = "test"
    """Which images to use."""
    score: Score = 0.5
    resamples: int = 1000
    """Bootstrap resamples for confidence intervals."""
    short: int | None = None
    """Pixels of the short side; by default as in training."""
    refine: Refine = False
    scales: Scales = ()
    also: Also = ()
    out: Path | None = None
    """Write the detections to this file, in COCO's results format (JSON); images are numbered from 1 in the order of
    their split."""
    page: Path | None = None
    """Also write an HTML page with the results, precision-recall curves, kinds of error and the images with the most
    errors."""
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
    """Find objects in images, and draw their boxes."""

    runs: ClassVar = "reslab.commands.detect_predict:run"

    detector: Detector
    pictures: tuple[Path, ...] = ()
    """Images, or folders of images."""
    _: KW_ONLY
    score: Score = 0.5
    out: Path | None = None
    """Write the images with their boxes to this folder, and all detections as COCO JSON (detections.json)."""
    short: int | None = None
    """Pixels of the short side; by default as in training."""
    refine: Refine = False
    scales: Scales = ()
    also: Also = ()
    force: Force = False
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """Number format of the forward passes."""
    device: Device = None
    threads: Threads = None
    json: Json = False


@positional
@dataclass(frozen=True)
class Study(Command):
    """Compare backbones of a detector, seed by seed: He et al. 2015, Tables 7 and 8, VGG-16 against ResNet-101.

    At a small size: `reslab detect study cells --nets vgg16-bn resnet18 --short 240 --iterations 500 --seeds 3`

    All runs share one recipe and differ only in the network. Interrupted? Repeat the command; finished runs are kept.
    """

    runs: ClassVar = "reslab.commands.detect_study:run"

    data: Boxes = None
    _: KW_ONLY
    nets: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
    """Networks to compare with the first one named; by default vgg16 and resnet101."""
    weights: Annotated[tuple[str, ...], Parameter(name=["--from", "--weights"], consume_multiple=True)] = ()
    """Backbone weights to start from, one for each network in the same order; without them, weights are random."""
    seeds: int = 3
    """Number of seeds; verdicts are given at 3, 5, 8 and 12."""
    out: Path | None = None
    """Folder of the runs and of study.json; by default runs/detect-study-FOLDER."""
    kind: Literal["fpn", "c4"] = "c4"
    """c4: as in the 2015 papers. fpn: a feature pyramid, for residual networks only."""
    short: int = 600
    """Resize the shorter side of images to this many pixels."""
    long: int = 1000
    """Maximum length of the longer side in pixels."""
    anchors: Annotated[tuple[float, ...], Parameter(consume_multiple=True)] = ()
    """Anchor sizes in pixels of the resized image; by default as in `reslab detect train`."""
    regions: int = 128
    """Regions per image to train on."""
    pooling: Literal["align", "max"] = "max"
    """How to pool a region's features: RoIAlign (align), or max pooling as in 2015 (max, with --kind c4)."""
    trainval: bool = False
    """Train on the validation split too."""
    iterations: int | None = None
    """Training steps of each run; by default 12 epochs."""
    batch: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 4
    """Images per training step."""
    lr: float = 0.01
    """Peak learning rate."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision; by default bf16 where the hardware supports it."""
    device: Device = None
    threads: Threads = None
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"weights": list(self.weights)}
