"""``reslab bench``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import Command, Device, Force, Json, Threads, Workers, positional


@positional
@dataclass(frozen=True)
class Options(Command):
    """Measure how fast this machine trains, evaluates or feeds a network, and against what others use.

    `reslab bench train --net resnet50 -b 32 --against torchvision`

    Both run by turns, each in a process of its own, so that a machine whose speed drifts slows both; the ratio is the
    median.
    """

    runs: ClassVar = "reslab.commands.bench:run"

    what: Literal["train", "infer", "data"]
    """train: whole training steps, batches made anew. infer: forward passes. data: batches alone."""
    _: KW_ONLY
    net: Annotated[str, Parameter(name=["--net", "--model"])] = "resnet20"
    """Any network of `reslab nets`, timm:NAME, torchvision:NAME."""
    against: Literal["eager", "torchvision", "timm"] | None = None
    """torchvision, timm: the same network of theirs. eager: ours, module by module, by plain PyTorch."""
    peer: Literal["best", "default", "both"] = "both"
    """default: the other side as it comes, in fp32, channels-first, eager. best: the quickest of precision, memory
    format and torch.compile on this machine, found by trying each for a moment. both: take turns with each."""
    compile_limit: float = 300.0
    """Seconds that torch.compile may take for one way of the other side; 0 leaves it out."""
    batch: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 128
    """Images of a step."""
    size: int | None = None
    """Pixels of an image's side; by default the network's own."""
    rounds: int = 10
    """Turns that each side gets."""
    turn: float = 1.0
    """Seconds of a turn."""
    workers: Workers = None
    """Loader processes of the other side's data as it comes; by default one a core."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of Reslab's side; by default bf16 where the hardware has it."""
    device: Device = None
    threads: Threads = None
    compile: bool = False
    """Compile Reslab's side by torch.compile; compiling itself is not timed."""
    out: Path | None = None
    """Also write the figures to this JSON file."""
    force: Force = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net}
