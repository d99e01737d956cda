"""Fine-tuning on a user's own images: from a folder and weights to a run with a classifier that knows its worth.

The last layer is fitted first, to its optimum on the embeddings of the training images; then, unless it alone is
wanted, the network is trained from there, so that a bad head does not spoil good features (Kumar 2022, arXiv
2202.10054: LP-FT). The validation images choose between all evaluated weights, those before the first step among them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reslab.data.decode.whole import Fit, decode
from reslab.data.find import find
from reslab.data.images import ImageSet
from reslab.data.layouts.found import Asked, Found
from reslab.data.sources import AnyDataset, Dataset, fingerprint_of
from reslab.data.spec import Augment, DataInfo, ResizedCrop, Source
from reslab.data.stored import Stored, chunks_of
from reslab.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any
from reslab.nets.network import Network, build_any
from reslab.nets.spec import AnyNet
from reslab.runs import RunDir
from reslab.train import state as checkpoints
from reslab.train.device import Execution, cores, resolve_precision
from reslab.train.feed import RESIZE
from reslab.train.loop import train
from reslab.train.partial import Partial, last_layer
from reslab.train.recipe import Recipe
from reslab.train.start import InitialWeights
from reslab.transfer.divide import Division, divide, taken
from reslab.transfer.embed import embedded
from reslab.transfer.head import Head, fitted_head
from reslab.transfer.look import Look, look
from reslab.transfer.recipe import Choice, recipe_of
from reslab.weights.load import Weights, load
from reslab.weights.names import Which
from reslab.weights.preprocessing import Preprocessing

SMALL = 64
"""Pixels of a side up to which images are decoded once and live in memory."""
MANY = 200
"""Images from which on processes beside the network decode them."""
IMAGENET = IMAGENET_MEAN, IMAGENET_STD
"""What nearly all weights of three channels were trained with."""

USUAL = Choice()


@dataclass(frozen=True)
class Prepared:
    """All that a fine-tuning is going to do, told before it does it."""

    source: str
    """of the weights"""
    which: Which | None
    looked: Look
    division: Division
    weights: Weights
    """with the network of as many outputs as there are classes; its head is drawn"""
    data: AnyDataset
    recipe: Recipe
    said: tuple[str, ...]
    """what was assumed, for people"""

    @property
    def usual_out(self) -> Path:
        """Where the run goes if nobody says."""
        net, folder = self.weights.spec.name, self.looked.root.resolve().name
        return Path("runs") / f"finetune-{net}-{folder}-seed{self.recipe.seed}"

    @property
    def preprocessing(self) -> Preprocessing:
        """From an image to the network's input."""
        assert self.weights.preprocessing is not None
        return self.weights.preprocessing


def prepare(
    folder: Path, source: str, choice: Choice = USUAL, *, size: int | None = None, which: Which | None = None,
    oriented: bool | None = None, labels: Path | None = None, validation: float | None = None, net: str | None = None,
    cache_dir: Path | None = None, told: Callable[[Look], None] = lambda look: None,
) -> Prepared:  # fmt: skip
    """Looks at the images, reads the weights and makes the recipe; trains nothing.

    Args:
        folder: of images, in a layout of `reslab.data.layouts`.
        source: of the weights: a file, a run or a hub's name.
        choice: what a person chose of the recipe.
        size: pixels of a side that the network is to see; by default what the weights were trained with.
        which: of weights with their average over the training, the one or the other.
        oriented: whether a camera's orientation is applied; by default it is.
        labels: list of the labels of flat images.
        validation: share of the training images that is set aside; by default as suits their number.
        net: the network, where names and shapes of the weights do not tell.
        cache_dir: where what was seen is kept.
        told: receives what was found in the folder, before the recipe is made.

    Raises:
        InputError: images, weights or choices that do not go together.
    """
    found = find(folder, Asked(labels=labels, oriented=True if oriented is None else oriented, cache_dir=cache_dir))
    weights = load(source, net=net, which=which)  # first, since every image is decoded to check it
    looked = look(found, cache_dir=cache_dir)
    told(looked)
    return prepare_found(
        found, looked, weights, choice, source=source, size=size, which=which, validation=validation,
        oriented=oriented is not False,
    )  # fmt: skip


def prepare_found(
    found: Found, looked: Look, weights: Weights, choice: Choice, *, source: str, size: int | None = None,
    which: Which | None = None, validation: float | None = None, oriented: bool = True,
    division: Division | None = None,
) -> Prepared:  # fmt: skip
    """The same for images that were found and looked at, and weights that were read; divided, if they are already."""
    if division is None:
        division = divide(looked, validation=validation)
    weights, said = _for_classes(weights, looked.classes, size, oriented)
    data = _dataset(found, looked, division, weights)
    recipe = recipe_of(
        weights.spec, data.info, _of(weights), choice, validation=len(division.validation),
        fingerprint=weights.fingerprint(),
    )  # fmt: skip
    assert recipe.transfer is not None
    with torch.device("meta"):  # says what the network does not have
        Partial(build_any(weights.spec), recipe.transfer)
    return Prepared(source, which, looked, division, weights, data, recipe, (*weights.said, *said))


def _of(weights: Weights) -> Preprocessing:
    assert weights.preprocessing is not None
    return weights.preprocessing


