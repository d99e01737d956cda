"""A detector made ready to find boxes, for the commands that do it: weights, or what `reslab export` wrote of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reslab.commands.execution import start
from reslab.deploy.runtimes import READS
from reslab.detect.artefact import is_detector_artefact, read_detector_artefact
from reslab.detect.detections import Detections
from reslab.detect.find import ONCE, find, together
from reslab.detect.looks import Looks
from reslab.detect.runtimes import chosen, opened
from reslab.detect.saved import load_detector
from reslab.detect.spec import DetectorSpec
from reslab.errors import InputError
from reslab.train.device import resolve_precision
from reslab.train.recipe import Precision


@dataclass(frozen=True)
class Ready:
    """What it is, how it computes, and what finds boxes in pictures (3, H, W), uint8."""

    spec: DetectorSpec
    find: Callable[[Iterable[Tensor]], list[Detections]]
    precision: Precision
    device: str


def made_ready(
    source: str, device: str | None, threads: int | None, short: int | None, score: float, precision: Precision,
    looks: Looks = ONCE, also: tuple[str, ...] = (),
) -> Ready:  # fmt: skip
    """A detector where it is to run, at the size that was asked for; with others, an ensemble. Raises `InputError`."""
    first, *others = (_ready(each, device, threads, short, score, precision, looks) for each in (source, *also))
    if not others:
        return first
    for name, other in zip(also, others, strict=True):
        if other.spec.classes != first.spec.classes:
            raise InputError(
                f"--also {name}: expected a detector of the same classes as the first one's "
                f"({', '.join(first.spec.classes)}), found {', '.join(other.spec.classes)}"
            )

    def find_together(pictures: Iterable[Tensor]) -> list[Detections]:
        return [together([member.find([each])[0] for member in (first, *others)]) for each in pictures]

    return replace(first, find=find_together)


def _ready(
    source: str, device: str | None, threads: int | None, short: int | None, score: float, precision: Precision,
    looks: Looks,
) -> Ready:  # fmt: skip
    if not 0 <= score <= 1:
        raise InputError(f"--score takes a score, 0 to 1, got {score:g}")
    if short is not None and short < 1:
        raise InputError(f"--short takes 1 or more pixels, got {short}")
    if is_detector_artefact(source):
        return _of_artefact(source, device, threads, short, precision, looks)
    execution = start(device, threads)
    detector = load_detector(source, torch.device(execution.device))
    if short is not None:
        transform = detector.model.transform
        transform.max_size = round(transform.max_size * short / detector.spec.short)
        transform.min_size = (short,)
    resolved = resolve_precision(precision, execution.device)
    return Ready(
        detector.spec, lambda pictures: find(detector, pictures, precision=resolved, looks=looks), resolved,
        str(execution.device),
    )  # fmt: skip


def _of_artefact(
    source: str, device: str | None, threads: int | None, short: int | None, precision: Precision, looks: Looks
) -> Ready:
    for option, given in (
        (f"--short {short}", short is not None), ("--refine", looks.refine), ("--scales", bool(looks.scales)),
        (f"--device {device}", device not in (None, "cpu")),
    ):  # fmt: skip
        if given:
            raise InputError(
                f"{source} is an artefact, which has a fixed size and runs on the CPU: {option} needs the weights that "
                "it was exported from"
            )
    start("cpu", threads)
    folder, about = read_detector_artefact(source)
    way = chosen(folder, about, precision)
    model = opened(folder / about.models[READS[way.name]], way, threads=threads)
    return Ready(about.detector, model.find, "bf16" if way.precision == "bf16" else "fp32", "cpu")
