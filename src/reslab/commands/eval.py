"""``reslab eval``."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from reslab.commands.train import start
from reslab.data.decode import Fit
from reslab.data.images import Dataset, ImageSet
from reslab.data.labels import outputs
from reslab.data.loader import Eval
from reslab.data.sources import load as load_data
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.evaluate.metrics import evaluate
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
    batch: int
    precision: Literal["auto", "bf16", "fp32"]
    device: str | None
    threads: int | None
    json: bool


def run(options: Options) -> None:
    """Evaluates weights on a data set, one crop an image, and prints the errors."""
    if options.batch < 1:
        raise InputError(f"--batch-size takes 1 or more, got {options.batch}")
    execution = start(options.device, options.threads)
    weights = load(options.weights, net=options.net)
    preprocessing = _preprocessing(options, weights)
    data = _data(options.data, preprocessing, whole=options.split == "all")
    images = data.train if options.split == "train" else data.test
    channels = weights.spec.in_channels
    if images.images.shape[1] != channels:
        raise InputError(f"the network takes images of {channels} channels, the data has {images.images.shape[1]}")
    found = outputs(data.info.classes, weights.spec.num_classes, names=weights.classes, file=options.labels)
    labels = torch.tensor(found.numbers)[images.labels]
    said = {
        "weights": f"{weights.origin} ({weights.dialect} names)",
        "network": f"{weights.spec.name}, {weights.spec.num_classes} classes",
        "images": f"{len(images):,} of {data.info.name}, split '{options.split}': {data.info.source}",
        "outputs": found.said,
        "input": preprocessing.words(),
    }
    console = Console(stderr=True)
    if not options.json:
        for name, text in (said | {f"note {i}": text for i, text in enumerate(weights.said, 1)}).items():
            console.print(f"[bold]{name:>8}[/]  {text}", highlight=False, soft_wrap=True)
    record = _measure(weights, ImageSet(images.images, labels), preprocessing, execution, options)
    record |= {"weights": str(weights.origin), "net": weights.spec.name, "data": data.info.name, "split": options.split}
    record |= {"preprocessing": preprocessing.model_dump(mode="json", exclude={"mean"}), "notes": list(weights.said)}
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
    weights: Weights, images: ImageSet, preprocessing: Preprocessing, execution: Execution, options: Options
) -> dict[str, Any]:
    net = weights.module().to(execution.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if isinstance(net, Network):
        net.fuse(execution.fuses)
    normalizer = Normalizer.from_values(preprocessing.mean, preprocessing.std)
    precision = resolve_precision(options.precision, execution.device)
    batches = Eval(images, normalizer, batch=options.batch, device=execution.device)
    began = time.perf_counter()
    result = evaluate(net, batches, precision=precision)
    seconds = time.perf_counter() - began
    return result.as_dict() | {
        # Of five classes or fewer the right one is always among the first five.
        "top5_error": result.top5_error if weights.spec.num_classes > 5 else None,
        "precision": precision,
        "seconds": round(seconds, 3),
        "images_per_second": round(len(images) / seconds, 1),
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
    if any(value <= 0 for value in options.std):
        raise InputError(f"--std takes numbers above 0, got {' '.join(map(str, options.std))}")
    size = (options.crop, options.crop) if options.crop else carried.crop if carried else weights.spec.size
    resize = options.resize or (carried.resize if carried else None)
    if resize is None and carried is None and options.crop is None and min(size) >= 128:
        resize = round(min(size) / 0.875)  # ImageNet's 256 for 224
    return Preprocessing(
        mean=options.mean or carried.mean if carried else options.mean,
        std=options.std or carried.std if carried else options.std,
        crop=size,
        resize=resize,
        interpolation=options.interpolation or (carried.interpolation if carried else "bilinear"),
    )


def _data(source: str, preprocessing: Preprocessing, *, whole: bool) -> Dataset:
    fit = Fit(preprocessing.crop, preprocessing.resize, preprocessing.interpolation)
    if preprocessing.resize is not None:
        return load_data(source, size=fit, whole=whole)
    try:
        data = load_data(source, whole=whole)
    except InputError as error:
        if "give a size" not in str(error):
            raise
        return load_data(source, size=fit, whole=whole)
    return data if data.info.size == preprocessing.crop else load_data(source, size=fit, whole=whole)
