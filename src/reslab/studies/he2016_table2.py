"""Where BN and ReLU stand: He et al. 2016, Fig. 4, Tables 2 and 3.

reslab study orderings --data cifar10 --budget 120
"""

from collections.abc import Callable

from reslab.studies.design import (
    COURSE,
    HALF_OF_110,
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
from reslab.studies.he2015_table3 import one_depth

MARGIN = 2.0
"""Points of test error within which two orders count as alike; the paper has 0.1."""
PLACE = "He et al. 2016, Table 2"
ORDERS = {
    "original": "original",
    "bn-after-addition": "bn_after_addition",
    "relu-before-addition": "relu_before_addition",
    "relu-only-preactivation": "relu_only_preactivation",
    "full-preactivation": "full_preactivation",
}
"""Each with its row in `published/he2016.toml`."""


VERY_DEEP = (164, 1001)
"""Of Table 3, which compares two orders, in networks of bottlenecks."""


def _very_deep(depth: int) -> tuple[Arm, ...]:
    def paper(column: str) -> tuple[str, ...]:
        return ("he2016", "table3", "rows", f"cifar10_resnet{depth}", column)

    group = f"orders, {depth} layers"
    return (
        Arm("original", f"cifar_bottleneck(depth={depth})", group, published=paper("original")),
        Arm("full-preactivation", f"preresnet{depth}", group, published=paper("preactivation")),
    )


def _arms(depths: Depths) -> tuple[Arm, ...]:
    (depth,) = depths
    if depth in VERY_DEEP:
        return _very_deep(depth)

    def paper(row: str) -> tuple[str, ...]:
        return ("he2016", "table2", "rows", row, "test_error") if depth == 110 else ()

    nets = {order: f"cifar_resnet(depth={depth}, order='{order}')" for order in ORDERS}
    nets["original"] = twins(depth)[1]
    return tuple(
        Arm(order, nets[order], f"orders, {depth} layers", published=paper(row)) for order, row in ORDERS.items()
    )


def _below(a: str, b: str) -> Callable[[Depths], tuple[Test, ...]]:
    def tests(depths: Depths) -> tuple[Test, ...]:
        if not {a, b} <= {arm.label for arm in _arms(depths)}:
            return ()
        return (Below(a, b, published=published_gap("he2016", "table2", ORDERS[a], ORDERS[b])),)

    return tests


STUDY = Study(
    name="orderings",
    title="Where BN and ReLU stand",
    question="Which order of BN, ReLU and addition trains best?",
    paper="He, Zhang, Ren, Sun 2016, arXiv 1603.05027, Fig. 4, Tables 2 and 3",
    scales=((20,), (32,), (56,), (110,)),
    paper_sizes=(110,),
    usual=(20,),
    arms=_arms,
    claims=(
        Claim(
            "he2016-order-bn-after",
            PLACE,
            "BN after the addition is worse than the original order.",
            _below("original", "bn-after-addition"),
            extent=Extent(HALF_OF_110, COURSE),
        ),
        Claim(
            "he2016-order-relu-before",
            PLACE,
            "ReLU before the addition is worse than the original order.",
            _below("original", "relu-before-addition"),
            extent=Extent(HALF_OF_110, COURSE),
        ),
        Claim(
            "he2016-order-relu-only",
            PLACE,
            "Pre-activation by ReLU alone does about as well as the original order.",
            lambda depths: (
                (Within("relu-only-preactivation", "original", MARGIN),) if depths[0] not in VERY_DEEP else ()
            ),
            extent=Extent(HALF_OF_110),
        ),
        Claim(
            "he2016-order-full",
            PLACE,
            "Full pre-activation is better than the original order.",
            _below("full-preactivation", "original"),
            extent=Extent(HALF_OF_110),
        ),
    ),
    caveats=("The paper's differences are at 110 and 164 layers; at 1001 the gain of pre-activation is greatest.",),
    check=one_depth,
)
