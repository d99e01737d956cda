"""The low rate that ResNet-110 starts with: He et al. 2015, section 4.2.

reslab study warm-up --data cifar10 --depths 110 --budget 120
"""

from reslab.studies.design import Arm, Claim, Depths, Extent, Sooner, Study, Within, twins
from reslab.studies.he2015_table3 import one_depth

MARGIN = 2.0
"""Points of test error that count as similar accuracy."""
WITH, WITHOUT = "with warm-up", "without"
PLACE = "He et al. 2015, section 4.2"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    _, net = twins(depths[0])
    on = 'warm_up={"lr": 0.01, "until_error": 80}'
    return (Arm(WITH, net, net, settings=(on,)), Arm(WITHOUT, net, net, settings=("warm_up=null",)))


STUDY = Study(
    name="warm-up",
    title="The low rate at the start",
    question="Does a deep residual network need a low learning rate at first, and what if it has none?",
    paper="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 4.2 and its footnote",
    scales=((20,), (56,), (110,)),
    usual=(110,),
    paper_sizes=(110,),
    least=500,
    enough=1000,
    arms=_arms,
    claims=(
        Claim(
            "he2015-warm-up-start",
            PLACE,
            "At rate 0.1 it starts to converge (90 % error) later than after a warm-up at 0.01.",
            lambda _: (Sooner(WITH, WITHOUT),),
            extent=Extent(depth=110, iterations=0),
        ),
        Claim(
            "he2015-warm-up-end",
            PLACE,
            "Without the warm-up it still reaches similar accuracy.",
            lambda _: (Within(WITHOUT, WITH, MARGIN),),
            extent=Extent(depth=110),
        ),
    ),
    threshold=90.0,
    caveats=("The paper says it of 110 layers.",),
    check=one_depth,
)
