"""The gate: does an export say what the original says, through the whole path from a file, and is it no slower?

Both are shown the same decoded photographs. The original's are resized by Pillow and normalised by the lab, an
artefact's by what is inside it; what is compared are probabilities. Speed is compared with the lab's own network at its
best: channels-last, fused; an fp32 export with fp32, others with bf16 where the processor has it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from reslab.bench.paired import ratio, take_turns
from reslab.data.decode.whole import Fit, fitted_image
from reslab.data.transforms import Normalizer
from reslab.deploy.artefact import About, Accuracy, Checked, Precision, Speed
from reslab.deploy.feed import Row, logits_of, probabilities, row, stacked
from reslab.deploy.runtimes import Logits, Runtime
from reslab.evaluate.figures import wilson
from reslab.evaluate.metrics import autocast
from reslab.train.device import has_bf16

BATCHES = (1, 7, 32)
"""One image; a number that nothing was made for; as many as a server takes at a time."""
MOST_AGAIN = 64
"""Images that are seen in larger batches, too: those of the commonest sizes."""
CPU = torch.device("cpu")
ROUNDS = 5


@dataclass(frozen=True)
class Limits:
    """What an export in a precision has to keep to."""

    difference: float
    """of a probability"""
    agreement: float
    """per cent of the images of which it says the same first as the original"""


LIMITS: dict[Precision, Limits] = {"fp32": Limits(0.05, 99), "bf16": Limits(1, 99), "int8": Limits(1, 99)}
"""Of an fp32 export all that may differ is how a pixel in some hundred is rounded."""
POINTS, ENOUGH = 0.3, 1000
"""With this many labelled images an accuracy that falls by no more than these points will do instead of agreement; of
fp32 it will not."""
SLOWER = 0.95
"""Below this ratio of speed in every round it is slower; above it lies what the clock does not tell."""


@dataclass(frozen=True)
class Sample:
    """Decoded images, upright, in the network's number of channels."""

    images: Sequence[Image.Image]
    labels: npt.NDArray[np.int64] | None
    """output of each, where it is known"""


class Original:
    """The network in the lab, at its best."""

    def __init__(self, net: nn.Module, about: About) -> None:
        """Of a network in evaluation mode, channels-last and fused, on the CPU."""
        self.net, self.about = net, about
        self._normalizer = Normalizer.from_values(about.preprocessing.mean, about.preprocessing.std)

    @torch.no_grad()
    def logits(self, images: Sequence[Image.Image], precision: str = "fp32") -> Logits:
        """Logits (n, classes) of decoded images, computed together."""
        how = self.about.preprocessing
        fit = Fit(how.crop, how.resize, how.interpolation)
        pixels = np.stack([np.asarray(fitted_image(image, fit)) for image in images])
        if pixels.ndim == 3:
            pixels = pixels[..., None]
        x = self._normalizer(torch.from_numpy(pixels).permute(0, 3, 1, 2))  # (n, H, W, C) -> (n, C, H, W)
        with autocast(CPU, precision):
            found: Logits = self.net(x.contiguous(memory_format=torch.channels_last)).float().numpy()
        return found

    def all(self, images: Sequence[Image.Image], batch: int = 32) -> Logits:
        """The same, so many at a time."""
        return np.concatenate(
            [self.logits(images[start : start + batch]) for start in range(0, len(images), batch)]
        )  # fmt: skip


def check(
    original: Original, runtime: Runtime, sample: Sample, *, expected: Logits | None = None, speed: bool = True,
    rounds: int = ROUNDS, done: Callable[[int], None] = lambda _: None,
) -> Checked:  # fmt: skip
    """Shows both the same images, and says whether the export may go out.

    Args:
        original: the network.
        runtime: with the export.
        sample: real images.
        expected: the original's logits of them, where they are known.
        speed: whether speed is compared, too.
        rounds: of the clock, for each batch size.
        done: hears of each batch size that was compared.
    """
    about = original.about
    before = probabilities(original.all(sample.images) if expected is None else expected, about.temperature)
    rows = [row(image, about) for image in sample.images]
    largest: dict[int, float] = {}
    first: Logits = before
    same, lost = np.ones(len(rows), bool), 0.0
    for batch in BATCHES:
        chosen, shown = (range(len(rows)), rows) if batch == 1 else _again(rows, batch)
        found = probabilities(logits_of(runtime, shown, batch), about.temperature)
        apart = np.abs(found - before[list(chosen)])
        largest[batch] = float(apart.max()) if np.isfinite(found).all() else 1.0
        again = found.argmax(1) == before[list(chosen)].argmax(1)
        if batch == 1:
            first, same = found, again
        # Larger batches see a few images, of which one is worth more than a per cent: it counts what they lose by it.
        lost = max(lost, float(same[list(chosen)].mean() - again.mean()))
        done(batch)
    seen = Checked(
        runtime=runtime.name, precision=runtime.precision, images=len(rows), largest_difference=largest,
        agreement=100 * float(max(0, same.mean() - lost)), accuracy=_accuracy(first, sample.labels),
        accuracy_before=_accuracy(before, sample.labels),
        speed=tuple(_speed(original, runtime, sample, rows, batch, rounds) for batch in BATCHES) if speed else (),
    )  # fmt: skip
    return seen.model_copy(update={"refused": why_refused(seen)})


