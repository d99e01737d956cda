"""Width or depth: Zagoruyko and Komodakis 2016, Tables 4 and 5.

reslab study width-or-depth --data cifar10 --depths 10 28 --budget 60
"""

import math

from reslab.errors import InputError
from reslab.studies.design import EARLY, Arm, Below, Claim, Depths, Study, Test

MARGIN = 0.5
"""Points of test error by which the wide network may be worse and still count as no worse."""


def factor(shallow: int, deep: int) -> int:
    """How many times as wide the shallow network is, for as many parameters: the root of the ratio of the blocks."""
    blocks = [(depth - 4) / 6 for depth in (shallow, deep)]
    return round(math.sqrt(blocks[1] / blocks[0]))


def _check(depths: Depths) -> None:
    if len(depths) != 2:
        raise InputError(f"the study compares a wide and a thin network, such as --depths 10 28, got {list(depths)}")
    blocks = [divmod(depth - 4, 6) for depth in depths]
    if any(rest or count < 1 for count, rest in blocks):
        raise InputError(f"wide residual networks have depth 6n+4: 10, 16, 22, 28, ..., got {list(depths)}")
    if factor(*depths) ** 2 * blocks[0][0] != blocks[1][0]:
        raise InputError(
            f"at depths {depths[0]} and {depths[1]} no whole factor of width gives as many parameters; "
            "--depths 10 28, 10 58, 16 52 and 28 100 do"
        )


def _labels(depths: Depths) -> tuple[str, str]:
    return f"wrn{depths[0]}-{factor(*depths)}", f"wrn{depths[1]}-1"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    wide, thin = _labels(depths)
    return (
        Arm(wide, f"cifar_wide(depth={depths[0]}, factor={factor(*depths)})", "width or depth"),
        Arm(thin, f"cifar_wide(depth={depths[1]}, factor=1)", "width or depth"),
    )


def _no_worse(depths: Depths) -> tuple[Test, ...]:
    wide, thin = _labels(depths)
    return (Below(wide, thin, bound=MARGIN),)


def _faster(depths: Depths) -> tuple[Test, ...]:
    wide, thin = _labels(depths)
    return (Below(thin, wide, "log2_images_per_second"),)


STUDY = Study(
    name="width-or-depth",
    title="Width or depth",
    question="With as many parameters, is a wide shallow network as good as a thin deep one, and faster to train?",
    paper="Zagoruyko, Komodakis 2016, arXiv 1605.07146, Tables 4 and 5",
    scales=((10, 28), (10, 58), (16, 52), (28, 100)),
    usual=(10, 28),
    arms=_arms,
    claims=(
        Claim(
            "zagoruyko2016-as-good",
            "Zagoruyko, Komodakis 2016, Table 5",
            "With as many parameters the wide network is no worse than the thin deep one.",
            _no_worse,
        ),
        Claim(
            "zagoruyko2016-faster",
            "Zagoruyko, Komodakis 2016, Fig. 4",
            "The wide network trains more images a second.",
            _faster,
            extent=EARLY,
        ),
    ),
    measure="speed",
    how=("log2 images per second: measured over the training steps, on the machine named below.",),
    caveats=("Trained by the recipe of He 2015, without dropout; the paper uses Nesterov momentum and trains longer.",),
    check=_check,
)
