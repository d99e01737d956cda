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
    """Measure the test error of one or more networks by the papers' protocols, singly or as an ensemble.

    The CIFAR test of a run: `reslab eval runs/resnet20 --data cifar10`

    Ten crops of photographs: `reslab eval torchvision:resnet50 --data imagenet --protocol ten-crop`

    Six networks together: `reslab eval runs/* --data imagenet --protocol ensemble --each multi-scale --best-subset`

    Results for a run are saved in its folder and not computed again.
    """

    runs: ClassVar = "reslab.commands.eval:run"

    weights: tuple[str, ...]
    """One or more weights: a file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG, hf:ORG/NAME,
    what reslab export wrote, or predictions that --save wrote (.npz)."""
    _: KW_ONLY
    data: str | None = None
    """digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder: train/ and val/ with a folder
    per class, ImageNet's archives, or flat with a list of labels. Not needed for saved predictions."""
    protocol: Literal["one-crop", "ten-crop", "multi-scale", "ensemble"] | None = None
    """one-crop (the default): the centre crop, or the whole image if it is small. ten-crop: corners, centre and their
    mirror images. multi-scale: the whole image at five sizes, fully convolutional. ensemble: all the weights together.
    Softmax scores are averaged."""
    each: OneCropOrMore | None = None
    """Protocol of an ensemble's members; by default one-crop."""
    best_subset: bool = False
    """Find the best subset of the ensemble's members, for each size."""
    net: NetOfWeights = None
    which: WhichWeights = None
    split: WhichSplit = "test"
    given: Annotated[Given, Parameter(name="*")] = GIVEN
    test_time: Literal["none", "flip", "flip-shift"] = "none"
    """Test-time augmentation for one-crop. flip: average the logits over the image and its mirror image. flip-shift:
    over shifted copies too."""
    scales: Annotated[tuple[int, ...], Several] = ()
    """For multi-scale: sizes of the shorter side in pixels; by default 224 256 384 480 640, scaled with the crop."""
    window: int | None = None
    """For multi-scale: size of the average-pooling window on the feature map; by default as in training. 1 applies the
    last layer at every position."""
    labels: Path | None = None
    """File with the class of each image, one per line, if images are not in class folders; by default val.txt or
    similar."""
    outputs: Outputs = None
    oriented: Oriented = None
    damaged: float | None = None
    """Fraction of images that may be damaged (default 0). Damaged images are skipped, counted and listed."""
    recalibrate_bn: bool = False
    """Recompute the batch-normalisation statistics as averages over training images."""
    recalibrate_images: int | None = None
    """Number of training images for --recalibrate-bn; by default 10,000."""
    per_class: bool = False
    """Print the accuracy of each class, worst first."""
    confusion: Path | None = None
    """Write the confusion matrix to this file: .png, .svg, .pdf or .csv."""
    save: Path | None = None
    """Save the predictions to this .npz file, to use in an ensemble or for further metrics."""
    fresh: bool = False
    """Ignore saved results and compute again."""
    force: Force = False
    batch: Batch = 100
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """Precision; bf16 is faster where the hardware supports it."""
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
