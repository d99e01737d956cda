"""The rules that decide the claims about the inside of networks, from figures as plain values; none needs torch.

Each is of one network or a pair, so that nothing is said about seeds: intervals are over layers, blocks or draws.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reslab.evaluate.figures import wilson
from reslab.report.summary import Judgement

BARELY = 2.0
"""Points of error that count as barely a change."""
LEARNT = 0.5
"""Share of the error of guessing that a network has to be below, before anything is said of what it loses."""
EASY = ("digits", "synthetic")
"""Data too easy to speak against a paper."""
CHANCE = 0.9
"""Share of the error of guessing from which a network counts as ruined."""
DRAWS = 2000
"""Of a bootstrap."""
ONE_SIDED = 1.645
"""Standard deviations to a bound that is one-sided at 95 %."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A figure of one network."""

    figure: str
    network: str
    about: Values
    """``residual``, ``depth``, ``order`` of the network"""
    result: Values


Floats = npt.NDArray[np.float64]
Decision = tuple[Judgement, str]


def of_papers_data(measured: Measured) -> bool:
    """Whether its images are real photographs, as the papers' are."""
    return measured.about.get("data") not in EASY


def has_learnt(measured: Measured) -> bool:
    """Whether a network's error is below half of that of guessing, where the figure knows it.

    A network that is near chance as it is has nothing to lose.
    """
    chance, whole = measured.result.get("chance"), _whole(measured)
    return chance is None or whole is None or whole < LEARNT * float(chance)


def _whole(measured: Measured) -> float | None:
    """The error with nothing deleted: by itself, or the first of a curve over deletions. Per cent."""
    result = measured.result
    found = result.get("whole_error", result["median"][0] if "deleted" in result and "median" in result else None)
    return None if found is None else float(found)


def _untrained(measured: Measured) -> Decision | None:
    if has_learnt(measured):
        return None
    return "not decided", (
        f"{measured.network}: error {_whole(measured):.1f} % with all blocks; lesions say something only below "
        f"{LEARNT * float(measured.result['chance']):.0f} %, half of the error of guessing"
    )


def _verdict(low: float, high: float, bound: float, side: str) -> Judgement:
    """Whether a number with an interval is above or below a bound."""
    above, below = low > bound, high < bound
    if side == "below":
        above, below = below, above
    return "held" if above else "not held" if below else "not decided"


def _yes(held: bool) -> Judgement:
    return "held" if held else "not held"


