"""``reslab eval``."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reslab.commands.train import start
from reslab.data.decode import Fit
from reslab.data.images import Dataset, ImageSet
from reslab.data.labels import outputs
from reslab.data.loader import Eval
from reslab.data.sources import KNOWN
from reslab.data.sources import load as load_data
from reslab.data.stream import Listing, Streamed, listing
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.evaluate.metrics import TestTime, evaluate
from reslab.nets.network import Network
from reslab.nets.weights.load import Weights, load
from reslab.nets.weights.preprocessing import Preprocessing
from reslab.train.device import Execution, resolve_precision

Split = Literal["test", "train", "all"]


@dataclass(frozen=True)
class Options:
    """The options of the command, as they were given."""

    weights: str
    data: str
    net: str | None
    split: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None
    crop: int | None
    interpolation: Literal["bilinear", "bicubic"] | None
    labels: Path | None
    test_time: TestTime
    batch: int
    precision: Literal["auto", "bf16", "fp32"]
    device: str | None
    threads: int | None
    json: bool


def run(options: Options) -> None:
    """Evaluates weights on a data set, one crop an image, and prints the errors."""
    for name, number in (("batch-size", options.batch), ("resize", options.resize), ("crop", options.crop)):
        if number is not None and number < 1:
            raise InputError(f"--{name} takes 1 or more, got {number}")
    execution = start(options.device, options.threads)
    weights = load(options.weights, net=options.net)
    preprocessing = _preprocessing(options, weights)
    images = _images(options, preprocessing)
    channels = weights.spec.in_channels
    if images.channels != channels:
        raise InputError(f"the network takes images of {channels} channels, the data has {images.channels}")
    found = outputs(images.classes, weights.spec.num_classes, names=weights.classes, file=options.labels)
    labels = torch.tensor(found.numbers)[images.labels]
    said = {
        "weights": f"{weights.origin} ({weights.dialect} names)",
        "network": f"{weights.spec.name}, {weights.spec.num_classes} classes",
        "images": f"{len(images.labels):,} of {images.name}, split '{options.split}': {images.source}",
        "outputs": found.said,
        "input": preprocessing.words() + images.changed,
    }
    console = Console(stderr=True)
    if not options.json:
        for name, text in (said | {f"note {i}": text for i, text in enumerate(weights.said, 1)}).items():
            console.print(f"[bold]{name:>8}[/]  {escape(text)}", highlight=False, soft_wrap=True)
    record = _measure(weights, images, labels, preprocessing, execution, options)
    record |= {"weights": str(weights.origin), "net": weights.spec.name, "data": images.name, "split": options.split}
    image = {"mean"} if preprocessing.mean_size else set()  # a whole image of numbers is no result
    record |= {"preprocessing": preprocessing.model_dump(mode="json", exclude=image), "notes": list(weights.said)}
    record |= {"outputs": said["outputs"], "input": said["input"]}
    if options.json:
        print(json.dumps(record, indent=2))
        return
    table = Table(box=None, header_style="bold")
    for heading in ("top-1 error", "top-5 error", "images", "images/s"):
        table.add_column(heading, justify="right")
    top5 = f"{record['top5_error']:.2f} %" if record["top5_error"] is not None else "-"
    table.add_row(
        f"{record['top1_error']:.2f} %", top5, f"{record['n_images']:,}", f"{record['images_per_second']:,.0f}"
    )
    Console().print(table)


def _measure(
    weights: Weights,
    images: "Images",
    labels: torch.Tensor,
    preprocessing: Preprocessing,
    execution: Execution,
    options: Options,
) -> dict[str, Any]:
    net = weights.module().to(execution.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if isinstance(net, Network):
        net.fuse(execution.fuses)
    normalizer = Normalizer.from_values(preprocessing.mean, preprocessing.std)
    precision = resolve_precision(options.precision, execution.device)
    batches: Eval | Streamed
    where = {"batch": options.batch, "device": execution.device}
    if isinstance(images.content, Listing):
        batches = Streamed(images.content, labels, _fit(preprocessing), normalizer, **where)  # type: ignore[arg-type]
    else:
        batches = Eval(ImageSet(images.content, labels), normalizer, **where)  # type: ignore[arg-type]
    began = time.perf_counter()
    result = evaluate(net, batches, precision=precision, test_time=options.test_time)
    seconds = time.perf_counter() - began
    return result.as_dict() | {
        # Of five classes or fewer the right one is always among the first five.
        "top5_error": result.top5_error if weights.spec.num_classes > 5 else None,
        "loss": result.loss if math.isfinite(result.loss) else None,  # JSON has no word for infinity
        "precision": precision,
        "seconds": round(seconds, 3),
        "images_per_second": round(len(labels) / seconds, 1),
    }


def _preprocessing(options: Options, weights: Weights) -> Preprocessing:
    """What the weights carry, and the options over it."""
    carried = weights.preprocessing
    for name, values in (("mean", options.mean), ("std", options.std)):
        if values and len(values) != weights.spec.in_channels:
            wanted = "one number for each channel" if weights.spec.in_channels != 3 else "three numbers"
            raise InputError(f"--{name} takes {wanted}, such as --{name} 0.485 0.456 0.406, got {len(values)}")
        if not values and carried is None:
            raise InputError(
                f"{weights.origin} does not say how its images were normalised; give --mean and --std with three "
                "numbers each, of pixels from 0 to 1: --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 are ImageNet's"
            )
    if not all(math.isfinite(value) for value in options.mean):
        raise InputError(f"--mean takes finite numbers, got {' '.join(map(str, options.mean))}")
    if not all(0 < value < math.inf for value in options.std):
        raise InputError(f"--std takes numbers above 0, got {' '.join(map(str, options.std))}")
    size = (options.crop, options.crop) if options.crop else carried.crop if carried else weights.spec.size
    resize = options.resize or (carried.resize if carried else None)
    if resize is None and carried is None and options.crop is None and min(size) >= 128:
        resize = round(min(size) / 0.875)  # ImageNet's 256 for 224
    found = Preprocessing(
        mean=options.mean or (carried.mean if carried else ()),
        std=options.std or (carried.std if carried else ()),
        crop=size,
        resize=resize,
        interpolation=options.interpolation or (carried.interpolation if carried else "bilinear"),
    )
    if found.mean_size not in (None, found.crop):
        raise InputError(
            f"{weights.origin} subtracts a mean image of {_by(found.mean_size)}, which does not go with a crop of "
            f"{_by(found.crop)}; leave out --crop, or give --mean with a number for each channel"
        )
    return found


def _by(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))


@dataclass(frozen=True)
class Images:
    """The images of a split, in memory or listed."""

    name: str
    source: str
    classes: tuple[str, ...]
    labels: torch.Tensor
    channels: int
    content: torch.Tensor | Listing
    changed: str
    """what was done to images of another size, for people"""


def _fit(preprocessing: Preprocessing) -> Fit:
    return Fit(preprocessing.crop, preprocessing.resize, preprocessing.interpolation)


def _images(options: Options, preprocessing: Preprocessing) -> Images:
    """In memory if they fit there, and otherwise decoded as they are needed."""
    fit = _fit(preprocessing)
    if preprocessing.resize is not None and options.data not in KNOWN:
        with _split_explained():
            listed = listing(options.data, options.split)
        if listed is not None and listed.too_large(fit):
            return Images(listed.name, listed.source, listed.classes, listed.labels, listed.channels, listed, "")
    data, changed = _loaded(options.data, preprocessing, whole=options.split == "all")
    split = data.train if options.split == "train" else data.test
    info = data.info
    return Images(info.name, info.source, info.classes, split.labels, split.images.shape[1], split.images, changed)


@contextmanager
def _split_explained() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if "hold out a fifth" in str(error):
            raise InputError(f"{error}; or evaluate on all images, by --split all") from None
        raise


def _loaded(source: str, preprocessing: Preprocessing, *, whole: bool) -> tuple[Dataset, str]:
    """The data as the network takes it, and what was done to images of another size."""
    fit = _fit(preprocessing)
    changed = f"; images of many sizes, resized ({fit.interpolation}) and cropped to {_by(fit.crop)}"
    try:
        with _split_explained():
            if preprocessing.resize is not None:
                return load_data(source, size=fit, whole=whole), ""  # which `words` says
            data = load_data(source, whole=whole)
        if data.info.size == preprocessing.crop:
            return data, ""
        changed = changed.replace("many sizes", _by(data.info.size))
    except InputError as error:
        if "give a size" not in str(error):
            raise
    return load_data(source, size=fit, whole=whole), changed