def _again(rows: Sequence[Row], batch: int) -> tuple[list[int], list[Row]]:
    """Images for larger batches: of the commonest sizes, the last batch of each filled up with the same again."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for number, each in enumerate(rows):
        by_size.setdefault(each.shape, []).append(number)
    chosen: list[int] = []
    for lot in sorted(by_size.values(), key=len, reverse=True):
        if chosen and len(chosen) >= MOST_AGAIN:
            break
        some = lot[: max(batch, MOST_AGAIN - len(chosen))]
        chosen += [some[i % len(some)] for i in range(-(-len(some) // batch) * batch)]
    return chosen, [rows[number] for number in chosen]


def _accuracy(found: Logits, labels: npt.NDArray[np.int64] | None) -> Accuracy | None:
    if labels is None:
        return None
    hits = int((found.argmax(1) == labels).sum())
    low, high = wilson(hits, len(labels))
    return Accuracy(percent=100 * hits / len(labels), low=100 * low, high=100 * high)


def _speed(
    original: Original, runtime: Runtime, sample: Sample, rows: Sequence[Row], batch: int, rounds: int
) -> Speed:  # fmt: skip
    """Images of the commonest size, by turns."""
    numbers, shown = _again(rows, batch)
    images, fed = [sample.images[number] for number in numbers[:batch]], stacked(shown[:batch])
    precision = "bf16" if runtime.precision != "fp32" and has_bf16(CPU) else "fp32"
    works = {
        "original": lambda: original.logits(images, precision),
        "artefact": lambda: runtime.logits(fed),
    }
    seconds = take_turns(works, rounds=rounds, turn=0.1, device=CPU, warm_up=1)
    times = ratio(seconds["original"], seconds["artefact"])
    artefact, before = (batch / float(np.median(seconds[name])) for name in ("artefact", "original"))
    return Speed(
        batch=batch, artefact=artefact, original=before, ratio=times.median, low=times.low, high=times.high
    )  # fmt: skip


def why_refused(seen: Checked) -> str:
    """Why an export may not go out; empty where it may."""
    return why_wrong(seen) or next(
        (
            f"slower at batch {each.batch}: {each.ratio:.2f} times as fast as the original"
            for each in seen.speed
            if each.high < SLOWER
        ),
        "",
    )


def why_wrong(seen: Checked) -> str:
    """Why an export's answers are not the original's; empty where they are."""
    limits = LIMITS[seen.precision]
    worst = max(seen.largest_difference, key=lambda batch: seen.largest_difference[batch])
    if (apart := seen.largest_difference[worst]) > limits.difference:
        return f"a probability differs by {apart:.3f} at batch {worst}, at most {limits.difference:g} is allowed"
    if seen.agreement < limits.agreement and not _as_accurate(seen):
        why = f"predicts the same class for {seen.agreement:.1f} % of the images, {limits.agreement:g} % are required"
        few = seen.precision != "fp32" and (seen.images < ENOUGH or seen.accuracy is None)
        return why + (
            f" (or, with labels and --images {ENOUGH}, at most {POINTS:g} points of accuracy lost)" if few else ""
        )
    return ""


def _as_accurate(seen: Checked) -> bool:
    before, after = seen.accuracy_before, seen.accuracy
    if before is None or after is None or seen.images < ENOUGH or seen.precision == "fp32":
        return False
    return before.percent - after.percent <= POINTS
