"""``reslab bench``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import (
    WEIGHTS_OR_ARTEFACT,
    Command,
    Device,
    Force,
    Json,
    Net,
    Runtime,
    Threads,
    WhichWeights,
    Workers,
    positional,
)


@positional
@dataclass(frozen=True)
class Options(Command):
    """Measure how fast this machine trains a network, runs it or loads its data, and compare with other libraries.

    `reslab bench train --net resnet50 -b 32 --against torchvision`

    An exported model: `reslab bench infer mine --against torchvision`

    The two sides take turns, each in its own process, so that drifts in the machine's speed affect both alike. The
    ratio shown is the median.
    """

    runs: ClassVar = "reslab.commands.bench:run"

    what: Literal["train", "infer", "data"]
    """train: complete training steps, including data loading. infer: forward passes. data: data loading only."""
    weights: Annotated[str | None, Parameter(help=f"With infer, in place of --net. {WEIGHTS_OR_ARTEFACT}")] = None
    _: KW_ONLY
    net: Net = None
    """Any network of `reslab nets`, timm:NAME, torchvision:NAME; by default resnet20. With weights: their network, if
    their names and shapes do not identify it."""
    which: WhichWeights = None
    runtime: Runtime = None
    against: Literal["eager", "torchvision", "timm"] | None = None
    """Compare with torchvision's or timm's version of the network, or with ours in plain, eager PyTorch (eager)."""
    peer: Literal["best", "default", "both"] = "both"
    """How the other library runs. default: out of the box (fp32, channels-first, eager). best: with the precision,
    memory format and torch.compile setting that are fastest on this machine, found by a short trial of each. both:
    measure against each."""
    compile_limit: float = 300.0
    """Seconds that torch.compile may take for each setting of the other library; 0 skips it."""
    batch: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 128
    """Images per step."""
    size: int | None = None
    """Image size in pixels; by default the network's own."""
    rounds: int = 10
    """Number of turns for each side."""
    turn: float = 1.0
    """Seconds per turn."""
    workers: Workers = None
    """Data-loading processes of the other library when it runs out of the box; by default one per core."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of Reslab's side; by default bf16 where the hardware supports it."""
    device: Device = None
    threads: Threads = None
    compile: bool = False
    """Compile Reslab's side with torch.compile; compile time is not counted."""
    out: Path | None = None
    """Also write the figures to this JSON file."""
    force: Force = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [] if self.weights is None else [self.weights]}