def _for_classes(
    weights: Weights, classes: tuple[str, ...], size: int | None, oriented: bool
) -> tuple[Weights, tuple[str, ...]]:
    """The weights with the head left out, for a network of so many outputs; and what had to be assumed."""
    channels = weights.spec.in_channels
    if channels not in (1, 3):
        raise InputError(f"{weights.origin} is of images with {channels} channels; photographs have 1 or 3")
    own = weights.preprocessing
    said: tuple[str, ...] = ()
    if own is None:
        mean, std = IMAGENET if channels == 3 else ((0.5,), (0.25,))
        own = Preprocessing(mean=mean, std=std, crop=weights.spec.size)
        said = (f"the weights do not say how images were normalised; {own.constants()} is taken",)
    own = own.of_any_size().model_copy(update={"oriented": oriented})
    if size is not None and (size, size) != own.crop:
        resize = None if own.resize is None else round(size * own.resize / min(own.crop))
        own = own.model_copy(update={"crop": (size, size), "resize": resize})
    if own.resize is None and max(own.crop) > SMALL:
        own = own.model_copy(update={"resize": round(min(own.crop) * RESIZE)})
    spec = resolve_any(weights.spec, num_classes=len(classes), size=own.crop)
    head = _head_names(spec)
    tensors = {name: tensor for name, tensor in weights.tensors.items() if name not in head}
    return replace(
        weights, spec=spec, tensors=tensors, preprocessing=own, classes=classes, head="new", header={}
    ), said  # fmt: skip


def _head_names(spec: AnyNet) -> tuple[str, str]:
    with torch.device("meta"):  # for its names alone
        name = last_layer(build_any(spec))
    return f"{name}.weight", f"{name}.bias"


def _dataset(found: Found, looked: Look, division: Division, weights: Weights) -> AnyDataset:
    """The three parts as a training takes them: small images in memory, photographs where they lie."""
    how = _of(weights)
    parts = [taken(found.splits, part) for part in (division.train, division.validation, division.test)]
    small = max(how.crop) <= SMALL
    info = DataInfo(
        name=found.root.resolve().name,
        source=str(found.root),
        fingerprint=fingerprint_of(*parts),
        classes=looked.classes,
        channels=weights.spec.in_channels,
        size=how.crop,
        n_train=len(division.train) + len(division.validation),
        n_test=len(division.test),
        augment=Augment() if small else ResizedCrop(),
        oriented=bool(how.oriented),
        unused=looked.unused,
    )
    train, validation, test = parts
    held = validation if len(division.validation) else None
    if not small:
        return Dataset(info, train, test, held)
    fit = Fit(how.crop, how.resize, how.interpolation)
    return Dataset(
        info,
        _in_memory(train, info.channels, fit),
        _in_memory(test, info.channels, fit),
        None if held is None else _in_memory(held, info.channels, fit),
    )


def _in_memory(stored: Stored, channels: int, fit: Fit) -> ImageSet:
    images = decode(
        lambda: chunks_of(stored), len(stored.labels), channels=channels, fit=fit, what="decoding the images"
    )
    return ImageSet(images, stored.labels)


def fit(
    prepared: Prepared, out: Path, *, execution: Execution, title: str = "fine-tuning",
    stop: Callable[[], bool] | None = None, quiet: bool = False, cache_dir: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Fits the head, trains what is to be trained, and tests once; goes on with what lies in ``out``.

    Returns:
        The content of ``result.json``.

    Raises:
        Stopped: ``stop`` said so; the same call goes on.
        InputError: ``out`` holds another run, an image is damaged, the loss is not finite.
    """
    weights = prepared.weights
    rule = prepared.recipe.transfer
    assert rule is not None
    if rule.head != "drawn" and not checkpoints.any_checkpoint(RunDir(out).checkpoints):
        head = head_of(prepared, execution, cache_dir=cache_dir)
        names = _head_names(weights.spec)
        given = dict(zip(names, (torch.from_numpy(head.weight), torch.from_numpy(head.bias)), strict=True))
        weights = replace(weights, tensors=weights.tensors | given, head="own")
    return train(
        prepared.recipe,
        prepared.data,
        out,
        execution=execution,
        source=Source(name=str(prepared.looked.root)),
        title=title,
        weights=InitialWeights(prepared.source, True, prepared.which, weights),
        stop=stop,
        quiet=quiet,
    )


def head_of(prepared: Prepared, execution: Execution, *, cache_dir: Path | None = None) -> Head:
    """The head that training starts from, fitted to the training images as they are, without augmentation."""
    recipe = prepared.recipe
    rule = recipe.transfer
    assert rule is not None
    assert rule.head != "drawn"
    train_images = prepared.data.train
    embeddings = embedded(
        network(prepared.weights, execution, recipe.seed), train_images, prepared.preprocessing,
        precision=resolve_precision(recipe.precision, execution.device), device=execution.device,
        weights=prepared.weights.fingerprint(), workers=helpers(execution, len(train_images.labels)),
        cache_dir=cache_dir,
    )  # fmt: skip
    labels = train_images.labels.numpy().astype(np.int64)
    return fitted_head(
        embeddings, labels, len(prepared.looked.classes), kind=rule.head, balanced=recipe.balanced, seed=recipe.seed
    )


def helpers(execution: Execution, images: int) -> int:
    """Processes that decode so many images beside the network: as was asked; else none where starting them is more."""
    if execution.workers is not None:
        return execution.workers
    return 0 if images < MANY else max(1, cores() - 1)


def network(weights: Weights, execution: Execution, seed: int = 0) -> nn.Module:
    """The network of the weights, on the device, in evaluation mode."""
    net = weights.module(seed=seed)
    net.to(execution.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    if isinstance(net, Network):
        net.fuse(execution.fuses)
    return net
