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
    """Analyse a network, or compare several: what its blocks do, and what happens when they are removed.

    `reslab probe runs/resnet20 runs/plain20 --data cifar10 --all --out xray.html`

    Interrupted? Repeat the command to continue; finished figures are not measured again.
    """

    runs: ClassVar = "reslab.commands.probe:run"

    weights: tuple[str, ...] = ()
    """Weights of 1 to 4 networks, each a file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG or
    hf:ORG/NAME."""
    _: KW_ONLY
    every: Annotated[bool, Parameter(name="--all")] = False
    """Measure every figure that applies to the networks."""
    responses: bool = False
    """Measure the standard deviation of each layer's responses, and the signal on the shortcuts."""
    shares: bool = False
    """Measure the size of each residual branch relative to its shortcut."""
    lesions: bool = False
    """Measure the error with one block removed, several removed, or blocks reordered, and the effective depth."""
    paths: bool = False
    """Measure how much of the gradient flows through paths of each length."""
    gradients: bool = False
    """Measure gradients by depth: as trained, and at initialisation with and without batch normalisation and
    shortcuts."""
    downsampling: bool = False
    """Show which positions strided blocks never read."""
    perturbations: bool = False
    """Measure how small perturbations grow from layer to layer, and the effect of shifting the image."""
    gates: bool = False
    """Measure how open the gates of a Highway network are."""
    attribution: bool = False
    """Show which image regions support the predicted class (class activation maps, Grad-CAM)."""
    shattering: bool = False
    """Measure the correlation of gradients at neighbouring inputs, in untrained networks; ignores the weights."""
    identity: bool = False
    """Measure how well untrained stacks of layers learn the identity; ignores the weights."""
    out: Path | None = None
    """HTML page to write, such as xray.html; the measurements are saved as JSON in a folder next to it. Name a folder
    instead to save the measurements alone."""
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
