"""What commands share: how an option is declared, and those that several take."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from cyclopts import Parameter

DATA = "digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder."
WEIGHTS = "A file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG or hf:ORG/NAME."
WEIGHTS_OR_ARTEFACT = f"{WEIGHTS[:-1]}; or what reslab export wrote."

Split = Literal["test", "train", "all"]
OneCropOrMore = Literal["one-crop", "ten-crop", "multi-scale"]

AnyRuntime = Literal["auto", "openvino", "onnxruntime", "torch"]
Runtime = Annotated[
    AnyRuntime | None,
    Parameter(
        name="--runtime",
        help="What computes an exported artefact; by default the quickest here of those that passed when it was "
        "written (auto).",
    ),
]
Several = Parameter(consume_multiple=True)
"""Of an option that takes several words: ``--depths 20 56``."""

Data = Annotated[str, Parameter(help=DATA)]
Weights = Annotated[str, Parameter(help=WEIGHTS)]
WeightsOrArtefact = Annotated[str, Parameter(help=WEIGHTS_OR_ARTEFACT)]
Net = Annotated[str | None, Parameter(name=["--net", "--model"])]
NetOfWeights = Annotated[
    str | None,
    Parameter(name=["--net", "--model"], help="The network, where names and shapes of the weights do not tell."),
]
WhichWeights = Annotated[
    Literal["ema", "raw"] | None,
    Parameter(
        name="--which",
        help="Take the average over the training (ema) or the weights of the last step (raw), where a file holds both; "
        "by default the average.",
    ),
]
Outputs = Annotated[
    Path | None, Parameter(help="Text file that names the class of each output, one a line, if the weights do not.")
]
Mean = Annotated[
    tuple[float, ...],
    Parameter(
        consume_multiple=True,
        help="Mean that pixels (0 to 1) were normalised with in training, per channel, if the weights do not say.",
    ),
]
Std = Annotated[
    tuple[float, ...],
    Parameter(consume_multiple=True, help="Standard deviation that they were normalised with, per channel."),
]
WhichSplit = Annotated[
    Split,
    Parameter(
        help="Which images. Of a folder without test/ or val/, a fifth is held out as test; all takes every image."
    ),
]
Settings = Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)]
BatchOr = Annotated[int | None, Parameter(name=["--batch-size", "-b"])]
Batch = Annotated[int, Parameter(name=["--batch-size", "-b"], help="Images computed at a time.")]
Device = Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, ...; by default CUDA where there is one.")]
Threads = Annotated[int | None, Parameter(help="CPU threads; by default all cores.")]
Workers = Annotated[int | None, Parameter(name=["--workers", "-j"])]
Oriented = Annotated[
    bool | None,
    Parameter(
        name="--orient",
        negative="--no-orient",
        help="Turn photographs upright as their camera notes (EXIF); by default done, but for ImageNet's own archives "
        "and tar shards.",
    ),
]
Figure = Annotated[
    tuple[Path, ...], Parameter(consume_multiple=True, help="Also write the figure to these files: .pdf, .svg or .png.")
]
Open = Annotated[bool, Parameter(help="Open the page in the browser.")]
Force = Annotated[bool, Parameter(help="Overwrite files that exist.")]
Json = Annotated[bool, Parameter(help="Print JSON; a failure too is one object, with the key `error`.")]


Cls = TypeVar("Cls", bound=type)


def positional(cls: Cls) -> Cls:
    """A dataclass whose fields before ``KW_ONLY`` are arguments without a name of their own on the command line."""
    signature = inspect.signature(cls)
    places = [
        each.replace(kind=each.POSITIONAL_ONLY) if each.kind is each.POSITIONAL_OR_KEYWORD else each
        for each in signature.parameters.values()
    ]
    cls.__signature__ = signature.replace(parameters=places)  # type: ignore[attr-defined]
    return cls


class Command:
    """A command with its options; `reslab.cli.main` makes one from the command line and has it carried out."""

    runs: ClassVar[str]
    """``module:function`` that carries it out; takes the options, returns the path of a page if one was written"""

    def names(self) -> dict[str, Any]:
        """What can be told to be misspelt before torch is there, as `reslab.commands.names.check` takes it."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Looking:
    """Weights and images as the commands take them that look into a network."""

    data: Data
    images: int = 2000
    """How many images to look at, evenly spaced over the split; costly figures take fewer."""
    split: WhichSplit = "test"
    net: NetOfWeights = None
    which: WhichWeights = None
    outputs: Outputs = None
    mean: Mean = ()
    std: Std = ()
    batch: Batch = 100
    precision: Literal["bf16", "fp32"] = "fp32"
    """Precision of the forward passes."""

    def words(self) -> list[str]:
        """The options that say the same again; those that are as usual are left out."""
        found: list[str] = []
        for name, value, usual in (
            ("net", self.net, None), ("which", self.which, None), ("split", self.split, "test"),
            ("outputs", self.outputs, None),
            ("batch-size", self.batch, 100), ("precision", self.precision, "fp32"),
        ):  # fmt: skip
            found += [] if value == usual else [f"--{name}", str(value)]
        for name, values in (("mean", self.mean), ("std", self.std)):
            found += [f"--{name}", *map(str, values)] if values else []
        return found


@dataclass(frozen=True)
class Given:
    """Preprocessing as the options say it; None and nothing is what the weights say."""

    mean: Mean = ()
    std: Std = ()
    resize: int | None = None
    """Pixels that the shorter side is resized to before the crop."""
    crop: int | None = None
    """Pixels of the centre crop's side, or of each of ten crops."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """Interpolation of the resizing; by default what the weights say."""


GIVEN = Given()
"""Nothing but what the weights say."""
