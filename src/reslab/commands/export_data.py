"""The images that ``reslab export`` compares on, and those that int8 takes its ranges from."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from reslab.commands.eval_data import Split, Where, unseen_of
from reslab.commands.options.export import Options
from reslab.data.decode.whole import Encoded, whole
from reslab.data.formats import Unused
from reslab.data.labels import outputs
from reslab.data.names import KNOWN
from reslab.data.walk import images_below
from reslab.deploy.artefact import About
from reslab.deploy.gate import Sample
from reslab.errors import InputError
from reslab.report.words import plural
from reslab.weights.load import Weights

MOST_BYTES = 1_000_000_000
"""Decoded images beyond this are left out."""


def to_compare(options: Options, weights: Weights, about: About, console: Console) -> Sample:
    """The images to compare on, decoded, with their classes where those are known."""
    assert options.data is not None
    found = _labelled(options.data, options.split, options.images, options, weights, about, console)
    if isinstance(found, Sample):
        return found
    console.print(f"no labels: {found}", markup=False, highlight=False, soft_wrap=True)
    return _unlabelled(options.data, options.images, about)


def to_calibrate(options: Options, weights: Weights, about: About, console: Console) -> Sample:
    """The images that ranges are taken from: training images of the data, where no others are named.

    Raises `InputError` where these would be the images that the result is compared on.
    """
    count = options.calibration_images
    source = options.calibration or options.data
    if source is None:
        raise InputError("--int8 takes its ranges from real images; name them by --calibration")
    found = _labelled(source, "train", count, options, weights, about)
    if options.calibration is None and (options.split != "test" or not isinstance(found, Sample)):
        raise InputError(
            "--int8 has no images of its own: the same would calibrate and compare; name others by --calibration"
        )
    return found if isinstance(found, Sample) else _unlabelled(source, count, about)


def _labelled(
    source: str,
    split: Split,
    count: int,
    options: Options,
    weights: Weights,
    about: About,
    console: Console | None = None,
) -> Sample | InputError:
    """So many images of a split with the outputs of their classes; why not, where they lie in no folder of a class."""
    where = Where.given(source, split, options.labels, options.outputs, None)
    try:
        images, seen = unseen_of(options.weights, where, weights, about.preprocessing, one_crop=False)
        listed = images.listed
        found = outputs(listed.classes, about.num_classes, names=weights.classes, file=options.outputs)
    except InputError as why:
        if source in KNOWN or not _flat(Path(source).expanduser()):
            raise
        return why
    if listed.channels != about.channels:
        raise InputError(
            f"the network takes images of {plural(about.channels, 'channel')}, the data has {listed.channels}"
        )
    if console is not None:
        for note in seen:
            console.print(f"accuracy: {note}", markup=False, highlight=False, soft_wrap=True)
    mask = np.zeros(len(listed.labels), bool)
    mask[_spaced(len(mask), count)] = True
    some = listed.only(mask.tolist())
    labels = np.asarray(found.numbers, np.int64)[some.labels.numpy()]
    return _decoded((item for chunk in some.chunks() for item in chunk), labels, about.channels)


def _unlabelled(source: str, count: int, about: About) -> Sample:
    flat = _flat(Path(source).expanduser())
    chosen = [flat[i] for i in _spaced(len(flat), count)]
    oriented = about.preprocessing.oriented is not False
    return _decoded((Encoded(str(path), path, oriented) for path in chosen), None, about.channels)


def _flat(folder: Path) -> list[Path]:
    """The images of a folder in which any lie that are in no folder of a class."""
    if not folder.is_dir():
        return []
    every = list(images_below(folder, Unused(), []))
    return every if any(path.parent == folder for path in every) else []


def _spaced(count: int, wanted: int) -> Sequence[int]:
    """So many whole numbers below ``count``, evenly spaced."""
    places: list[int] = np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()
    return places


def _decoded(
    items: Iterator[Encoded], labels: np.ndarray[tuple[int], np.dtype[np.int64]] | None, channels: int
) -> Sample:
    images: list[Image.Image] = []
    held = 0
    for item in items:
        images.append(whole(item, channels))
        held += images[-1].width * images[-1].height * channels
        if held > MOST_BYTES:
            break
    if not images:
        raise InputError("there is no image to compare on; name others by --data")
    return Sample(images, None if labels is None else labels[: len(images)])
