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
    """Fine-tune a network on your own images, and learn what it is worth.

    A folder for each class is all it takes: `reslab finetune photos`

    The images are looked at first: damaged, unused and twofold ones are named, and one picture never lies on both sides
    of a split. Test images are read once, at the end. The page report.html in the run's folder shows the result.

    Then: `reslab predict runs/finetune-resnet50-photos-seed0 new.jpg`

    Stopped, or killed? The same command, or `reslab finetune --resume DIR`, goes on where it was.
    """

    runs: ClassVar = "reslab.commands.finetune:run"

    folder: str | None = None
    """Your images: a folder for each class, with or without train/ and test/ above them; a list of paths and labels
    (CSV, Parquet); or a Hugging Face Parquet folder."""
    _: KW_ONLY
    weights: Annotated[str | None, Parameter(name=["--from", "--weights"])] = None
    """Weights to start from: torchvision:NAME/VARIANT, timm:NAME.TAG, hf:ORG/NAME, reslab:NAME, a file or a run; by
    default torchvision:resnet50."""
    out: Path | None = None
    """Folder of the run; by default runs/finetune-NET-FOLDER-seedS."""
    train: Literal["head", "last", "all", "gradual"] = "all"
    """What is trained: the last layer alone (head, in seconds), the last stages too (last), everything (all), or one
    stage after the other (gradual)."""
    stages: int = 1
    """How many stages `--train last` trains."""
    head: Literal["bn-linear", "linear", "drawn"] = "bn-linear"
    """How the new last layer begins: fitted to the embeddings of your images, normalised or as they are; or drawn at
    random."""
    freeze_bn: bool = False
    """Keep the statistics of batch normalisation; takes a tenth of the learning rate."""
    stage_decay: float = 1.0
    """Learning rate of a stage as a share of that of the stage after it: 1 is one rate for all."""
    balanced: bool = False
    """Weight the loss so that each class counts the same, however many images it has."""
    augment: Literal["none", "light", "standard", "strong"] = "standard"
    """How much training images are cropped, mirrored and recoloured."""
    mixup: float = 0.0
    """Mix pairs of training images, by shares drawn from Beta(MIXUP, MIXUP); 0.2 is usual."""
    epochs: float | None = None
    """Passes over the training images; by default as suits their number."""
    lr: float = 0.01
    """Learning rate of the head."""
    batch: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 32
    """Images of one training step."""
    early_stop: int | None = None
    """Stop after so many evaluations (there are 10) without a lower validation error, and take the best weights."""
    validation: float | None = None
    """Share of the training images that is set aside, by which probabilities are corrected and --early-stop chooses;
    by default 0.1, and of fewer than 100 images a class 0. A val/ folder beside a test/ folder is used instead."""
    folds: int | None = None
    """Cross-validate: train so many times, each time test on another part, and print mean and spread."""
    seed: int = 0
    """Random seed: order of the images, augmentation, cross-validation."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """bf16 needs hardware for it; by default it is used where there is some."""
    size: int | None = None
    """Pixels of a side that the network sees; by default what the weights were trained with."""
    net: NetOfWeights = None
    which: WhichWeights = None
    labels: Path | None = None
    """List of the classes of images that lie flat, a line each; by default val.txt and the like beside them."""
    oriented: Oriented = None
    resume: Path | None = None
    """Go on with the fine-tuning in this folder."""
    look: bool = False
    """Only look at the images, say what would be trained, and write nothing."""
    device: Device = None
    threads: Threads = None
    workers: Workers = None
    """Processes that decode images beside the training; by default all cores but one."""
    open: Open = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [] if self.weights is None else [self.weights]}
