"""From weights, images and a protocol to predictions: computed, or taken from the run's folder where they are kept."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reslab import __version__
from reslab.data.decode.whole import late_bar
from reslab.data.images import ImageSet
from reslab.data.labels import ilsvrc, outputs, read_names
from reslab.data.loader import Eval
from reslab.data.stream import Listing
from reslab.data.transforms import Normalizer
from reslab.data.views import Views
from reslab.evaluate import kept
from reslab.evaluate.predictions import About, Predictions
from reslab.evaluate.protocols import MultiScale, OneCrop, Single
from reslab.evaluate.recalibrate import recalibrate
from reslab.evaluate.scores import Scored, how_shown, log_scores
from reslab.nets.network import Network
from reslab.runs import RunDir, now
from reslab.weights.load import Weights
from reslab.weights.preprocessing import Preprocessing


@dataclass(frozen=True)
class Images:
    """The images of a split: listed, and in memory as one crop sees them if they are small."""

    listed: Listing
    split: str
    loaded: Tensor | None = None
    """uint8 (N, C, H, W)"""
    changed: str = ""
    """what was done to images of another size, for people"""
    most_damaged: int = 0
    """images that may be left out because they cannot be decoded"""

    @property
    def channels(self) -> int:
        """Of each image."""
        return self.listed.channels if self.loaded is None else self.loaded.shape[1]


@dataclass(frozen=True)
class Training:
    """Training images that BN's statistics are computed over anew."""

    said: str
    """which they are, for people and for telling evaluations apart"""
    images: Callable[[], ImageSet]
    """the images, mixed, as one crop sees them"""


@dataclass(frozen=True)
class Question:
    """An evaluation that may have been made already."""

    weights: Weights
    images: Images
    preprocessing: Preprocessing
    protocol: Single
    about: About
    """all that is known of the answer before anything is computed"""
    training: Training | None = None


@dataclass(frozen=True)
class Answer:
    """Its predictions, and where they are kept."""

    predictions: Predictions
    place: Path | None
    again: bool
    """whether they lay there already"""


def namings(weights: Weights, file: Path | None = None) -> list[Sequence[str]]:
    """Names that a network's outputs are known by, the likeliest first (a ``file`` of them); at last their numbers."""
    count = weights.spec.num_classes
    known: list[Sequence[str]] = []
    if file is not None:
        known.append(read_names(file, count))
    if weights.classes is not None:
        known.append(weights.classes)
    if count == len(ilsvrc()):
        known.append(ilsvrc())
    return [*known, [str(number) for number in range(count)]]


def ask(
    weights: Weights, images: Images, protocol: Single, preprocessing: Preprocessing, *, precision: str,
    names: Path | None = None, training: Training | None = None, notes: tuple[str, ...] = (),
) -> Question:  # fmt: skip
    """What an evaluation will be of.

    Args:
        weights: of the network.
        images: what it is shown.
        protocol: in which parts and sizes.
        preprocessing: how pixels become input.
        precision: "bf16" or "fp32".
        names: a text file with the name of each output, a line each; by default what the weights say.
        training: images for BN's statistics, if they are to be computed anew.
        notes: what people should know.

    Raises:
        InputError: the classes of the data and the outputs of the network do not go together.
    """
    weights.check_head("an evaluation")
    classes = images.listed.classes
    found = outputs(classes, weights.spec.num_classes, names=weights.classes, file=names)
    about = About(
        weights=str(weights.origin),
        weights_fingerprint=weights.fingerprint(),
        net=weights.spec.name,
        net_fingerprint=_digest(weights.spec.model_dump_json()),
        data=images.listed.name,
        split=images.split,
        data_fingerprint=images.listed.fingerprint(),
        data_stamp=images.listed.stamp,
        classes=classes,
        numbers=found.numbers,
        outputs=_named(weights, names, classes, found.numbers),
        outputs_said=found.said,
        protocol=protocol,
        preprocessing=_plain(preprocessing),
        input=_words(preprocessing, protocol) + images.changed,
        precision=precision,
        recalibrated=training.said if training else "",
        most_damaged=images.most_damaged,
        notes=notes,
        reslab=__version__,
    )
    return Question(weights, images, preprocessing, protocol, about, training)


def _words(preprocessing: Preprocessing, protocol: Single) -> str:
    """The preprocessing for people: of several crops or sizes the protocol says which."""
    if isinstance(protocol, OneCrop):
        return preprocessing.words()
    return f"resized ({preprocessing.interpolation}), {preprocessing.constants()}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _plain(preprocessing: Preprocessing) -> dict[str, object]:
    """As JSON; a whole image of numbers is no result, and a hash stands in for it."""
    values: dict[str, object] = preprocessing.model_dump(mode="json")
    if preprocessing.mean_size:
        values["mean_fingerprint"] = _digest(json.dumps(values.pop("mean")))
    return values


