"""``reslab train``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import (
    BatchOr,
    Command,
    Json,
    Net,
    Oriented,
    Settings,
    WhichWeights,
    Workers,
    positional,
)


@positional
@dataclass(frozen=True)
class Options(Command):
    """Train a network by a paper's recipe.

    The paper's ResNet-20 on CIFAR-10: `reslab train he2015_cifar --net resnet20 --data cifar10 --out runs/resnet20`

    Stopped, or killed? `reslab train --resume runs/resnet20` ends where it would have ended. Ctrl-C, and SIGTERM as
    schedulers send it, let the iteration end and leave a checkpoint.

    How long would it take? `reslab train he2015_imagenet --data imagenet --dry-run` measures a few steps.

    Several GPUs or machines: `torchrun --nproc-per-node 8 -m reslab train ...` trains the same.
    """

    runs: ClassVar = "reslab.commands.train:run"

    recipe: str | None = None
    """he2015_cifar (the paper's), fast_he2015_cifar, fast_cifar or fast_cifar94 (minutes on a CPU); for photographs
    he2015_imagenet, gross2016_imagenet or modern_imagenet."""
    _: KW_ONLY
    net: Net = None
    """resnet20, plain56, "cifar_resnet(depth=38, shortcut='B')"; `reslab nets` lists them."""
    data: str | None = None
    """digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder. For photographs: a folder with
    train/ and val/, shards (tar, Parquet), or ImageNet's own archives."""
    out: Path | None = None
    """Folder of the run; by default runs/RECIPE-NET-DATA-seedS."""
    iterations: int | None = None
    """Mini-batches to train for; by default the recipe's. The steps of the learning rate move in proportion."""
    epochs: float | None = None
    """The same, in passes over the training set."""
    batch: BatchOr = None
    """Images of one training step, over all devices."""
    seed: int | None = None
    """Random seed: initial weights, order of the images, augmentation; by default 0."""
    holdout: int | None = None
    """Hold out so many training images for validation, which choose the weights; the test set is then read once, at
    the end."""
    lr: float | None = None
    """Learning rate; short for --set optimizer.lr=..."""
    wd: float | None = None
    """Weight decay; short for --set optimizer.weight_decay=..."""
    changes: Settings = ()
    """Change fields of the recipe: --set optimizer.nesterov=true data.augment.flip=false"""
    precision: Literal["auto", "bf16", "fp32"] | None = None
    """bf16 needs hardware for it; by default it is used where there is some."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; by default CUDA where there is one."""
    threads: int | None = None
    """CPU threads; by default all cores, shared out where several processes train."""
    weights: str | None = None
    """Start from these weights: a file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG,
    hf:ORG/NAME."""
    which: WhichWeights = None
    num_classes: int | None = None
    """Classes of the network; weights of another number get a new head."""
    resume: Path | None = None
    """Resume the run in this folder, by its own recipe, and on its device and threads."""
    checkpoint_every: int | None = None
    """Iterations between checkpoints; by default at each evaluation and every two minutes."""
    deterministic: bool | None = None
    """Use only CUDA kernels that repeat bit for bit."""
    checkpoint_activations: bool | None = None
    """Save memory by activation checkpointing: much less for very deep networks, for about a third more time and the
    same result within rounding."""
    memory_budget: str | None = None
    """Memory that a step may take (4GB, 500MB): as few activations as needed are recomputed. Exact for CPUs; on GPUs
    a guide."""
    accumulate: int | None = None
    """Accumulate gradients over so many parts of a batch, to save memory; the recipe's batch stays what it is."""
    sync_bn: bool | None = None
    """Synchronise batch normalisation across ranks, where a recipe normalises over more images than one rank has."""
    fused: Annotated[bool | None, Parameter(negative="--no-fused")] = None
    """On CPUs, compute batch normalisation, addition and ReLU in one kernel; by default where a compiler is found."""
    compile: Annotated[bool | None, Parameter(negative="--no-compile")] = None
    """Compile forward and backward by torch.compile, in place of Reslab's kernels; compiling takes a minute or more."""
    workers: Workers = None
    """Processes that decode photographs beside the training; by default all cores but one."""
    size: int | None = None
    """Pixels of an image's side: of the crops of photographs (by default 224), or what a folder of small images is
    resized to."""
    labels: Path | None = None
    """File that gives the class of each validation photograph, one a line, where they lie flat; by default val.txt and
    the like beside them."""
    oriented: Oriented = None
    damaged: float | None = None
    """Share of the photographs that may be damaged before a run stops; by default 0.01. They are left out, counted and
    named; 0 allows none, any other share one at least."""
    dry_run: bool = False
    """Check everything, measure a few steps, say what the training would take, and write nothing."""
    json: Json = False
    checkpointed: Annotated[tuple[int, ...] | None, Parameter(parse=False)] = None
    """not given but kept with the run that goes on: blocks that keep no activations"""
    memory_bytes: Annotated[int | None, Parameter(parse=False)] = None
    """likewise: the memory budget"""

    @property
    def settings(self) -> tuple[str, ...]:
        """All changes of the recipe's fields, those that have an option of their own included."""
        short = {"optimizer.lr": self.lr, "optimizer.weight_decay": self.wd}
        return (
            *self.changes,
            *(f"{field}={value!r}" for field, value in short.items() if value is not None),
            *([f"precision={self.precision}"] if self.precision is not None else []),
        )

    @property
    def precision_given(self) -> bool:
        """Whether the user chose it."""
        return any(text.partition("=")[0].strip() == "precision" for text in self.settings)

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        if self.resume is not None:
            return {}
        weights = [self.weights] if self.weights else []
        return {"recipe": self.recipe, "net": self.net, "data": self.data, "weights": weights}
