"""Gates and depth: Srivastava et al. 2015; He et al. 2015, section 2 and Table 6.

reslab study highway --data cifar10 --budget 120
"""

from reslab.errors import InputError
from reslab.studies.design import Arm, Below, Claim, Depths, Extent, Study, Test
from reslab.studies.he2015_figure6 import at_least_two

WIDTHS = (18, 45, 72)
"""Of the stages: those of the thin network of 32 layers, so that depths can be compared."""
MARGIN = 1.0
"""Points of test error by which the deeper network may be better, and still count as no gain."""
HALF_OF_50 = 25
"""The figure has 10, 20, 50 and 100 layers; at 10 and 20 the gates bring little."""
SLOW = ("optimizer.lr=0.01",)
"""Networks without BN do not bear the rate of those with it."""


def gated(depth: int) -> tuple[int, int, int]:
    """Gated layers of each stage, more in the later ones where they do not divide."""
    count, rest = divmod(depth - 5, 3)
    return count, count + (rest == 2), count + (rest >= 1)


def _check(depths: Depths) -> None:
    at_least_two(depths)
    if min(depths) < 8:
        raise InputError(f"Highway networks of this study have 8 layers or more, got {list(depths)}")


def _labels(depth: int) -> tuple[str, str]:
    return f"highway{depth}", f"plain{depth} without BN"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    found = []
    for depth in depths:
        gates, none = _labels(depth)
        net = f"cifar_highway(widths={WIDTHS}, gated={gated(depth)}"
        found.append(Arm(gates, f"{net})", "Highway networks", settings=SLOW, x=depth))
        found.append(Arm(none, f"{net}, gates=False)", "without gates", settings=SLOW, x=depth))
    return tuple(found)


def _trains(depths: Depths) -> tuple[Test, ...]:
    return (Below(*_labels(depths[-1]), "train_error"),)


def _no_gain(depths: Depths) -> tuple[Test, ...]:
    return (Below(_labels(depths[0])[0], _labels(depths[-1])[0], bound=MARGIN),)


STUDY = Study(
    name="highway",
    title="Gates and depth",
    question="Do gates let deep networks train, and do Highway networks gain from depth?",
    paper="Srivastava, Greff, Schmidhuber 2015, arXiv 1507.06228; He et al. 2015, section 2",
    scales=((11, 20), (19, 32), (19, 59)),
    usual=(19, 32),
    arms=_arms,
    claims=(
        Claim(
            "srivastava2015-trains",
            "Srivastava et al. 2015, Fig. 1",
            "The deep network with gates trains better than the same layers without.",
            _trains,
            extent=Extent(HALF_OF_50, 0),
        ),
        Claim(
            "he2015-highway-no-gain",
            "He et al. 2015, section 2",
            "Highway networks gain no accuracy from more than 100 layers.",
            _no_gain,
            extent=Extent(depth=100),
        ),
    ),
    precision="fp32",
    x_label="depth",
    caveats=("Without BN, as in the paper; one learning rate for all, while the paper searched for rates and biases.",),
    check=_check,
)
