"""Accuracy from depth: He et al. 2015, Table 6 and Fig. 6 (middle and right).

reslab study depth --data cifar10 --budget 240
"""

from itertools import pairwise

from reslab import published
from reslab.studies.design import (
    ITERATIONS,
    Absolute,
    Arm,
    Below,
    Change,
    Claim,
    Depths,
    Extent,
    Study,
    Test,
    published_gap,
    twins,
)
from reslab.studies.he2015_figure6 import at_least_two

FROM_20_TO_32 = Extent(depth=32)
"""Where the paper's table begins."""
AS_THERE = Extent(1202, ITERATIONS)
"""Of a network of which the paper has one training, to its end."""
ABOUT_DEPTHS = (
    Change(
        "2026-11-27",
        "the table's depths are part of the claim: shallower networks no longer decide it. Changed after 8 against 14 "
        "layers had been seen on CIFAR-10, which were “held” before and are “not decided” since.",
    ),
)
HUGE = "resnet1202"


def residual(depths: Depths) -> tuple[Arm, ...]:
    """A residual network of each depth."""
    names = [(depth, twins(depth)[1]) for depth in depths]
    return tuple(
        Arm(name, name, "residual networks", x=depth, published=("he2015", "table6", "rows", name, "test_error"))
        for depth, name in names
    )


def _to_110(depths: Depths) -> Depths:
    """Leaves out the network of 1202 layers, about which the paper claims something else."""
    return tuple(depth for depth in depths if depth <= 110)


def _published(better: str, worse: str) -> float:
    """The published errors of networks in the paper's table; None for others."""
    rows = published.load("he2015")["table6"]["rows"]
    return published_gap("he2015", "table6", better, worse) if {better, worse} <= rows.keys() else 0.0


def _gain(metric: str, depths: Depths) -> tuple[Test, ...]:
    usual = _to_110(depths)
    deep, shallow = twins(usual[-1])[1], twins(usual[0])[1]
    return (Below(deep, shallow, metric, published=_published(deep, shallow) if metric == "test_error" else 0.0),)


def _each(depths: Depths) -> tuple[Test, ...]:
    usual = _to_110(depths)  # of two depths it is the claim before
    return (
        tuple(
            Below(deep, shallow, published=_published(deep, shallow))
            for shallow, deep in pairwise(twins(depth)[1] for depth in usual)
        )
        if len(usual) > 2
        else ()
    )


STUDY = Study(
    name="depth",
    title="Accuracy from depth",
    question="Does a residual network become more accurate as it grows deeper?",
    paper="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Table 6",
    scales=((8, 14), (8, 14, 20), (20, 32), (20, 32, 44), (20, 32, 44, 56), (20, 32, 44, 56, 110)),
    usual=(20, 32, 44, 56),
    paper_sizes=(20, 32, 44, 56, 110),
    arms=residual,
    claims=(
        Claim(
            "he2015-depth-test",
            "He et al. 2015, Table 6",
            "The deepest residual network has a lower test error than the shallowest.",
            lambda depths: _gain("test_error", depths),
            extent=FROM_20_TO_32,
            changes=ABOUT_DEPTHS,
        ),
        Claim(
            "he2015-depth-train",
            "He et al. 2015, Fig. 6 (middle)",
            "The deepest residual network has a lower training error than the shallowest.",
            lambda depths: _gain("train_error", depths),
            extent=FROM_20_TO_32,
            changes=ABOUT_DEPTHS,
        ),
        Claim(
            "he2015-depth-each",
            "He et al. 2015, Table 6",
            "Each deeper residual network has a lower test error than the one before.",
            _each,
            decides=False,
            extent=FROM_20_TO_32,
            changes=ABOUT_DEPTHS,
        ),
        Claim(
            "he2015-1202-train",
            "He et al. 2015, section 4.2",
            "A network of 1202 layers is trained without difficulty: to a training error below 0.1 %.",
            lambda depths: (Absolute(HUGE, "below", 0.1, "train_error"),) if 1202 in depths else (),
            decides=False,
            extent=AS_THERE,
            asked_of=(20, 110, 1202),
        ),
        Claim(
            "he2015-1202-test",
            "He et al. 2015, Table 6",
            "The network of 1202 layers has a higher test error than that of 110.",
            lambda depths: (
                (Below(twins(110)[1], HUGE, published=_published(twins(110)[1], HUGE)),)
                if {110, 1202} <= set(depths)
                else ()
            ),
            decides=False,
            extent=AS_THERE,
            asked_of=(20, 110, 1202),
        ),
    ),
    x_label="depth",
    caveats=("The paper's ResNet-1202 is left out unless asked for: --depths 20 110 1202.",),
    check=lambda depths: at_least_two(_to_110(depths)),
)
