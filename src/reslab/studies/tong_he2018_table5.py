"""ResNet-B, C and D: Tong He et al. 2018, Fig. 2 and Table 5.

reslab study tweaks --data cifar10 --budget 120
"""

from reslab.studies.design import Arm, Below, Claim, Depths, Study
from reslab.studies.he2015_table3 import one_depth

PLACE = "Tong He et al. 2018, Table 5"
LABELS = ("v1", "B", "C", "D")


def _arms(depths: Depths) -> tuple[Arm, ...]:
    (depth,) = depths
    nets = (f"resnet{depth}-v1", f"resnet{depth}", f"resnet{depth}c", f"resnet{depth}d")
    return tuple(Arm(label, net, f"{depth} layers") for label, net in zip(LABELS, nets, strict=True))


STUDY = Study(
    name="tweaks",
    title="Three small changes of a block",
    question="What do the strided 3x3 (B), the deep stem (C) and the pooled shortcut (D) bring?",
    paper="He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv 1812.01187, Table 5",
    scales=((50,),),
    on="ImageNet",
    in_an_hour=False,
    usual=(50,),
    arms=_arms,
    claims=(
        Claim("tong-he2018-b", PLACE, "B is better than the paper's block.", lambda _: (Below("B", "v1"),)),
        Claim("tong-he2018-c", PLACE, "C is better than B.", lambda _: (Below("C", "B"),)),
        Claim("tong-he2018-d", PLACE, "D is better than C.", lambda _: (Below("D", "C"),)),
        Claim("tong-he2018-all", PLACE, "All of it together is better than none.", lambda _: (Below("D", "v1"),)),
    ),
    caveats=(
        "These are networks for ImageNet. Of small images their stem leaves a quarter of each side, so that the tweaks "
        "are tried where little of the image is left.",
    ),
    check=one_depth,
)
