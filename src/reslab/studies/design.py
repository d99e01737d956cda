"""A study as data: which question, which trainings, which claims of which paper, and what decides them.

Importable without torch, so that `reslab study` and `reslab claims` list everything at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Depths = tuple[int, ...]
"""What a study is made larger or smaller by: the depths of its networks, shallowest first."""

GENERAL_RULE = (
    "Differences are taken seed by seed, between runs with the same order and augmentation of the images. Training "
    "error is that of the augmented mini-batches, averaged over the last 10% of the iterations; test error that of the "
    "last iterate. Comparisons are looked at when 3, 5, 8 and 12 seeds are there, each time by one-sided t-tests at "
    "1 %: one of the differences being on the claim's side of the bound, one of their being on the other "
    "side of it or, where the paper has a figure, of being less than half of that. What comes first is compared by the "
    "logarithm of the iterations, a run that never does counting its last. A claim is held if all of its comparisons "
    "are, not held if one of them is not (at 5 % for all together), and otherwise not decided. On the papers' data, "
    "what is trained more briefly or is less deep than a claim asks for decides nothing, either way. What is found on "
    "other data is of these images alone."
)
ITERATIONS = 64_000
"""Of the trainings of He 2015 and 2016 on CIFAR-10."""
TAIL = 0.1
"""Share of the iterations, at the end, that the final training error is averaged over: of `GENERAL_RULE`."""


@dataclass(frozen=True)
class Arm:
    """A row of a study: a network, and in what its training differs from the recipe."""

    label: str
    """name of the row; its runs are called LABEL-seedS"""
    net: str
    """in the form that `reslab.nets.catalog.resolve` takes"""
    group: str
    """part of the figure and of the table"""
    settings: tuple[str, ...] = ()
    """changes of the recipe: ``warm_up=null``"""
    length: float = 1.0
    """times the study's iterations"""
    start: str | None = None
    """the arm whose result, deepened without a change of its function, is what this one starts from"""
    x: float | None = None
    """place on the figure's axis"""
    published: tuple[str, ...] = ()
    """path of the paper's test error in `reslab.published`: paper, table, "rows", row, column"""

    @property
    def folder(self) -> str:
        """The label as a name of files."""
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in self.label).strip("-")


# --- what decides a claim ----------------------------------------------------------------------------------------

Metric = str
"""train_error, test_error (per cent), or the name of something that the study measures."""


@dataclass(frozen=True)
class Below:
    """a - b is below a bound, in units of the metric."""

    a: str
    b: str
    metric: Metric = "test_error"
    bound: float = 0.0
    published: float = 0.0
    """by how much in the paper, where it has figures: less than half of that speaks against the claim"""


@dataclass(frozen=True)
class Within:
    """a and b differ by less than a margin, either way."""

    a: str
    b: str
    margin: float
    metric: Metric = "test_error"


@dataclass(frozen=True)
class Absolute:
    """A metric of one arm is above, or below, a number."""

    a: str
    side: Literal["above", "below"]
    bound: float
    metric: Metric = "test_error"


@dataclass(frozen=True)
class Sooner:
    """a comes under the study's threshold of training error in fewer iterations than b."""

    a: str
    b: str


Test = Below | Within | Absolute | Sooner


COURSE, END = 2_000, 16_000
"""Iterations from which on something is said of the course of a training, and of where it ends: see `Extent`."""


@dataclass(frozen=True)
class Extent:
    """The depth and length from which a claim can be decided, for it and against it alike.

    Half the depth that the paper says it of. What is said of the beginning of a training, of speed, or of ensembles is
    decided at any length; what training finds, and differences of a point of error or more between networks of one
    depth, from `COURSE` on; networks of different depth at the end of their training, and differences of less than a
    point, from `END` on: a deeper network learns more slowly at first, and small differences drown in what short
    training leaves.
    """

    depth: int = 0
    """layers of the deepest network, at least"""
    iterations: int = END
    """of the training, at least"""


EARLY = Extent(iterations=0)
"""Of a claim about the beginning of a training, or about speed."""
HALF_OF_110 = 55
"""He 2016 has networks of 110 layers."""
HALF_OF_34 = 17
"""He 2015 has them on ImageNet."""


def of_papers_data(name: str, images: int) -> bool:
    """Whether a data set of so many training images is the one that the papers speak of: the whole of CIFAR-10."""
    return name == "cifar10" and images == 50_000


