"""Two explanations that the degradation is not: He et al. 2015, section 4.1.

    reslab study controls --data cifar10 --budget 240

Is it only that a deep plain network is trained too briefly? And do its gradients vanish? Popular accounts say that
they do; the paper says that with BN they do not.
"""

from reslab.studies.design import COURSE, HALF_OF_34, Absolute, Arm, Below, Claim, Depths, Extent, Study, Test, twins
from reslab.studies.he2015_figure6 import at_least_two

LONGER = 3.0
"""Times the iterations (He 2015, section 4.1, footnote: "more training iterations (3x)")."""
TENTH = -1.0
"""log10 of the share of the gradient that arrives at the first block, below which it counts as vanishing."""
PLACE = "He et al. 2015, section 4.1"


def _longer(name: str) -> str:
    return f"{name}, {LONGER:g} times as long"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    shallow, (deep, residual) = twins(depths[0])[0], twins(depths[-1])
    return (
        Arm(shallow, shallow, "plain networks"),
        Arm(deep, deep, "plain networks"),
        Arm(_longer(deep), deep, "plain networks", length=LONGER),
        Arm(residual, residual, "residual networks"),
    )


def _still_worse(depths: Depths) -> tuple[Test, ...]:
    shallow, (deep, residual) = twins(depths[0])[0], twins(depths[-1])
    return (Below(shallow, _longer(deep), "train_error"), Below(residual, _longer(deep), "train_error"))


def _healthy(depths: Depths) -> tuple[Test, ...]:
    deep = twins(depths[-1])[0]
    return tuple(Absolute(deep, "above", TENTH, f"log10_gradient_ratio_{when}") for when in ("start", "end"))


def _vanishing(depths: Depths) -> tuple[Test, ...]:
    deep = twins(depths[-1])[0]
    return (Absolute(deep, "below", TENTH, "log10_gradient_ratio_start"),)


STUDY = Study(
    name="controls",
    title="What the degradation is not",
    question="Is a deep plain network just trained for too short a time, or do its gradients vanish?",
    paper="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 4.1",
    scales=((20, 32), (20, 44), (20, 56)),
    on="ImageNet",
    usual=(20, 56),
    arms=_arms,
    claims=(
        Claim(
            "he2015-not-under-training",
            PLACE,
            "Trained three times as long, the deep plain network is still worse than the shallow one and than its "
            "residual twin.",
            _still_worse,
            extent=Extent(HALF_OF_34, COURSE),
        ),
        Claim(
            "he2015-gradients-healthy",
            PLACE,
            "With BN the gradients of the deep plain network do not vanish.",
            _healthy,
            extent=Extent(HALF_OF_34, 0),
        ),
        Claim(
            "folklore-vanishing",
            "popular accounts of the paper",
            "Deep plain networks with BN fail because their gradients vanish.",
            _vanishing,
            decides=False,
            extent=Extent(HALF_OF_34, 0),
        ),
    ),
    precision="fp32",
    measure="gradients",
    how=(
        "Gradients: log10 of the norm of dE/dx at the first block's output over that at the last block's, for 256 "
        "training images, with BN in training mode; -1 means that a tenth of the gradient arrives.",
    ),
    check=at_least_two,
)
