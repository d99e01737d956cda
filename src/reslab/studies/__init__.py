"""A module per table or figure of a paper: question, runs, verdict, published figures, caveats."""

from dataclasses import dataclass

from reslab.errors import InputError, nearest


@dataclass(frozen=True)
class Entry:
    """A study as `reslab study` lists it."""

    name: str
    question: str
    paper: str
    cost: str


STUDIES: dict[str, Entry] = {
    "degradation": Entry(
        "degradation",
        "Does a deeper plain network have the higher training error, and do shortcuts turn that round?",
        "He et al. 2015, Fig. 1 and 6, Table 6",
        "digits: 2 minutes on 2 cores; CIFAR-10, depths 20 and 56, 3 seeds, 4,000 iterations: 2.5 hours",
    ),
}


def find(name: str) -> Entry:
    """The study of that name, or an `InputError` with the nearest."""
    if name not in STUDIES:
        raise InputError(f"unknown study '{name}'; {nearest(name, STUDIES)}")
    return STUDIES[name]
