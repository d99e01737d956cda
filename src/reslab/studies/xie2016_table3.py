"""Cardinality: Xie et al. 2016, Table 3.

reslab study cardinality --data cifar10 --budget 180
"""

from reslab.studies.design import COURSE, Arm, Below, Claim, Depths, Extent, Study, Test, published_gap
from reslab.studies.he2015_table3 import one_depth

PLACE = "Xie et al. 2016, Table 3"
SETTINGS = ((1, 64), (2, 40), (4, 24), (8, 14), (32, 4))
"""Groups and width of each, of about equal complexity (Xie 2016, Table 2)."""


HALF = Extent(25, COURSE)
"""Of the 50 layers of the figure."""


def _label(groups: int, width: int) -> str:
    return f"{groups}x{width}d"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    (depth,) = depths
    return tuple(
        Arm(
            _label(groups, width),
            f"cifar_resnext(depth={depth}, cardinality={groups}, base_width={width})",
            f"{depth} layers",
            x=groups,
        )
        for groups, width in SETTINGS
    )


def _most(metric: str) -> tuple[Test, ...]:
    gap = published_gap("xie2016", "table3", "resnext50-32x4d", "resnet50", "top1_error")
    published = gap if metric == "test_error" else 0.0
    return (Below(_label(*SETTINGS[-1]), _label(*SETTINGS[0]), metric, published=published),)


STUDY = Study(
    name="cardinality",
    title="Cardinality",
    question="At equal complexity, do more groups make a network more accurate?",
    paper="Xie, Girshick, Dollar, Tu, He 2016, arXiv 1611.05431, Table 3",
    scales=((11,), (20,), (29,)),
    on="ImageNet",
    in_an_hour=False,
    usual=(11,),
    arms=_arms,
    claims=(
        Claim(
            "xie2016-test",
            PLACE,
            "At equal complexity 32 groups have a lower test error than one.",
            lambda _: _most("test_error"),
            extent=HALF,
        ),
        Claim(
            "xie2016-train",
            "Xie et al. 2016, Fig. 5",
            "They have a lower training error too: it is not regularisation.",
            lambda _: _most("train_error"),
            decides=False,
            extent=HALF,
        ),
    ),
    x_label="groups",
    caveats=("The paper compares them on ImageNet, in networks of 50 and 101 layers.",),
    check=one_depth,
)
