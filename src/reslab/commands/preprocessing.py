"""How images are brought to a network: what its weights say, what the options change, and data in that form."""

import math

from reslab.commands.options.common import Given
from reslab.data.decode.whole import Fit
from reslab.data.images import Dataset
from reslab.data.sources import load, of_one_size
from reslab.errors import InputError
from reslab.report.words import plural
from reslab.weights.load import Weights
from reslab.weights.preprocessing import Preprocessing


def preprocessing_of(given: Given, weights: Weights) -> Preprocessing:
    """What the weights carry, and the options over it."""
    carried, channels = weights.preprocessing, weights.spec.in_channels
    for name, values, usual in (("mean", given.mean, "0.485 0.456 0.406"), ("std", given.std, "0.229 0.224 0.225")):
        if values and len(values) != channels:
            such = f" (ImageNet's: --{name} {usual})" if channels == 3 else ""
            raise InputError(
                f"--{name} takes {plural(channels, 'number')}, one for each channel{such}, got {len(values)}"
            )
        if not values and carried is None:
            such = ": --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 are ImageNet's" if channels == 3 else ""
            raise InputError(
                f"{weights.origin} does not say how its images were normalised; give --mean and --std with "
                f"{plural(channels, 'number')} each, of pixels from 0 to 1{such}"
            )
    if not all(math.isfinite(value) for value in given.mean):
        raise InputError(f"--mean takes finite numbers, got {' '.join(map(str, given.mean))}")
    if not all(0 < value < math.inf for value in given.std):
        raise InputError(f"--std takes numbers above 0, got {' '.join(map(str, given.std))}")
    size = (given.crop, given.crop) if given.crop else carried.crop if carried else weights.spec.size
    resize = given.resize or (carried.resize if carried else None)
    if resize is None and carried is None and given.crop is None and min(size) >= 128:
        resize = round(min(size) / 0.875)  # ImageNet's 256 for 224
    found = Preprocessing(
        mean=given.mean or (carried.mean if carried else ()),
        std=given.std or (carried.std if carried else ()),
        crop=size,
        resize=resize,
        interpolation=given.interpolation or (carried.interpolation if carried else "bilinear"),
        oriented=carried.oriented if carried else None,
    )
    if found.mean_size not in (None, found.crop):
        raise InputError(
            f"{weights.origin} subtracts a mean image of {by(found.mean_size)}, which does not go with a crop of "
            f"{by(found.crop)}; leave out --crop, or give --mean with a number for each channel"
        )
    return found


def by(size: tuple[int, int] | None) -> str:
    """``32x32``."""
    return "x".join(map(str, size or ()))


def at_size(source: str, preprocessing: Preprocessing, *, whole: bool) -> tuple[Dataset, str | None]:
    """Data at the size that the network takes, in memory.

    Returns:
        The data; and the size of its images, in words, where they had to be resized though nothing says that they
        are to be. Photographs of a network that says so come without a word.
    """
    fit = Fit(preprocessing.crop, preprocessing.resize, preprocessing.interpolation)
    if preprocessing.resize is not None:
        return load(source, size=fit, whole=whole, oriented=preprocessing.oriented), None
    try:
        data = load(source, whole=whole, oriented=preprocessing.oriented)
    except InputError as error:
        if "give a size" not in str(error):
            raise
        return load(source, size=fit, whole=whole, oriented=preprocessing.oriented), "many sizes"
    if data.info.size == preprocessing.crop:
        return data, None
    own = by(data.info.size) if of_one_size(source) else "many sizes"
    return load(source, size=fit, whole=whole, oriented=preprocessing.oriented), own
