"""What stands in the shortcut's place: He et al. 2016, Table 1.

reslab study identity-shortcuts --data cifar10 --budget 120
"""

from reslab.studies.design import (
    COURSE,
    END,
    HALF_OF_110,
    Arm,
    Below,
    Claim,
    Depths,
    Extent,
    Study,
    Test,
    published_gap,
    twins,
)
from reslab.studies.he2015_table3 import one_depth

PLACE = "He et al. 2016, Table 1"
SKIPS = {
    "constant-scaling": ("constant scaling by 0.5", "constant_scaling_shortcut_05_residual_05"),
    "exclusive-gating": ("an exclusive gate (bias -6)", "exclusive_gating_bias_minus6"),
    "shortcut-only-gating": ("a gate on the shortcut alone (bias -6)", "shortcut_only_gating_bias_minus6"),
    "conv1x1": ("a 1x1 convolution", "conv1x1_shortcut"),
    "dropout": ("dropout of 0.5", "dropout_shortcut"),
}
"""Each with words for people, and the row of `published/he2016.toml`."""
WHOLE_TABLE = {
    "no shortcut (0, 1)": ("skip='constant-scaling', scales=(0.0, 1.0)", "constant_scaling_shortcut_0_residual_1"),
    "constant-scaling (0.5, 1)": (
        "skip='constant-scaling', scales=(0.5, 1.0)", "constant_scaling_shortcut_05_residual_1",
    ),
    "exclusive-gating (bias 0)": ("skip='exclusive-gating', gate_bias=0.0", "exclusive_gating_bias_0_to_minus5"),
    "exclusive-gating (bias -7)": ("skip='exclusive-gating', gate_bias=-7.0", "exclusive_gating_bias_minus7"),
    "shortcut-only-gating (bias 0)": ("skip='shortcut-only-gating', gate_bias=0.0", "shortcut_only_gating_bias_0"),
}  # fmt: skip
"""The other rows of the table, which are trained where its own networks are: of 110 layers."""
LIKE_THE_IDENTITY = ("shortcut-only-gating", "conv1x1")
"""Whose solutions include those of the identity."""


def _net(depth: int, skip: str) -> str:
    return f"cifar_resnet(depth={depth}, skip='{skip}')"


def _arms(depths: Depths) -> tuple[Arm, ...]:
    (depth,) = depths
    group = f"shortcuts of {depth} layers"

    def paper(row: str) -> tuple[str, ...]:
        return ("he2016", "table1", "rows", row, "test_error") if depth == 110 else ()

    found = [Arm("identity", twins(depth)[1], group, published=paper("original"))]
    found += [Arm(skip, _net(depth, skip), group, published=paper(row)) for skip, (_, row) in SKIPS.items()]
    if depth >= 110:
        found += [
            Arm(label, f"cifar_resnet(depth={depth}, {settings})", group, published=paper(row))
            for label, (settings, row) in WHOLE_TABLE.items()
        ]
    return tuple(found)


def _published(skip: str) -> float:
    return published_gap("he2016", "table1", "original", SKIPS[skip][1])


def _claim(skip: str, words: str) -> Claim:
    text = f"The identity has a lower test error than {words} in its place."
    extent = Extent(HALF_OF_110, COURSE if _published(skip) >= 1 else END)
    return Claim(
        f"he2016-identity-{skip}", PLACE, text, lambda _: (Below("identity", skip, published=_published(skip)),),
        extent=extent,
    )  # fmt: skip


def _optimisation(_: Depths) -> tuple[Test, ...]:
    return tuple(Below("identity", skip, "train_error") for skip in LIKE_THE_IDENTITY)


STUDY = Study(
    name="identity-shortcuts",
    title="What stands in the shortcut's place",
    question="Is the identity the best shortcut, or do scaling, gates, convolutions and dropout do as well?",
    paper="He, Zhang, Ren, Sun 2016, arXiv 1603.05027, Table 1",
    scales=((20,), (32,), (56,), (110,)),
    paper_sizes=(110,),
    usual=(20,),
    arms=_arms,
    claims=(
        *(_claim(skip, words) for skip, (words, _) in SKIPS.items()),
        Claim(
            "he2016-identity-optimisation",
            "He et al. 2016, section 3.2",
            "A gate on the shortcut and a 1x1 convolution, which include the identity, have the higher training error "
            "too: it is optimisation that they hamper.",
            _optimisation,
            decides=False,
            extent=Extent(HALF_OF_110),
        ),
    ),
    caveats=(
        "The paper compares them in networks of 110 layers, where a signal passes through 54 shortcuts; the effect "
        "grows with their number.",
    ),
    check=one_depth,
)
