"""A module per table or figure of a paper: question, runs, verdict, published figures, caveats."""

from functools import cache
from importlib import import_module

from reslab.errors import InputError, nearest
from reslab.studies.design import Claim, Study

MODULES = {
    "degradation": "he2015_figure6",
    "convergence": "he2015_figure4",
    "depth": "he2015_table6",
    "shortcuts": "he2015_table3",
    "warm-up": "he2015_warm_up",
    "controls": "he2015_controls",
    "constructed": "he2015_constructed",
    "ensembles": "he2015_table5",
    "identity-shortcuts": "he2016_table1",
    "orderings": "he2016_table2",
    "bottleneck": "he2016_bottleneck",
    "tweaks": "tong_he2018_table5",
    "width-or-depth": "zagoruyko2016_table4",
    "cardinality": "xie2016_table3",
    "highway": "srivastava2015_highway",
}
"""Studies by name, paper by paper, and the modules that define them."""


def find(name: str) -> Study:
    """The study of that name, or an `InputError` with the nearest."""
    if name not in MODULES:
        raise InputError(f"unknown study '{name}'; {nearest(name, MODULES)}")
    return _load(name)


@cache
def _load(name: str) -> Study:
    study: Study = import_module(f"reslab.studies.{MODULES[name]}").STUDY
    assert study.name == name
    return study


def every() -> tuple[Study, ...]:
    """All studies."""
    return tuple(_load(name) for name in MODULES)


def claims() -> tuple[tuple[Study, Claim], ...]:
    """All claims of the papers that a study decides, each with its study."""
    return tuple((study, claim) for study in every() for claim in study.claims)
