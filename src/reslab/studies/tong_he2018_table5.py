"""ResNet-B, C and D: Tong He et al. 2018, Fig. 2 and Table 5.

reslab study tweaks --data cifar10 --budget 120
"""

from reslab.studies.design import Arm, Below, Claim, Depths, Extent, Study, published_gap
from reslab.studies.he2015_table3 import one_depth

PLACE = "Tong He et al. 2018, Table 5"
ROWS = {"v1": "resnet50-v1", "B": "resnet50", "C": "resnet50c", "D": "resnet50d"}
"""Of the table."""
LABELS = tuple(ROWS)
HALF = Extent(25)


def _arms(depths: Depths) -> tuple[Arm, ...]:
    (depth,) = depths
    nets = (f"resnet{depth}-v1", f"resnet{depth}", f"resnet{depth}c", f"resnet{depth}d")
    return tuple(Arm(label, net, f"{depth} layers") for label, net in zip(LABELS, nets, strict=True))


def _below(a: str, b: str) -> Below:
    return Below(a, b, published=published_gap("tong_he2018", "table5", ROWS[a], ROWS[b], "top1_error"))


STUDY = Study(
    name="tweaks",
    title="Three small changes of a block",
    question="How much do the strided 3x3 (B), the deep stem (C) and the pooled shortcut (D) improve accuracy?",
    paper="He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv 1812.01187, Table 5",
    scales=((50,),),
    on="ImageNet",
    in_an_hour=False,
    usual=(50,),
    arms=_arms,
    claims=(
        Claim(
            "tong-he2018-b", PLACE, "B is better than the paper's block.", lambda _: (_below("B", "v1"),), extent=HALF
        ),
        Claim("tong-he2018-c", PLACE, "C is better than B.", lambda _: (_below("C", "B"),), extent=HALF),
        Claim("tong-he2018-d", PLACE, "D is better than C.", lambda _: (_below("D", "C"),), extent=HALF),
        Claim(
            "tong-he2018-all",
            PLACE,
            "All of it together is better than none.",
            lambda _: (_below("D", "v1"),),
            extent=HALF,
        ),
    ),
    caveats=(
        "These are networks for ImageNet. Their stem reduces small images to a quarter of each side, so that the "
        "tweaks act on very small feature maps.",
    ),
    check=one_depth,
)
