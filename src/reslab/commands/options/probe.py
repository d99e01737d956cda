"""``reslab probe``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import Command, Device, Force, Json, Looking, Open, Threads, positional

GROUPS = (
    "responses", "shares", "lesions", "paths", "gradients", "downsampling", "perturbations", "gates", "attribution",
    "shattering", "identity",
)  # fmt: skip
"""Options that name figures, in the order in which a command line gives them again."""


@positional
@dataclass(frozen=True)
class Options(Command):
    """Look inside a network, or compare several: what its blocks do, and what happens without them.

    `reslab probe runs/resnet20 runs/plain20 --data cifar10 --all --out xray.html`

    Stopped, or killed? The same command goes on where it was; figures that are there are not measured again.
    """

    runs: ClassVar = "reslab.commands.probe:run"

    weights: tuple[str, ...] = ()
    """Weights of 1 to 4 networks, each a file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG or
    hf:ORG/NAME."""
    _: KW_ONLY
    every: Annotated[bool, Parameter(name="--all")] = False
    """Measure all figures that the networks have."""
    responses: bool = False
    """Measure how strong the layers' responses are, and what the shortcuts carry."""
    shares: bool = False
    """Measure how much each block adds to its shortcut."""
    lesions: bool = False
    """Measure the error without one block, without many, in another order, and the effective depth."""
    paths: bool = False
    """Measure how much gradient comes through paths of which length."""
    gradients: bool = False
    """Measure gradients by depth, now and at initialisation with and without batch normalisation and shortcuts."""
    downsampling: bool = False
    """Show which positions blocks with a stride never read."""
    perturbations: bool = False
    """Measure how small changes grow from layer to layer, and what shifting the image does."""
    gates: bool = False
    """Measure how far a Highway network's gates are open."""
    attribution: bool = False
    """Show which parts of some images speak for the predicted class."""
    shattering: bool = False
    """Measure how alike gradients at neighbouring inputs are, in fresh networks; the weights play no part."""
    identity: bool = False
    """Measure how well fresh stacks of layers learn the identity; the weights play no part."""
    out: Path | None = None
    """The page, such as xray.html, with the figures as JSON in a folder beside it; or that folder."""
    figures: Path | None = None
    """Also write each figure as a picture into this folder, for a paper or a slide."""
    format: Literal["png", "svg", "pdf"] = "png"
    """File format of --figures."""
    looking: Annotated[Looking, Parameter(name="*")]
    device: Device = None
    threads: Threads = None
    force: Force = False
    open: Open = False
    json: Json = False

    @property
    def groups(self) -> tuple[str, ...]:
        """The figures that were asked for by name."""
        return tuple(name for name in GROUPS if getattr(self, name))

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.looking.net, "data": self.looking.data, "weights": self.weights}
