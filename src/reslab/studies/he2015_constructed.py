"""Training on from the constructed solution: He et al. 2015, section 1.

    reslab study constructed --data cifar10 --budget 120

"There exists a solution by construction to the deeper model: the added layers are identity mapping, and the other
layers are copied from the learned shallower model." Solvers do not find it from random weights. Do they keep it, if
they are started there?
"""

from reslab.studies.design import COURSE, EARLY, Arm, Below, Claim, Depths, Extent, Study, Test, twins
from reslab.studies.he2015_figure6 import at_least_two

MARGIN = 1.0
"""Points of training error that the deepened network may lose against the shallow one, trained on for as long."""
PLACE = "He et al. 2015, section 1 (the argument; the experiment is ours)"


def _labels(depths: Depths, residual: bool) -> tuple[str, str, str]:
    shallow, deep = (twins(depth)[residual] for depth in (depths[0], depths[-1]))
    return shallow, f"{shallow}, trained on", f"{deep}, constructed"


def _twice(name: str) -> str:
    """As long as the shallow network and what was made of it together."""
    return f"{name}, twice as long"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    found = []
    for residual, group in ((False, "plain networks"), (True, "residual networks")):
        shallow, again, constructed = _labels(depths, residual)
        deep = twins(depths[-1])[residual]
        found += [
            Arm(shallow, shallow, group),
            Arm(_twice(deep), deep, group, length=2.0),
            Arm(again, shallow, group, start=shallow),
            Arm(constructed, deep, group, start=shallow),
        ]
    return tuple(found)


def _kept(residual: bool, depths: Depths) -> tuple[Test, ...]:
    _, again, constructed = _labels(depths, residual)
    return (Below(constructed, again, "train_error", MARGIN),)


def _not_found(depths: Depths) -> tuple[Test, ...]:
    return (Below(_labels(depths, False)[2], _twice(twins(depths[-1])[0]), "train_error"),)


STUDY = Study(
    name="constructed",
    title="The solution by construction",
    question="Started from a deeper network that computes what the shallow one does, does training keep that?",
    paper="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 1",
    scales=((20, 32), (20, 44), (20, 56)),
    usual=(20, 56),
    arms=_arms,
    claims=(
        Claim(
            "he2015-solver",
            "He et al. 2015, section 1",
            "From random weights training does not find a solution as good as the constructed one (plain networks).",
            _not_found,
            extent=Extent(32, COURSE),
        ),
        Claim(
            "constructed-plain",
            PLACE,
            "Started from it, training keeps it in a plain network.",
            lambda depths: _kept(False, depths),
            decides=False,
            extent=EARLY,
        ),
        Claim(
            "constructed-residual",
            PLACE,
            "Started from it, training keeps it in a residual network.",
            lambda depths: _kept(True, depths),
            decides=False,
            extent=EARLY,
        ),
    ),
    precision="fp32",
    how=(
        "Networks that are trained on start from the result of the shallow network of the same seed, and repeat the "
        "whole schedule: the learning rate starts at its maximum again.",
    ),
    caveats=(
        "The deep network from random weights has twice the iterations in one learning-rate schedule; networks that "
        "are trained on go through the schedule twice.",
    ),
    check=at_least_two,
)
