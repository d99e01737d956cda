"""Weights and images as the commands that look into a network take them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reslab.commands.options.common import Given, Looking
from reslab.commands.preprocessing import at_size, preprocessing_of
from reslab.data.images import Dataset
from reslab.data.labels import Outputs, outputs
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.probes.seam import Sample
from reslab.train.device import Execution, use_exact_fp32
from reslab.weights.load import Weights, load
from reslab.weights.preprocessing import Preprocessing

LEAST_IMAGES = 50
"""Of fewer images an error in per cent, or a tenth of them, means little."""


@dataclass(frozen=True)
class Seen:
    """Weights with the data as their network takes it."""

    weights: Weights
    net: nn.Module
    preprocessing: Preprocessing
    data: Dataset
    numbers: Tensor
    """the output of each class of the data"""
    said: str
    """how outputs were found"""

    @property
    def normalizer(self) -> Normalizer:
        """From uint8 images to the network's input."""
        return Normalizer.from_values(self.preprocessing.mean, self.preprocessing.std)

    def sample(
        self, options: Looking, device: torch.device, *, split: str, count: int | None, least: int = LEAST_IMAGES
    ) -> Sample:
        """So many images of a split, evenly spaced over it, since folders come sorted by class; None: all of them.

        Raises `InputError` where the split has fewer than ``least``.
        """
        images = self.data.train if split == "train" else self.data.test
        have = len(images.labels)
        if have < least:
            raise InputError(
                f"a probe's statistics take {least} images or more, but the {split} split of "
                f"{self.data.info.name} has {have}; give --data with more"
            )
        chosen = torch.linspace(0, have - 1, min(count or have, have)).round().long()
        x = self.normalizer.to(device)(images.images[chosen].to(device).contiguous(memory_format=torch.channels_last))
        labels = self.numbers[images.labels[chosen]].to(device)
        names = tuple(self.weights.classes or ())
        return Sample(x, labels, batch=options.batch, precision=options.precision, classes=names)

    def key(self, options: Looking) -> dict[str, str]:
        """What tells these weights and images from others."""
        texts = (self.preprocessing.model_dump_json(), self.weights.spec.model_dump_json(), str(self.numbers.tolist()))
        how, net, numbers = (hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts)
        data = f"{self.data.info.fingerprint}, {options.split}"
        return {"weights": self.weights.fingerprint(), "net": net, "data": data, "input": how, "outputs": numbers}


def checked(options: Looking, *, least: int = LEAST_IMAGES) -> None:
    """Raises `InputError` for numbers that cannot be."""
    if options.images < least:
        why = ": fewer make no statistic" if least > 1 else ""
        raise InputError(f"--images takes {least} or more, got {options.images}{why}")
    if options.batch < 1:
        raise InputError(f"--batch-size takes 1 or more, got {options.batch}")


def seen(source: str, options: Looking, execution: Execution, *, any_classes: bool = False) -> Seen:
    """Loads weights and the data that they are to be looked at with; fp32 is exact from here on.

    With ``any_classes`` the data may be of classes that the network does not know: they are numbered as the data has
    them.
    """
    use_exact_fp32(execution.device)
    weights = load(source, net=options.net, which=options.which)
    weights.check_classifier("a look inside")
    # What the options say is for weights that do not: of several networks some may know better.
    given = Given(options.mean, options.std) if weights.preprocessing is None else Given()
    preprocessing = preprocessing_of(given, weights)
    data, _ = at_size(options.data, preprocessing, whole=options.split == "all")
    if data.info.channels != weights.spec.in_channels:
        raise InputError(
            f"the network takes images of {weights.spec.in_channels} channels, the data has {data.info.channels}"
        )
    found = _outputs(weights, data.info.classes, options, any_classes=any_classes)
    net = weights.module().to(execution.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    if isinstance(net, Network):
        net.fuse(execution.fuses)
    return Seen(weights, net, preprocessing, data, torch.tensor(found.numbers), found.said)


def _outputs(weights: Weights, classes: Sequence[str], options: Looking, *, any_classes: bool) -> Outputs:
    """The output of each class of the data; where the classes may be others, or there is no head, their own numbers."""
    numbers = tuple(range(len(classes)))
    if weights.head == "none":  # labels stay what they are, for whoever writes them beside embeddings
        return Outputs(numbers, "the data's own class numbers, since the network has no head")
    try:
        return outputs(classes, weights.spec.num_classes, names=weights.classes, file=options.outputs)
    except InputError:
        if not any_classes or options.outputs is not None:
            raise
        return Outputs(numbers, f"the data's own numbers of its {len(classes)} classes, which are not the network's")
