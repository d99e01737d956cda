"""The degradation problem and its cure: He et al. 2015, Fig. 1 and 6, Table 6.

    reslab study degradation --data cifar10 --depths 20 56 --seeds 3 --iterations 4000 --out runs/degradation

Each depth is trained plain and residual (option A, so that the twins have equal parameters), from the same initial
weights and the same order and augmentation of the images for each seed: the comparison is paired.
"""

from reslab.errors import InputError
from reslab.studies.design import COURSE, EARLY, Arm, Below, Claim, Depths, Extent, Sooner, Study, Test, twins

MARGIN = 2.0
"""Points of training error by which the deeper residual network may exceed the shallower and still count as cured."""
PLACE = "He et al. 2015, Fig. 1 and 6"
HALF = 28
"""Layers, of the 56 of the figures."""


def at_least_two(depths: Depths) -> None:
    """Raises `InputError` for a single depth."""
    if len(set(depths)) < 2:
        raise InputError(f"the study compares at least two depths such as --depths 20 56, got {list(depths)}")


def plain_and_residual(depths: Depths) -> tuple[Arm, ...]:
    """A plain and a residual network of each depth."""
    found = []
    for depth in depths:
        plain, residual = twins(depth)
        found.append(Arm(plain, plain, "plain networks", x=depth))
        paper = ("he2015", "table6", "rows", residual, "test_error")
        found.append(Arm(residual, residual, "residual networks", x=depth, published=paper))
    return tuple(found)


def _degradation(depths: Depths) -> tuple[Test, ...]:
    return (Below(twins(depths[0])[0], twins(depths[-1])[0], "train_error"),)


def _cure(depths: Depths) -> tuple[Test, ...]:
    (_, shallow), (plain, deep) = twins(depths[0]), twins(depths[-1])
    return (Below(deep, shallow, "train_error", MARGIN), Below(deep, plain, "train_error"))


def _beyond(depths: Depths) -> tuple[Test, ...]:
    return (Below(twins(depths[-1])[1], twins(depths[0])[1], "train_error"),)


def _sooner(depths: Depths) -> tuple[Test, ...]:
    plain, residual = twins(depths[-1])
    return (Sooner(residual, plain),)


STUDY = Study(
    name="degradation",
    title="The degradation problem and its cure",
    question="Does a deeper plain network have a higher training error, and do shortcuts reverse this?",
    paper="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Fig. 1 and 6, Table 6",
    scales=((20, 32), (20, 44), (20, 56), (20, 32, 44, 56)),
    paper_sizes=(20, 32, 44, 56),
    usual=(20, 56),
    arms=plain_and_residual,
    claims=(
        Claim(
            "he2015-degradation",
            PLACE,
            "The deeper plain network has the higher training error.",
            _degradation,
            extent=Extent(HALF, COURSE),
        ),
        Claim(
            "he2015-cure",
            PLACE,
            "With shortcuts the deeper network trains as well as the shallower, and better than its plain twin.",
            _cure,
            extent=Extent(HALF),
        ),
        Claim(
            "he2015-beyond-cure",
            PLACE,
            "The deeper residual network has the lower training error of the two.",
            _beyond,
            decides=False,
            extent=Extent(HALF),
        ),
        Claim(
            "he2015-sooner-deep",
            "He et al. 2015, beside section 4.1 (there of 18 layers)",
            "The deep residual network comes under 40 % training error before its plain twin.",
            _sooner,
            decides=False,
            extent=EARLY,
        ),
    ),
    precision="fp32",
    threshold=40.0,
    check=at_least_two,
)
