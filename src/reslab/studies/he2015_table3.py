"""Shortcut options A, B, C and none: He et al. 2015, Table 3.

reslab study shortcuts --data cifar10 --budget 60
"""

from reslab.errors import InputError
from reslab.studies.design import (
    COURSE,
    HALF_OF_34,
    Arm,
    Below,
    Claim,
    Depths,
    Extent,
    Study,
    Test,
    Within,
    published_gap,
    twins,
)

MARGIN = 2.0
"""Points of test error within which the options count as little different; the plain network is 3.5 worse there."""
PLACE = "He et al. 2015, Table 3"
OPTIONS = {"A": "zero padding", "B": "projections where the shape changes", "C": "projections everywhere"}


def one_depth(depths: Depths) -> None:
    """Raises `InputError` for several."""
    if len(set(depths)) != 1:
        raise InputError(f"the study compares networks of one depth such as --depths 20, got {list(depths)}")


def _label(option: str) -> str:
    return f"{option}, {OPTIONS[option]}"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    (depth,) = depths
    plain, residual = twins(depth)  # by the names that other studies have for them, whose runs are taken over
    nets = {"A": residual} | {option: f"cifar_resnet(depth={depth}, shortcut='{option}')" for option in "BC"}
    group = f"shortcuts of {depth} layers"
    return (Arm("none", plain, group), *(Arm(_label(option), net, group) for option, net in nets.items()))


def _published(better: str, worse: str) -> float:
    rows = {"none": "plain34"} | {option: f"resnet34_{option}" for option in OPTIONS}
    return published_gap("he2015", "table3", rows[better], rows[worse], "top1_error")


def _better(_: Depths) -> tuple[Test, ...]:
    return tuple(Below(_label(option), "none", published=_published(option, "none")) for option in OPTIONS)


def _alike(_: Depths) -> tuple[Test, ...]:
    return (Within(_label("B"), _label("A"), MARGIN), Within(_label("C"), _label("B"), MARGIN))


def _order(_: Depths) -> tuple[Test, ...]:
    return tuple(Below(_label(b), _label(a), published=_published(b, a)) for a, b in ("AB", "BC"))


STUDY = Study(
    name="shortcuts",
    title="Shortcut options",
    question="Which shortcut does a residual network need where the shape changes, and does it matter?",
    paper="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Table 3",
    scales=((20,), (32,), (56,)),
    on="ImageNet",
    usual=(20,),
    arms=_arms,
    claims=(
        Claim(
            "he2015-options-better",
            PLACE,
            "All three options are better than the plain network.",
            _better,
            extent=Extent(HALF_OF_34, COURSE),
        ),
        Claim(
            "he2015-options-alike",
            PLACE,
            "The options differ little among each other: projections are not essential.",
            _alike,
            extent=Extent(HALF_OF_34),
        ),
        Claim(
            "he2015-options-order",
            PLACE,
            "B is slightly better than A, and C marginally than B.",
            _order,
            decides=False,
            extent=Extent(HALF_OF_34),
        ),
    ),
    precision="fp32",
    caveats=("The paper compares them on ImageNet, in networks of 34 layers; CIFAR networks are thinner.",),
    check=one_depth,
)
