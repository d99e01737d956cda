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
        help="Runtime for an exported artefact; by default (auto) the fastest here of those that passed the checks at "
        "export.",
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
    Parameter(name=["--net", "--model"], help="The network, if the weights' names and shapes do not identify it."),
]
WhichWeights = Annotated[
    Literal["ema", "raw"] | None,
    Parameter(
        name="--which",
        help="If a file holds both, use the average over training (ema, the default) or the weights of the last step "
        "(raw).",
    ),
]
Outputs = Annotated[
    Path | None, Parameter(help="Text file with the class name of each output, one per line, if the weights have none.")
]
Mean = Annotated[
    tuple[float, ...],
    Parameter(
        consume_multiple=True,
        help="Mean per channel that pixels (0 to 1) were normalised with in training, if not stored with the weights.",
    ),
]
Std = Annotated[
    tuple[float, ...],
    Parameter(consume_multiple=True, help="Standard deviation per channel that they were normalised with."),
]
WhichSplit = Annotated[
    Split,
    Parameter(
        help="Which images to use; all uses every one. If a folder has no test/ or val/, a fifth is held out for "
        "testing.",
    ),
]
Settings = Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)]
BatchOr = Annotated[int | None, Parameter(name=["--batch-size", "-b"])]
Batch = Annotated[int, Parameter(name=["--batch-size", "-b"], help="Images per batch.")]
Device = Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, ...; by default the GPU if there is one.")]
Threads = Annotated[int | None, Parameter(help="CPU threads; by default all cores.")]
Workers = Annotated[int | None, Parameter(name=["--workers", "-j"])]
Oriented = Annotated[
    bool | None,
    Parameter(
        name="--orient",
        negative="--no-orient",
        help="Rotate photographs upright by their EXIF orientation; on by default, except for ImageNet's own archives "
        "and tar shards.",
    ),
]
OrientedAsWeights = Annotated[
    bool | None,
    Parameter(
        name="--orient",
        negative="--no-orient",
        help="Rotate photographs upright by their EXIF orientation; on unless the weights were trained without it.",
    ),
]
AnsweringPrecision = Annotated[
    Literal["auto", "bf16", "fp32"], Parameter(help="Precision; bf16 is faster where the hardware supports it.")
]
Figure = Annotated[
    tuple[Path, ...], Parameter(consume_multiple=True, help="Also write the figure to these files: .pdf, .svg or .png.")
]
Open = Annotated[bool, Parameter(help="Open the page in the browser.")]
Force = Annotated[bool, Parameter(help="Overwrite existing files.")]
Json = Annotated[bool, Parameter(help="Print JSON; errors too, as an object with the key `error`.")]


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
    """Number of images to use, evenly spaced over the split; expensive figures use fewer."""
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
    """Resize the shorter side to this many pixels before cropping."""
    crop: int | None = None
    """Size of the crop in pixels."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """Interpolation for resizing; by default as stored with the weights."""


GIVEN = Given()
"""Nothing but what the weights say."""
