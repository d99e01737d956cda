"""Ensembles, of one depth and of several: He et al. 2015, Table 5.

reslab study ensembles --data cifar10 --seeds 6 --budget 240
"""

from reslab.studies.design import ALL_DEPTHS, Arm, Below, Claim, Depths, Extent, Study, Test, twins
from reslab.studies.he2015_figure6 import at_least_two

PLACE = "He et al. 2015, Table 5"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    names = [twins(depth)[1] for depth in depths]
    return tuple(Arm(name, name, "single networks", x=1) for name in names)


def _better(depths: Depths) -> tuple[Test, ...]:
    return tuple(Below(ALL_DEPTHS, twins(depth)[1]) for depth in depths)


STUDY = Study(
    name="ensembles",
    title="Ensembles",
    question="How much better is an ensemble of networks than each of its members?",
    paper="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Table 5",
    scales=((8, 14), (14, 20), (20, 32), (20, 32, 44), (20, 32, 44, 56), (20, 32, 44, 56, 110)),
    usual=(20, 32, 44),
    arms=_arms,
    claims=(
        Claim(
            "he2015-ensemble",
            PLACE,
            "An ensemble of networks of different depth has a lower error than each of its members.",
            _better,
            extent=Extent(iterations=0),
        ),
    ),
    x_label="members",
    measure="test-scores",
    derive="ensembles",
    how=(
        "Ensembles average the softmax scores of their members. Those of several depths use one network of each depth "
        "from the same seed; those of one depth use seeds that no other ensemble of that size has.",
    ),
    caveats=("The paper's ensemble of six is of ImageNet networks, tested at several scales.",),
    check=at_least_two,
)
