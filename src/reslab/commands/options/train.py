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

    Interrupted? `reslab train --resume runs/resnet20` continues to the same result. Ctrl-C, and SIGTERM as sent by
    schedulers, finish the current iteration and save a checkpoint.

    How long will it take? `reslab train he2015_imagenet --data imagenet --dry-run` measures a few steps.

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
    """Mini-batches to train for; by default the recipe's. The learning-rate schedule scales in proportion."""
    epochs: float | None = None
    """Length of training in epochs, in place of --iterations."""
    batch: BatchOr = None
    """Images per training step, over all devices."""
    seed: int | None = None
    """Random seed: initial weights, order of the images, augmentation; by default 0."""
    holdout: int | None = None
    """Hold out this many training images for validation, to choose the best checkpoint; the test set is then evaluated
    only once, at the end."""
    lr: float | None = None
    """Learning rate; short for --set optimizer.lr=..."""
    wd: float | None = None
    """Weight decay; short for --set optimizer.weight_decay=..."""
    changes: Settings = ()
    """Change fields of the recipe: --set optimizer.nesterov=true data.augment.flip=false"""
    precision: Literal["auto", "bf16", "fp32"] | None = None
    """Precision; by default bf16 where the hardware supports it."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; by default the GPU if there is one."""
    threads: int | None = None
    """CPU threads; by default all cores, divided among the training processes."""
    weights: str | None = None
    """Start from these weights: a file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG,
    hf:ORG/NAME."""
    which: WhichWeights = None
    num_classes: int | None = None
    """Number of classes; weights for another number get a new last layer."""
    resume: Path | None = None
    """Resume the run in this folder, with its own recipe, device and threads."""
    checkpoint_every: int | None = None
    """Iterations between checkpoints; by default every two minutes and at each evaluation."""
    deterministic: bool | None = None
    """Use only deterministic CUDA kernels, so that runs repeat bit for bit."""
    checkpoint_activations: bool | None = None
    """Save memory by activation checkpointing: much less memory for very deep networks, about a third more time, the
    same result within rounding."""
    memory_budget: str | None = None
    """Memory limit of a training step (4GB, 500MB): recomputes as few activations as needed. Exact on CPUs, approximate
    on GPUs."""
    accumulate: int | None = None
    """Split each batch into this many parts and accumulate gradients, to save memory; the batch size stays the same."""
    sync_bn: bool | None = None
    """Synchronise batch normalisation across ranks, if the recipe normalises over more images than one rank has."""
    fused: Annotated[bool | None, Parameter(negative="--no-fused")] = None
    """On CPUs, fuse batch normalisation, addition and ReLU into one kernel; on by default if a compiler is found."""
    compile: Annotated[bool | None, Parameter(negative="--no-compile")] = None
    """Use torch.compile in place of Reslab's kernels; compiling takes a minute or more."""
    workers: Workers = None
    """Processes that decode photographs during training; by default one fewer than there are cores."""
    size: int | None = None
    """Image size in pixels: crop size for photographs (by default 224), or the size that a folder of small images is
    resized to."""
    labels: Path | None = None
    """File with the class of each validation photograph, one per line, if they are not in class folders; by default
    val.txt or similar next to them."""
    oriented: Oriented = None
    damaged: float | None = None
    """Fraction of photographs that may be damaged before a run stops; by default 0.01. Damaged ones are skipped,
    counted and listed. 0 allows none; any other value allows at least one."""
    dry_run: bool = False
    """Check everything, time a few steps, estimate how long training would take, and write nothing."""
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