def _array(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _ranks(values: Floats) -> Floats:
    """Ranks from 1 along the last axis, ties sharing their mean."""
    smaller = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return smaller + (equal + 1) / 2  # type: ignore[no-any-return]


def _spearman(a: Floats, b: Floats) -> Floats:
    """Rank correlations along the last axis, -1 to 1; 0 where one of the two does not vary."""
    x, y = (ranks - ranks.mean(-1, keepdims=True) for ranks in (_ranks(a), _ranks(b)))
    size = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    found: Floats = np.divide((x * y).sum(-1), size, out=np.zeros_like(size), where=size > 0)
    return found


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation of two vectors, -1 to 1; 0 where one of the two does not vary."""
    return float(_spearman(a[None], b[None])[0])


def _resampled(n: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which of n were drawn, with replacement, each time of a bootstrap (DRAWS, n)."""
    return random.integers(0, n, (DRAWS, n))


def _layers_3x3(measured: Measured) -> Floats:
    pairs = zip(measured.result["std"], measured.result["kernel"], strict=True)
    return _array([std for std, kernel in pairs if kernel == 3])


def smaller_than_plain(residual: Measured, plain: Measured) -> Decision:
    """Whether most 3x3 layers respond less than those of the plain twin; bounds over layers."""
    ours, theirs = _layers_3x3(residual), _layers_3x3(plain)
    smaller = int((ours < theirs).sum())
    low, high = wilson(smaller, len(ours), ONE_SIDED)
    return _verdict(low, high, 0.5, "above"), (
        f"{smaller} of {len(ours)} 3x3 layers of {residual.network} respond less than those of {plain.network} "
        f"(share {smaller / len(ours):.2f}, 95 % bounds {low:.2f} and {high:.2f}; medians {np.median(ours):.3f} and "
        f"{np.median(theirs):.3f})"
    )


def smaller_when_deeper(deep: Measured, shallow: Measured) -> Decision:
    """Whether the median response is smaller in the deeper network; bounds over layers."""
    ours, theirs = _layers_3x3(deep), _layers_3x3(shallow)
    random = np.random.default_rng(0)
    drawn = [np.median(each[_resampled(len(each), random)], axis=1) for each in (ours, theirs)]
    gaps = drawn[0] - drawn[1]
    low, high = np.quantile(gaps, [0.05, 0.95])
    return _verdict(float(low), float(high), 0.0, "below"), (
        f"median response of a 3x3 layer {np.median(ours):.3f} in {deep.network}, {np.median(theirs):.3f} in "
        f"{shallow.network}: {np.median(ours) - np.median(theirs):+.3f} (95 % bounds {low:+.3f} and {high:+.3f}, over "
        "layers)"
    )


def one_lesion(measured: Measured) -> Decision:
    """Whether a block more or less barely changes the error."""
    error, whole = _array(measured.result["error"]), float(measured.result["whole_error"])
    if untrained := _untrained(measured):
        return untrained
    keeps = (np.array(measured.result["changes_shape"]) == 0) & ~np.isnan(error)
    risen = error[keeps] - whole
    middle, worst = float(np.median(risen)), float(risen.max())
    ruined = CHANCE * float(measured.result["chance"])
    return _yes(middle < BARELY and whole + worst < ruined), (
        f"{measured.network}: error {whole:.2f} % with all blocks; without one of {len(risen)} blocks that keep the "
        f"shape {middle:+.2f} points in the median, {worst:+.2f} at worst; required: below {BARELY:g} in the median, "
        f"and never near chance ({ruined:.0f} %)"
    )


def chain_breaks(measured: Measured) -> Decision:
    """Whether most layers are indispensable."""
    if untrained := _untrained(measured):
        return untrained
    error = _array(measured.result["error"])
    error = error[~np.isnan(error)]
    ruined = CHANCE * float(measured.result["chance"])
    count = int((error >= ruined).sum())
    return _yes(count > len(error) / 2), (
        f"{measured.network}: without one layer the error is {ruined:.0f} % or more for {count} of {len(error)} layers "
        f"(median {np.median(error):.1f} %, lowest {error.min():.1f} %); required: for most of them"
    )


def smooth(measured: Measured) -> Decision:
    """Whether the error grows with the number of deleted blocks, without a cliff."""
    median, deleted = _array(measured.result["median"]), _array(measured.result["deleted"])
    if untrained := _untrained(measured):
        return untrained
    # Up to where it is ruined: behind that the error is noise about that of guessing.
    ruined = np.nonzero(median >= CHANCE * float(measured.result["chance"]))[0]
    end = int(ruined[0]) + 1 if len(ruined) else len(median)
    median, deleted = median[:end], deleted[:end]
    rank = spearman(deleted, median)
    whole = float(median[-1] - median[0])
    steepest = float((np.diff(median) / np.diff(deleted)).max())
    return _yes(rank > 0.95 and steepest < whole / 2), (
        f"{measured.network}: up to {deleted[-1]:.0f} blocks deleted, rank correlation of the error with their number "
        f"{rank:.2f}; {steepest:.1f} points a block at the steepest, of {whole:.1f} in all; required: above 0.95, "
        "and below half"
    )


def reordering(measured: Measured) -> Decision:
    """Whether the error grows as the order departs from the trained one; bounds over orders."""
    tau, error = _array(measured.result["tau"]), _array(measured.result["error"])
    if untrained := _untrained(measured):
        return untrained
    random = np.random.default_rng(0)
    chosen = _resampled(len(tau), random)
    low, high = np.quantile(_spearman(tau[chosen], error[chosen]), [0.05, 0.95])
    return _verdict(float(low), float(high), -0.5, "below"), (
        f"{measured.network}: rank correlation of error with Kendall's tau {spearman(tau, error):+.2f} (95 % bounds "
        f"{low:+.2f} and {high:+.2f}, over {len(tau)} orders), required: below -0.5"
    )


def short_paths(measured: Measured) -> Decision:
    """Whether the gradient comes through paths shorter than half of the blocks."""
    blocks = len(measured.result["length"]) - 1
    longest, mean = int(measured.result["longest"]), float(measured.result["mean_length"])
    return _yes(longest < blocks / 2), (
        f"{measured.network}: 95 % of the gradient flows through paths of {measured.result['shortest']} to {longest} "
        f"of {blocks} blocks (mean {mean:.1f}; over all paths {blocks / 2:g}); required: fewer than half of the blocks"
    )


def undiminished(measured: Measured) -> Decision:
    """Whether the gradient at the end arrives whole along the shortcuts of the last stage."""
    arriving = _array(measured.result["by_shortcuts"])
    last_stage = measured.result["block"][-2].partition(".")[0]
    same = [
        value
        for name, value in zip(measured.result["block"], arriving, strict=True)
        if name.startswith(f"{last_stage}.") and not name.endswith(".0") and not math.isnan(value)
    ]
    if not same:
        return "not decided", f"{measured.network}: no block with an identity shortcut in its last stage"
    furthest = max(abs(value - 1) for value in same)
    return _yes(furthest < 0.01), (
        f"{measured.network}: through the shortcuts alone, {same[0]:.3f} of the gradient after the last block reaches "
        f"the first identity shortcut of the last stage, {len(same)} blocks away; required: 1 within 0.01"
    )


def preserved(measured: Measured) -> Decision:
    """Whether a block leaves the gradient's norm as it is."""
    ratio = _array(measured.result["ratio"])
    ratio = ratio[~np.isnan(ratio)]
    middle = float(np.median(ratio))
    return _yes(0.9 < middle < 1.1), (
        f"{measured.network}: ratio of the gradient's norms across a block {middle:.3f} in the median, "
        f"{ratio.min():.2f} to {ratio.max():.2f}; required: 1 within 0.1 in the median"
    )


def no_vanishing(measured: Measured) -> Decision:
    """Whether a plain network with BN keeps its gradient at initialisation."""
    least = float(np.nanmin(_array(measured.result["plain_bn"])))
    first = float(measured.result["plain_bn"][0])
    return _yes(least > 0.1), (
        f"plain network of {measured.about.get('depth')} layers with BN, at initialisation: the gradient at the first "
        f"block is {first:.3g} times that after the last; smallest ratio {least:.3g}, required: above 0.1"
    )


def sign(measured: Measured) -> Decision:
    """Whether the signal is below zero where the order of activations lets it be, and nowhere else."""
    negative = _array(measured.result["negative"])
    most = float(negative[1:].max())
    original = measured.about.get("order") == "original"
    held = most == 0 if original else most > 0.1
    wanted = "0" if original else "above 10 %"
    return _yes(held), f"{measured.network}: at most {100 * most:.1f} % of the signal is below zero; required: {wanted}"


def three_quarters(measured: Measured) -> Decision:
    """Whether a strided 1x1 shortcut reads a quarter of its input."""
    found = [value for value in measured.result["shortcut"] if value is not None]
    if not found:
        return "not decided", f"{measured.network}: no shortcut that subsamples"
    return _yes(all(abs(value - 0.75) < 1e-6 for value in found)), (
        f"{measured.network}: shortcuts never read {', '.join(f'{100 * value:.0f} %' for value in found)} of the "
        "positions of their inputs"
    )


def laws(measured: Measured) -> Decision:
    """Whether the fitted laws are those of the theorems."""
    plain, residual, power = (
        float(measured.result[name]) for name in ("plain_base", "residual_base", "residual_bn_power")
    )
    held = abs(plain - 0.5) < 0.05 and abs(residual - 0.75) < 0.05 and abs(power + 0.5) < 0.15
    return _yes(held), (
        f"fitted: {plain:.3f}^L, {residual:.3f}^L and (L+1)^{power:.2f}; required: 1/2 and 3/4 within 0.05, and "
        "-1/2 within 0.15"
    )


def shatter(measured: Measured) -> Decision:
    """Whether gradients of plain networks are less alike than those of residual ones."""
    depth = int(np.argmax(measured.result["depth"]))
    # The paper's plain networks have "well-chosen initialization and batch normalization" (abstract).
    at_one = {name: float(measured.result[name][depth][1]) for name in ("plain_bn", "residual_bn")}
    return _yes(at_one["plain_bn"] < at_one["residual_bn"] / 2), (
        f"at {max(measured.result['depth'])} layers and lag 1 the autocorrelation of the gradient is "
        f"{at_one['plain_bn']:.2f} in plain networks with BN, {at_one['residual_bn']:.2f} in residual ones with BN; "
        "required: less than half"
    )


def identity(measured: Measured) -> Decision:
    """Whether residual stacks come closer to the identity than plain ones, in every seed."""
    plain, residual = measured.result["plain_low"][-1], measured.result["residual_high"][-1]
    other = measured.result["plain_high"][-1] < measured.result["residual_low"][-1]
    verdict: Judgement = "held" if plain > residual else "not held" if other else "not decided"
    return verdict, (
        f"at {measured.result['depth'][-1]} layers the remaining error is {measured.result['plain'][-1]:.2g} in plain "
        f"stacks ({plain:.2g} or more) and {measured.result['residual'][-1]:.2g} in residual ones ({residual:.2g} or "
        f"less), over {measured.result['seeds']} seeds"
    )


def gates_shut(measured: Measured) -> Decision:
    """Whether gates are less than half open on average."""
    mean = float(np.mean(_array(measured.result["mean"])))
    return _yes(mean < 0.5), f"{measured.network}: gates are {100 * mean:.0f} % open on average; required: below 50 %"
