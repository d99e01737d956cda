"""``reslab eval``."""

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
    Json,
    NetOfWeights,
    OneCropOrMore,
    Oriented,
    Outputs,
    Runtime,
    Several,
    Threads,
    WhichSplit,
    WhichWeights,
    positional,
)


@positional
@dataclass(frozen=True)
class Options(Command):
    """Measure the error of weights by the papers' protocols, alone or as an ensemble.

    The CIFAR test of a run: `reslab eval runs/resnet20 --data cifar10`

    Ten crops of photographs: `reslab eval torchvision:resnet50 --data imagenet --protocol ten-crop`

    Six networks together: `reslab eval runs/* --data imagenet --protocol ensemble --each multi-scale --best-subset`

    What is evaluated of a run is kept in its folder, and computed once.
    """

    runs: ClassVar = "reslab.commands.eval:run"

    weights: tuple[str, ...]
    """One or more: a file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG, hf:ORG/NAME, what
    reslab export wrote, or predictions that --save wrote (.npz)."""
    _: KW_ONLY
    data: str | None = None
    """digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder: train/ and val/ with a folder
    for each class, ImageNet's archives, or flat with a list of labels. Saved predictions need none."""
    protocol: Literal["one-crop", "ten-crop", "multi-scale", "ensemble"] | None = None
    """one-crop (the default): the centre, or the whole of a small image. ten-crop: corners, centre and their mirror
    images. multi-scale: the whole image at five sizes, the head at each position. ensemble: of all the weights.
    Softmax scores are averaged."""
    each: OneCropOrMore | None = None
    """Protocol of an ensemble's members; by default one-crop."""
    best_subset: bool = False
    """Find the members that are best together, for each number of them."""
    net: NetOfWeights = None
    which: WhichWeights = None
    split: WhichSplit = "test"
    given: Annotated[Given, Parameter(name="*")] = GIVEN
    test_time: Literal["none", "flip", "flip-shift"] = "none"
    """Test-time augmentation of one crop. flip: average the logits with the mirror image's. flip-shift: with those of
    shifted images too."""
    scales: Annotated[tuple[int, ...], Several] = ()
    """With multi-scale: pixels of the shorter sides; by default 224 256 384 480 640, in proportion to the crop."""
    window: int | None = None
    """With multi-scale: positions of the feature map that are pooled at a time; by default as in training, 1 is the
    head at each position."""
    labels: Path | None = None
    """File that gives the class of each image, one a line, where they lie flat; by default val.txt and the like."""
    outputs: Outputs = None
    oriented: Oriented = None
    damaged: float | None = None
    """Share of the images that may be damaged: they are left out, counted and named. By default none."""
    recalibrate_bn: bool = False
    """Recompute the statistics of batch normalisation, as averages over training images."""
    recalibrate_images: int | None = None
    """Number of training images to average them over; by default 10,000."""
    per_class: bool = False
    """Print the accuracy of each class, the worst first."""
    confusion: Path | None = None
    """Write the confusion matrix to this file: .png, .svg, .pdf or .csv."""
    save: Path | None = None
    """Write the predictions to this .npz file, for an ensemble or other figures."""
    fresh: bool = False
    """Compute again what is kept."""
    force: Force = False
    batch: Batch = 100
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """bf16 is faster where the hardware has it."""
    runtime: Runtime = None
    device: Device = None
    threads: Threads = None
    json: Json = False

    @property
    def kind(self) -> OneCropOrMore:
        """The protocol of each of the weights."""
        if self.protocol == "ensemble":
            return self.each or "one-crop"
        return self.protocol or "one-crop"

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "data": self.data, "weights": self.weights}
