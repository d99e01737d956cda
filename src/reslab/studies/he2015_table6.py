"""Accuracy from depth: He et al. 2015, Table 6 and Fig. 6 (middle and right).

reslab study depth --data cifar10 --budget 240
"""

from itertools import pairwise

from reslab.studies.design import Arm, Below, Claim, Depths, Study, Test, twins
from reslab.studies.he2015_figure6 import at_least_two


def residual(depths: Depths) -> tuple[Arm, ...]:
    """A residual network of each depth."""
    names = [(depth, twins(depth)[1]) for depth in depths]
    return tuple(
        Arm(name, name, "residual networks", x=depth, published=("he2015", "table6", "rows", name, "test_error"))
        for depth, name in names
    )


def _gain(metric: str, depths: Depths) -> tuple[Test, ...]:
    return (Below(twins(depths[-1])[1], twins(depths[0])[1], metric),)


def _each(depths: Depths) -> tuple[Test, ...]:
    return tuple(Below(twins(deep)[1], twins(shallow)[1]) for shallow, deep in pairwise(depths))


STUDY = Study(
    name="depth",
    title="Accuracy from depth",
    question="Does a residual network become more accurate as it grows deeper?",
    paper="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Table 6",
    scales=((8, 14), (14, 20), (20, 32), (20, 32, 44), (20, 32, 44, 56), (20, 32, 44, 56, 110)),
    usual=(20, 32, 44, 56),
    arms=residual,
    claims=(
        Claim(
            "he2015-depth-test",
            "He et al. 2015, Table 6",
            "The deepest residual network has a lower test error than the shallowest.",
            lambda depths: _gain("test_error", depths),
        ),
        Claim(
            "he2015-depth-train",
            "He et al. 2015, Fig. 6 (middle)",
            "The deepest residual network has a lower training error than the shallowest.",
            lambda depths: _gain("train_error", depths),
        ),
        Claim(
            "he2015-depth-each",
            "He et al. 2015, Table 6",
            "Each deeper residual network has a lower test error than the one before.",
            _each,
            decides=False,
        ),
    ),
    x_label="depth",
    caveats=(
        "The paper's ResNet-1202, whose training error is as low as ResNet-110's and whose test error is higher, is "
        "left out unless asked for: --depths 110 1202.",
    ),
    check=at_least_two,
)
