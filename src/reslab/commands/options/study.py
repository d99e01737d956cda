"""``reslab study`` and ``reslab demo``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Parameter

from reslab.commands.options.common import (
    BatchOr,
    Command,
    Data,
    Device,
    Figure,
    Json,
    Open,
    Settings,
    Several,
    positional,
)


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """See the degradation problem and its cure on scanned digits, in about two minutes.

    Trains plain and residual networks of 20 and 56 layers and compares them.
    """

    runs: ClassVar = "reslab.commands.study:demo"

    out: Path = Path("runs/demo")
    """Folder of the runs and the report."""
    open: Open = False
    json: Json = False


@positional
@dataclass(frozen=True)
class Options(Command):
    """Test a claim of the papers: train, judge by a rule fixed in advance, report.

    How much can an hour decide? `reslab study shortcuts --data cifar10 --budget 60` chooses depth, length and seeds.

    Interrupted? Repeat the command to continue. Finished runs are not repeated, and runs of neighbouring studies are
    reused.
    """

    runs: ClassVar = "reslab.commands.studies:run"

    name: str | None = None
    """Name of the study; without it, lists all studies."""
    _: KW_ONLY
    data: Data = "digits"
    depths: Annotated[tuple[int, ...], Several] = ()
    """Depths of the networks; the shallowest and the deepest are compared."""
    seeds: int | None = None
    """Number of random seeds, each shared by all networks; by default 3. Verdicts are given at 3, 5, 8 and 12."""
    iterations: int | None = None
    """Mini-batches per run; by default the paper's 64,000, and 500 on digits."""
    budget: float | None = None
    """Time limit in minutes for everything; settings not given are chosen to fit, after timing a step on this
    machine."""
    batch: BatchOr = None
    """Images per training step; by default the paper's 128, and 64 on digits."""
    settings: Settings = ()
    """Change fields of the recipe: --set optimizer.lr=0.05"""
    dry_run: bool = False
    """Print what would be run (with --budget, how long it would take) and write nothing."""
    queue: bool = False
    """Work through all studies at low priority until --budget is used up, starting with those that decide the most
    claims per hour; repeat the command to continue. With --dry-run, print the order."""
    power: bool = False
    """Print the smallest effect that this many seeds can detect, from the spread of existing results; train nothing."""
    out: Path | None = None
    """Folder of the runs and the report; by default runs/STUDY-DATA."""
    jobs: Annotated[int, Parameter(name=["--jobs", "-j"])] = 1
    """Parallel runs, each in its own process; they share the CPU threads."""
    at_a_time: int = 1
    """Parallel runs in one process, for a GPU that a single run leaves mostly idle; results are the same as those of
    separate runs."""
    deterministic: bool = False
    """Use only deterministic CUDA kernels, so that runs repeat bit for bit."""
    on: str | None = None
    """Run on a Ray cluster: ray, or ray://HOST:PORT. Lost runs resume from their checkpoints."""
    store: str | None = None
    """With --on: storage that all machines share (s3://...), if --out is not a shared folder."""
    cpus: int = 1
    """With --on: CPUs per run."""
    device: Device = None
    figure: Figure = ()
    force: Annotated[bool, Parameter(help="Overwrite the files of --figure.")] = False
    open: Open = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {} if self.name is None else {"study": self.name, "data": self.data}
