"""Basic blocks or bottlenecks at equal cost: He et al. 2015, section 4.1; He et al. 2016, Table 2.

reslab study bottleneck --data cifar10 --budget 60
"""

from reslab import published
from reslab.studies.design import HALF_OF_110, Arm, Below, Claim, Depths, Extent, Study, Test, twins
from reslab.studies.he2015_table3 import one_depth


def _labels(depths: Depths) -> tuple[str, str]:
    """Basic blocks of two layers, and as many bottlenecks of three: 6n+2 and 9n+2 layers."""
    (depth,) = depths
    return twins(depth)[1], f"bottleneck{9 * ((depth - 2) // 6) + 2}"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    basic, bottleneck = _labels(depths)
    deep = bottleneck.removeprefix("bottleneck")

    def paper(column: str) -> tuple[str, ...]:
        return ("he2016", "table2", "rows", "original", column) if depths == (110,) else ()

    return (
        Arm(basic, basic, "basic or bottleneck", published=paper("test_error")),
        Arm(
            bottleneck,
            f"cifar_bottleneck(depth={deep})",
            "basic or bottleneck",
            published=paper("test_error_resnet164"),
        ),
    )


def _better(metric: str, depths: Depths) -> tuple[Test, ...]:
    basic, bottleneck = _labels(depths)
    paper = published.load("he2016")["table2"]["rows"]["original"]
    return (Below(bottleneck, basic, metric, published=paper["test_error"] - paper["test_error_resnet164"]),)


STUDY = Study(
    name="bottleneck",
    title="Basic blocks or bottlenecks",
    question="With the same number of blocks and about the same cost, is a network of bottlenecks better?",
    paper="He, Zhang, Ren, Sun 2016, arXiv 1603.05027, Table 2 (ResNet-110 and ResNet-164)",
    scales=((20,), (32,), (56,), (110,)),
    paper_sizes=(110,),
    usual=(20,),
    arms=_arms,
    claims=(
        Claim(
            "he2016-bottleneck",
            "He et al. 2016, Table 2",
            "The network of bottlenecks has the lower test error.",
            lambda depths: _better("test_error", depths),
            extent=Extent(HALF_OF_110),
        ),
    ),
    check=one_depth,
)
