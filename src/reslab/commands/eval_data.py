"""What ``reslab eval`` shows a network: its preprocessing, and the images of a split wherever they lie."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from reslab.commands.preprocessing import at_size, by
from reslab.data.decode.whole import Fit, check_memory, decode, fitted
from reslab.data.draws import permutation
from reslab.data.images import Dataset, ImageSet
from reslab.data.layouts.label_list import lists_images
from reslab.data.names import KNOWN
from reslab.data.parts import HELD_OUT
from reslab.data.sources import load as load_data
from reslab.data.stream import Listing, in_memory, listing
from reslab.errors import InputError
from reslab.evaluate.predict import Images, Training, namings
from reslab.runs import read_json
from reslab.runs.rundir import FINETUNE
from reslab.transfer.worth import read as read_worth
from reslab.weights.load import Weights
from reslab.weights.preprocessing import Preprocessing

Split = Literal["test", "train", "all"]
_CHOSEN = 31  # which random numbers say what BN's statistics are computed over


@dataclass(frozen=True)
class Where:
    """Which images, as a user names them."""

    data: str
    split: Split
    labels: Path | None = None
    """the list of the classes of flat images"""
    outputs: Path | None = None
    """the names of the network's outputs"""
    damaged: float = 0.0
    """share of the images that may be left out"""

    @classmethod
    def given(
        cls, data: str, split: Split, labels: Path | None, outputs: Path | None, damaged: float | None
    ) -> "Where":
        """From the options. ``--labels`` once meant what ``--outputs`` does; the file tells which it is."""
        if damaged is not None and not 0 <= damaged <= 1:
            raise InputError(f"--damaged takes a fraction of the images, 0 to 1, got {damaged:g}")
        if labels is not None and not lists_images(labels):
            if outputs is not None:
                raise InputError(
                    f"--labels {labels}: expected lines of an image and its class, found names of classes, which "
                    f"--outputs {outputs} gives already"
                )
            labels, outputs = None, labels
        if labels is not None and data in KNOWN:
            raise InputError(f"--labels is for images that are not in class folders, not for {data}; leave it out")
        return cls(data, split, labels, outputs, damaged or 0.0)

    def most_damaged(self, images: int) -> int:
        """How many of so many may be left out: one at least, unless none may."""
        return max(1, int(images * self.damaged)) if self.damaged else 0


def listed_alone(where: Where, names: Sequence[str]) -> Listing:
    """The images of a split, without any weights; ``names`` are those of the outputs that they are classes of."""
    if where.data in KNOWN:
        return _known(where, None).listed
    with _split_explained():
        numbers = [str(number) for number in range(len(names))]
        listed = listing(where.data, where.split, labels=where.labels, namings=[names, numbers])
    return _folder(where.data) if listed is None else listed


def _folder(data: str) -> Listing:
    """Raises the `InputError` of what is no folder."""
    load_data(data)
    raise AssertionError("what is no folder has no images")


def images_of(where: Where, weights: Weights, preprocessing: Preprocessing, *, one_crop: bool) -> Images:
    """The images for a protocol. For one crop they are in memory if they are small; photographs never are."""
    fit = Fit(preprocessing.crop, preprocessing.resize, preprocessing.interpolation)
    channels = weights.spec.in_channels
    if where.data in KNOWN:
        return _known(where, fit if one_crop else None)
    with _split_explained():
        listed = listing(
            where.data,
            where.split,
            labels=where.labels,
            namings=namings(weights, where.outputs),
            oriented=preprocessing.oriented,
        )
    if listed is None:
        listed = _folder(where.data)
    # Grey images are told from coloured ones by reading all of them, and come into memory for it.
    streamed = not listed.loadable or bool(where.damaged) or (channels == 3 and listed.too_large(fit))
    if one_crop and not streamed and (preprocessing.resize is None or channels != 3):
        data, changed = _loaded(where, preprocessing, fit)
        return Images(listed, where.split, _part(data, where.split).images, changed)
    if channels != 3 and not streamed:
        with _split_explained():
            part = _part(load_data(where.data, whole=where.split == "all"), where.split)
        same = in_memory(
            part.images, part.labels, name=listed.name, source=listed.source, classes=listed.classes, content=""
        )
        return Images(replace(same, keys=listed.keys), where.split)
    return Images(
        listed,
        where.split,
        None,
        f"; images of any size, {_resized(fit)}" if one_crop and fit.resize is None else "",
        where.most_damaged(len(listed.labels)),
    )


