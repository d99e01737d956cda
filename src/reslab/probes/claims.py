"""Claims of papers about the inside of networks, each with the rule that decides it from measured figures.

Importable without torch: figures come as the plain values that `reslab.probes.xray` keeps. The rules are in `rules`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from reslab.probes.rules import (
    Decision,
    Measured,
    Values,
    chain_breaks,
    gates_shut,
    identity,
    laws,
    no_vanishing,
    of_papers_data,
    one_lesion,
    preserved,
    reordering,
    shatter,
    short_paths,
    sign,
    smaller_than_plain,
    smaller_when_deeper,
    smooth,
    three_quarters,
    undiminished,
)

VEIT = "Veit et al. 2016"


@dataclass(frozen=True)
class ProbeClaim:
    """A sentence of a paper, and what decides it: a rule fixed before anything was looked at."""

    key: str
    place: str
    text: str
    figure: str
    decide: Callable[[Measured], Decision]
    of: Callable[[Values], bool] = lambda about: True
    """which networks it is about"""
    asked_of: int = 0
    """layers of the paper's network: fewer can bear it out, and not speak against it"""


@dataclass(frozen=True)
class PairClaim:
    """A claim about two networks compared with each other."""

    key: str
    place: str
    text: str
    figure: str
    decide: Callable[[Measured, Measured], Decision]
    of: Callable[[Values, Values], bool]
    """which pairs it is about, the first and the second"""
    asked_of: int = 0


def decided(claim: ProbeClaim | PairClaim, *measured: Measured) -> Decision:
    """Applies a claim's rule; "not decided" if a figure is not a number, as after divergence.

    Nothing counts against a paper that is less than what the paper says it of: fewer layers, or easier images.
    """
    try:
        verdict, said = claim.decide(*measured)
    except (TypeError, ValueError, ArithmeticError):
        names = " and ".join(each.network for each in measured)
        return "not decided", f"{names}: not every figure that the rule needs is a number"
    if verdict != "not held":
        return verdict, said
    if not all(of_papers_data(each) for each in measured):
        return (
            "not decided",
            f"{said}; it does not hold, but images as easy as {measured[0].about['data']} cannot count against a paper",
        )
    fewest = min((int(each.about.get("depth") or 0) for each in measured), default=0)
    if fewest < claim.asked_of:
        return (
            "not decided",
            f"{said}; it does not hold, but {fewest} layers cannot count against the paper's {claim.asked_of}",
        )
    return verdict, said


def _residual(about: Values) -> bool:
    return bool(about.get("residual"))


def _chain(about: Values) -> bool:
    return about.get("residual") is False


def _preactivated(about: Values) -> bool:
    same = about.get("same_shape") == ["identity"]
    return about.get("order") == "full-preactivation" and same and _residual(about)


def _signed(about: Values) -> bool:
    """Original with the ReLU that keeps the signal from going below zero, or full pre-activation."""
    original = about.get("order") == "original" and about.get("activation") == "relu"
    return _residual(about) and (original or about.get("order") == "full-preactivation")


def _comparable(a: Values, b: Values) -> bool:
    """Whether data, number of images and order of the layers are the same."""
    return all(a.get(name) == b.get(name) for name in ("data", "images", "order", "activation", "branch"))


def _widths(about: Values) -> list[int]:
    return [width for _, width in about.get("layers") or ()]


def _twins(a: Values, b: Values) -> bool:
    return _residual(a) and _chain(b) and _comparable(a, b) and a.get("layers") == b.get("layers")


def _deeper(a: Values, b: Values) -> bool:
    both = _residual(a) and _residual(b) and _comparable(a, b) and _widths(a) == _widths(b)
    return both and (a.get("depth") or 0) > (b.get("depth") or 0)


CLAIMS: tuple[ProbeClaim | PairClaim, ...] = (
    PairClaim(
        "he2015-responses-plain", "He et al. 2015, Fig. 7",
        "Residual networks have generally smaller responses than their plain twins.", "responses",
        smaller_than_plain, _twins,
    ),
    PairClaim(
        "he2015-responses-deeper", "He et al. 2015, Fig. 7", "Deeper residual networks have smaller responses.",
        "responses", smaller_when_deeper, _deeper,
    ),
    ProbeClaim(
        "he2015-gradients-start", "He et al. 2015, section 4.1",
        "With BN the gradients of plain networks do not vanish at initialisation.", "initial", no_vanishing,
    ),
    ProbeClaim(
        "he2015-identity-hard", "He et al. 2015, section 3.1",
        "Stacks of layers find it harder to fit an identity than residual ones.", "identity", identity,
    ),
    ProbeClaim(
        "he2016-sign", "He et al. 2016, section 4.1",
        "With ReLU behind the addition the signal is never negative; with pre-activation it has both signs.", "signal",
        sign, _signed,
    ),
    ProbeClaim(
        "he2016-undiminished", "He et al. 2016, eq. 5",
        "Along identity shortcuts the gradient at the end reaches every block undiminished (pre-activation).",
        "gradients", undiminished, _preactivated,
    ),
    ProbeClaim(
        "zaeemzadeh2018-norm", "Zaeemzadeh et al. 2018, section 3", "Residual blocks preserve the gradient's norm.",
        "gradients", preserved, _residual,
    ),
    ProbeClaim(
        "tong-he2018-discarded", "Tong He et al. 2018, section 4.2",
        "A 1x1 shortcut of stride 2 ignores three quarters of its input.", "downsampling", three_quarters,
        lambda about: about.get("shortcut") == "projection",
    ),
    ProbeClaim(
        "veit2016-lesion", f"{VEIT}, Fig. 3", "Removing one block of a residual network barely changes its error.",
        "lesions", one_lesion, _residual, asked_of=110,
    ),
    ProbeClaim(
        "veit2016-chain", f"{VEIT}, Fig. 3", "Removing one layer of a network without shortcuts takes it to chance.",
        "lesions", chain_breaks, _chain,
    ),
    ProbeClaim(
        "veit2016-smooth", f"{VEIT}, Fig. 5 (a)", "The error grows smoothly with the number of deleted blocks.",
        "deletions", smooth, _residual, asked_of=110,
    ),
    ProbeClaim(
        "veit2016-order", f"{VEIT}, Fig. 5 (b)", "The error grows with the amount of reordering.", "permutations",
        reordering, _residual, asked_of=110,
    ),
    ProbeClaim(
        "veit2016-paths", f"{VEIT}, Fig. 6", "Most of the gradient comes by short paths.", "paths", short_paths,
        _residual, asked_of=110,
    ),
    ProbeClaim(
        "balduzzi2017-laws", "Balduzzi et al. 2017, theorems 1 to 3",
        "Where half of the units are open by chance, the correlation of gradients falls as 2^-L, with shortcuts as "
        "(3/4)^L, and with BN too as L^-1/2.", "decay",
        laws,
    ),
    ProbeClaim(
        "balduzzi2017-shattered", "Balduzzi et al. 2017, Fig. 1 and 2",
        "Gradients of deep plain networks resemble white noise; shortcuts keep them alike.", "shattering", shatter,
    ),
    ProbeClaim(
        "srivastava2015-gates", "Srivastava et al. 2015, Fig. 2", "Most gates of a Highway network are shut.", "gates",
        gates_shut,
    ),
)  # fmt: skip
"""The ledger's, beside those of the studies."""

GROUP_OF = {
    "signal": "responses",
    "deletions": "lesions",
    "permutations": "lesions",
    "initial": "gradients",
    "decay": "shattering",
}
"""The option that asks for a figure, where it is not called as the figure is (`reslab.probes.figures`)."""
