"""``reslab finetune``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import (
    Command,
    Device,
    Json,
    NetOfWeights,
    Open,
    Oriented,
    Threads,
    WhichWeights,
    Workers,
    positional,
)

WEIGHTS = "torchvision:resnet50"
"""What a fine-tuning starts from if nothing is said."""


@positional
@dataclass(frozen=True)
class Options(Command):
    """Fine-tune a network on your own images, and measure how good it is.

    All it needs is one folder per class: `reslab finetune photos`

    Checks the images first: lists damaged, unused and duplicate ones, and keeps duplicates on one side of every split.
    Evaluates on the test images only once, at the end. Writes the result to report.html in the run's folder.

    Then: `reslab predict runs/finetune-resnet50-photos-seed0 new.jpg`

    Interrupted? Repeat the command, or use `reslab finetune --resume DIR`, to continue.
    """

    runs: ClassVar = "reslab.commands.finetune:run"

    folder: str | None = None
    """Your images: one folder per class, with or without train/ and test/ above them; a list of paths and labels
    (CSV, Parquet); or a Hugging Face Parquet folder."""
    _: KW_ONLY
    weights: Annotated[str | None, Parameter(name=["--from", "--weights"])] = None
    """Weights to start from: torchvision:NAME/VARIANT, timm:NAME.TAG, hf:ORG/NAME, reslab:NAME, a file or a run; by
    default torchvision:resnet50."""
    out: Path | None = None
    """Folder of the run; by default runs/finetune-NET-FOLDER-seedS."""
    train: Literal["head", "last", "all", "gradual"] = "all"
    """What to train: only the last layer (head, takes seconds), the last stages too (last), the whole network (all), or
    gradual unfreezing, stage by stage (gradual)."""
    stages: int = 1
    """Number of stages that `--train last` trains."""
    head: Literal["bn-linear", "linear", "drawn"] = "bn-linear"
    """How to initialise the new last layer: fitted to the embeddings of your images, normalised (bn-linear) or not
    (linear), or randomly (drawn)."""
    freeze_bn: bool = False
    """Freeze the batch-normalisation statistics; use about a tenth of the learning rate (--lr 0.001) with it."""
    stage_decay: float = 1.0
    """Learning rate of each stage relative to the next one; 1 uses the same rate for all."""
    balanced: bool = False
    """Weight the loss so that all classes count equally, however many images each has."""
    augment: Literal["none", "light", "standard", "strong"] = "standard"
    """Strength of data augmentation: crops, flips and colour changes."""
    mixup: float = 0.0
    """Mixup: alpha of the Beta distribution that mixing weights are drawn from; 0.2 is common, 0 is off."""
    epochs: float | None = None
    """Training epochs; by default chosen by the number of images."""
    lr: float = 0.01
    """Learning rate of the head."""
    batch: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 32
    """Images per training step."""
    early_stop: int | None = None
    """Stop after this many evaluations (of 10 in all) without a lower validation error, and keep the best weights."""
    validation: float | None = None
    """Fraction of training images held out for validation, used to calibrate probabilities and for --early-stop; by
    default 0.1, or 0 with fewer than 100 images per class. If there are val/ and test/ folders, val/ is used
    instead."""
    folds: int | None = None
    """Cross-validate with this many folds, and print mean and standard deviation of the accuracy."""
    seed: int = 0
    """Random seed: order of the images, augmentation, cross-validation."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision; by default bf16 where the hardware supports it."""
    size: int | None = None
    """Input size in pixels; by default what the weights were trained with."""
    net: NetOfWeights = None
    which: WhichWeights = None
    labels: Path | None = None
    """File with the class of each image, one per line, if images are not in class folders; by default val.txt or
    similar."""
    oriented: Oriented = None
    resume: Path | None = None
    """Continue the fine-tuning in this folder."""
    look: bool = False
    """Only check the images and print what would be trained; write nothing."""
    device: Device = None
    threads: Threads = None
    workers: Workers = None
    """Processes that decode images during training; by default one fewer than there are cores."""
    open: Open = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [] if self.weights is None else [self.weights]}
