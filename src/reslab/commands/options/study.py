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

    Trains plain and residual networks of 20 and 56 layers side by side, and says what came of it.
    """

    runs: ClassVar = "reslab.commands.study:demo"

    out: Path = Path("runs/demo")
    """Folder of the runs and the report."""
    open: Open = False
    json: Json = False


@positional
@dataclass(frozen=True)
class Options(Command):
    """Test a claim of the papers: run, judge by a rule fixed beforehand, report.

    How much can an hour decide? `reslab study shortcuts --data cifar10 --budget 60` chooses depth, length and seeds.

    Stopped, or killed? The same command goes on where it was; finished runs are not run again, nor are those that a
    study beside this one has made.
    """

    runs: ClassVar = "reslab.commands.studies:run"

    name: str | None = None
    """Name of the study; without it, all are listed."""
    _: KW_ONLY
    data: Data = "digits"
    depths: Annotated[tuple[int, ...], Several] = ()
    """Depths of the networks; the least and the greatest of several are judged."""
    seeds: int | None = None
    """Number of random seeds, each shared by all networks; by default 3. The rule looks at 3, 5, 8 and 12."""
    iterations: int | None = None
    """Mini-batches per run; by default the paper's 64,000, and 500 on digits."""
    budget: float | None = None
    """Minutes for everything; whatever is not given is chosen by it, after measuring what a step takes here."""
    batch: BatchOr = None
    """Images of one training step; by default the paper's 128, and 64 on digits."""
    settings: Settings = ()
    """Change fields of the recipe: --set optimizer.lr=0.05"""
    dry_run: bool = False
    """Say what would be run, with --budget how long it would take, and write nothing."""
    queue: bool = False
    """Work through all studies at low priority, what decides most claims an hour first, until --budget is over; the
    same command goes on. With --dry-run it prints the order."""
    power: bool = False
    """Say what effects this many seeds can show, by the spread of the results at hand, and train nothing."""
    out: Path | None = None
    """Folder of the runs and the report; by default runs/STUDY-DATA."""
    jobs: Annotated[int, Parameter(name=["--jobs", "-j"])] = 1
    """Runs at a time; they share the CPU's threads."""
    at_a_time: int = 1
    """Runs at a time in one process, on a GPU that one leaves mostly idle; each is the same as by itself."""
    deterministic: bool = False
    """Use only CUDA kernels that repeat bit for bit."""
    on: str | None = None
    """Run on a Ray cluster: ray, or ray://HOST:PORT. Lost runs resume from their checkpoints."""
    store: str | None = None
    """With --on: an address that all machines share (s3://...), if --out is no shared folder."""
    cpus: int = 1
    """With --on: CPUs that a run takes."""
    device: Device = None
    figure: Figure = ()
    force: Annotated[bool, Parameter(help="Overwrite the files of --figure.")] = False
    open: Open = False
    json: Json = False

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {} if self.name is None else {"study": self.name, "data": self.data}