def unseen_of(
    source: str, where: Where, weights: Weights, preprocessing: Preprocessing, *, one_crop: bool
) -> tuple[Images, tuple[str, ...]]:
    """The images for a protocol as by `images_of`, and a note where the network was fine-tuned on this data set.

    Where a data set has no test images, fine-tuning holds out a fifth, with copies of one picture on one side, and
    `images_of` another, which was mostly trained on. The images are then those that fine-tuning tested on.
    """
    read = partial(images_of, weights=weights, preprocessing=preprocessing, one_crop=one_crop)
    if not _fine_tuned_on(source, where):
        return read(where), ()
    if where.split == "test":
        with _split_explained():
            own = listing(where.data, "test", labels=where.labels, namings=namings(weights, where.outputs))
        if own is None or HELD_OUT not in own.source:  # the data set's own test images, which were not trained on
            return read(where), ()
        every = read(replace(where, split="all"))
        if chosen := _tested(Path(source).expanduser(), every.listed):
            some = replace(
                every.listed.only(chosen), source=f"{where.data}, the {sum(chosen):,} test images of {source}"
            )
            loaded = None if every.loaded is None else every.loaded[torch.tensor(chosen)]
            most = where.most_damaged(sum(chosen))
            images = replace(every, listed=some, split="test", loaded=loaded, most_damaged=most)
            return images, ("the network was fine-tuned on this data set; these are the images that were held out",)
    report = Path(source).expanduser() / "report.html"
    note = "the network was fine-tuned on most of these images, so this says nothing about new ones"
    return read(where), (f"{note}; for images that it did not see: {report}",)


def _fine_tuned_on(source: str, where: Where) -> bool:
    """Whether weights are of a run that was fine-tuned on the data set."""
    file = Path(source).expanduser() / FINETUNE
    if where.data in KNOWN or not file.is_file():
        return False
    return Path(read_json(file)["folder"]) == Path(where.data).expanduser().resolve()


def _tested(run: Path, listed: Listing) -> list[bool] | None:
    """Which images a fine-tuning tested on; None where its record does not fit them."""
    try:
        names = read_worth(run).test.names
    except InputError:  # it is not finished
        return None
    if listed.called is None:
        return None
    called = [Path(listed.called(i)).parts for i in range(len(listed.labels))]
    there, tested = set(called), [Path(name).parts for name in names]
    # Names begin with the folder as it was given to fine-tuning.
    before = next((n for n in range(len(tested[0])) if tested[0][n:] in there), None) if tested else None
    wanted = {name[before:] for name in tested}
    return [name in wanted for name in called] if before is not None and len(wanted & there) == len(names) else None


def _part(data: Dataset, split: Split) -> ImageSet:
    return data.train if split == "train" else data.test


def _known(where: Where, fit: Fit | None) -> Images:
    """A data set of a known name; in memory as well where a ``fit`` says how."""
    data = load_data(where.data, whole=where.split == "all")
    part, info = _part(data, where.split), data.info
    content = f"{info.name} {where.split} {info.fingerprint}"
    listed = in_memory(
        part.images, part.labels, name=info.name, source=info.source, classes=info.classes, content=content
    )
    if fit is None:
        return Images(listed, where.split)
    if fit.resize is None and info.size == fit.crop:
        return Images(listed, where.split, part.images)
    check_memory(len(part), info.channels, fit.crop, where=info.name)
    changed = "" if fit.resize else f"; images of {by(info.size)}, {_resized(fit)}"
    return Images(listed, where.split, fitted(part.images, fit), changed)


def _resized(fit: Fit) -> str:
    return f"resized ({fit.interpolation}) and cropped to {by(fit.crop)}"


@contextmanager
def _split_explained() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if "hold out a fifth" in str(error):
            raise InputError(f"{error}; or evaluate on all images, by --split all") from None
        raise


def _loaded(where: Where, preprocessing: Preprocessing, fit: Fit) -> tuple[Dataset, str]:
    """A folder as the network takes it, and what was done to images of another size."""
    with _split_explained():
        data, found = at_size(where.data, preprocessing, whole=where.split == "all")
    if found is None:
        return data, ""
    return data, f"; images of {found}, {_resized(fit)}"


def to_recalibrate_on(where: Where, weights: Weights, preprocessing: Preprocessing, count: int, batch: int) -> Training:
    """Which training images BN's statistics are computed over, up to so many; and these, mixed, of one crop each."""
    if count < 2:
        raise InputError(f"--recalibrate-images takes 2 or more, got {count}")
    if where.split == "all":
        raise InputError(
            "--recalibrate-bn takes training images, and --split all evaluates on all there are; choose test or train"
        )
    train = replace(where, split="train", damaged=0.0)
    listed = images_of(train, weights, preprocessing, one_crop=False).listed
    n = len(listed.labels)
    chosen = torch.zeros(n, dtype=torch.bool)
    # Of each class: in a folder the classes lie one after the other, and a batch of one class has other statistics.
    chosen[permutation(n, _CHOSEN)[:count]] = True
    some = listed.only(chosen.tolist())
    m, fit = len(some.labels), Fit(preprocessing.crop, preprocessing.resize, preprocessing.interpolation)
    check_memory(m, some.channels, fit.crop, where=f"--recalibrate-images {count}")

    def images() -> ImageSet:
        found = decode(some.chunks, m, channels=some.channels, fit=fit, what="decoding training images")
        mixed = permutation(m, _CHOSEN + 1)
        return ImageSet(found[mixed], some.labels[mixed])

    return Training(f"{m} of {n} training images ({listed.fingerprint()}), {batch} at a time", images)