def _named(
    weights: Weights, file: Path | None, classes: Sequence[str], numbers: Sequence[int]
) -> tuple[str | None, ...]:
    """A name for each output in the data's own words, where anybody knows it."""
    known = next((names for names in namings(weights, file)[:-1] if set(classes) <= set(names)), None)
    found: list[str | None] = [None] * weights.spec.num_classes if known is None else list(known)
    for number, name in zip(numbers, classes, strict=True):
        found[number] = name
    return tuple(found)


def answer(
    question: Question, run: RunDir | None, result_of: Callable[[Answer], dict[str, object]], *, device: torch.device,
    fused: bool, batch: int = 100, fresh: bool = False,
) -> Answer:  # fmt: skip
    """Computes the predictions, or finds them in the run's folder, which keeps them.

    Args:
        question: what to evaluate.
        run: the run whose weights these are, if it is one.
        result_of: what is kept beside the predictions, for people.
        device: where to compute.
        fused: whether to run the fused kernels.
        batch: images at a time.
        fresh: compute again what is kept.

    Raises:
        InputError: an image cannot be decoded, or the network cannot be applied to images of those sizes.
    """
    if run is not None and not fresh and (found := kept.find(run, question.about)):
        return Answer(found, kept.place(run, question.about), again=True)
    made = compute(question, device=device, fused=fused, batch=batch)
    if run is None:
        return Answer(made, None, again=False)
    new = Answer(made, kept.place(run, made.about), again=False)
    return Answer(made, kept.keep(run, made, result_of(new)), again=False)


def compute(question: Question, *, device: torch.device, fused: bool, batch: int = 100) -> Predictions:
    """The network's scores; as `answer`, without looking anywhere."""
    about, protocol, images = question.about, question.protocol, question.images
    net = question.weights.module().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if isinstance(net, Network):
        net.fuse(fused)
    if device.type == "cuda" and isinstance(protocol, MultiScale):
        torch.backends.cudnn.benchmark = False  # photographs have many shapes, each of which it would try out
    normalizer = Normalizer.from_values(question.preprocessing.mean, question.preprocessing.std)
    labels = torch.tensor(about.numbers)[images.listed.labels]
    if question.training is not None:
        seen_in_training = Eval(question.training.images(), normalizer, batch=batch, device=device)
        recalibrate(net, seen_in_training, device=device, precision=about.precision)
    shows: Eval | Views
    if images.loaded is not None:
        shows = Eval(ImageSet(images.loaded, labels), normalizer, batch=batch, device=device)
    else:
        how = how_shown(protocol, question.preprocessing)
        unit = question.preprocessing.crop
        shows = Views(
            images.listed, how, batch=batch, unit=unit, most_damaged=images.most_damaged,
            while_the_caller_computes=device.type != "cpu",
        )  # fmt: skip

    def score(seen: Callable[[int], None]) -> Scored:
        return log_scores(net, shows, normalizer, protocol, device=device, precision=about.precision, seen=seen)

    return timed(question, shows, score)


def timed(question: Question, shows: Eval | Views, score: Callable[[Callable[[int], None]], Scored]) -> Predictions:
    """Predictions from scores, which are computed beside a progress bar.

    Args:
        question: that they answer.
        shows: the images.
        score: computes the scores; it calls what it is given with how many images were worked through.
    """
    about, images = question.about, question.images
    labels = torch.tensor(about.numbers)[images.listed.labels]
    passes = 1 if isinstance(shows, Eval) else shows.passes
    bar = late_bar(f"{about.protocol.called} on {about.data}", len(shows) * passes)
    done = 0

    def seen(count: int) -> None:
        nonlocal done
        done += count
        bar(done)

    began = time.perf_counter()
    try:
        scored = score(seen)
    finally:
        bar(None)
    seconds = time.perf_counter() - began
    left_out = tuple(why for _, why in sorted(shows.damage.found.items())) if isinstance(shows, Views) else ()
    said = about.model_copy(update={"seconds": round(seconds, 3), "when": now(), "left_out": left_out})
    called = images.listed.called
    names = () if called is None else tuple(called(i) for i in torch.arange(len(labels))[scored.whole].tolist())
    return Predictions(scored.logs.numpy(), labels[scored.whole].numpy(), said, names)