@dataclass(frozen=True)
class Change:
    """A change of a rule after it was written down: when, what, and what was known of the runs by then."""

    date: str
    what: str

    def __str__(self) -> str:
        return f"{self.date}: {self.what}"


FIXED = "2026-11-22"
"""When the rules of the studies were written down, but where a claim says otherwise."""
GENERAL_CHANGES = (
    Change(
        "2026-11-22",
        "less than the paper's depth and length no longer speaks against a claim; what comes first is compared by "
        "logarithms; the comparisons of a claim share their 5 %. Changed after the degradation runs on the digits and "
        "on CIFAR-10 had been seen: the cure on CIFAR-10 was “not held” before and is “not decided” since.",
    ),
    Change(
        "2026-11-27",
        "seeds are looked at when there are 3, 5, 8 and 12, at 1 % each; too short or too shallow decides "
        "neither way, and how short and how shallow is said anew, claim by claim; against a claim counts what is less "
        "than half the published difference; over the ledger the false-discovery rate is 5 %, and results on digits "
        "no longer count there. Changed when CIFAR-10 had been seen for degradation, convergence, shortcuts and depth, "
        "before all other runs on it.",
    ),
)
"""Of `GENERAL_RULE`."""


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, and what decides it here. The key is the ledger's."""

    key: str
    place: str
    """paper and place: "He et al. 2015, Fig. 6" """
    text: str
    tests: Callable[[Depths], tuple[Test, ...]]
    """none where it says nothing of networks of these depths"""
    decides: bool = True
    """whether the verdict of the whole study rests on it"""
    extent: Extent = Extent()
    asked_of: Depths = ()
    """depths to ask for, where the study leaves them out by itself"""
    changes: tuple[Change, ...] = ()
    """of its rule, after it was written down"""


@dataclass(frozen=True)
class Study:
    """All of a study but the data it is run on and how long."""

    name: str
    title: str
    question: str
    paper: str
    scales: tuple[Depths, ...]
    """sizes to choose from, cheapest first"""
    usual: Depths
    """if neither size nor budget is given"""
    arms: Callable[[Depths], tuple[Arm, ...]]
    claims: tuple[Claim, ...]
    precision: Literal["auto", "fp32"] = "auto"
    least: int = 200
    """iterations below which there is nothing to see"""
    enough: int = 2000
    """iterations that a budget has to allow before deeper networks are chosen"""
    threshold: float | None = None
    """training error in per cent whose first crossing is noted"""
    x_label: str | None = None
    measure: str | None = None
    """what is measured of each trained network beside its errors: a name in `reslab.studies.measures`"""
    derive: str | None = None
    """what is made of all runs together: a name in `reslab.studies.derived`"""
    how: tuple[str, ...] = ()
    """how it was measured, beside what is said of every study"""
    caveats: tuple[str, ...] = ()
    on: Literal["CIFAR-10", "ImageNet"] = "CIFAR-10"
    """the paper's data"""
    in_an_hour: bool = True
    """whether two cores can say anything of it in an hour"""
    paper_sizes: Depths = ()
    """the paper's depths, where it has them on CIFAR-10"""
    check: Callable[[Depths], None] = lambda depths: None
    """raises `InputError` for depths that cannot be compared"""


FAILS = 20.0
"""Test error in per cent from which He 2016 calls a training failed and gives no figure."""


def published_gap(paper: str, table: str, better: str, worse: str, column: str = "test_error") -> float:
    """The difference in points between two rows of a paper's table."""
    from reslab import published

    rows = published.load(paper)[table]["rows"]
    return float(rows[worse].get(column, FAILS)) - float(rows[better].get(column, FAILS))


def twins(depth: int) -> tuple[str, str]:
    """Names of the plain and the residual CIFAR network of a depth (He 2015, section 4.2)."""
    from reslab.nets.catalog import CATALOG

    def named(short: str, maker: str) -> str:
        return short if short in CATALOG else f"{maker}(depth={depth})"

    return named(f"plain{depth}", "cifar_plain"), named(f"resnet{depth}", "cifar_resnet")


ALL_DEPTHS = "one of each depth"
"""The row of ensembles of one network of each depth (`reslab.studies.derived.ensembles`)."""


def same_depth(label: str, count: int) -> str:
    """The row of ensembles of so many networks of one depth, trained from different seeds."""
    return f"{count} of {label}"
