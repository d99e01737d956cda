"""How often, and in which parts and sizes, a network sees each image of an evaluation: plain values."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reslab.errors import InputError
from reslab.nets.spec import Pixels, Spec
from reslab.weights.preprocessing import Preprocessing

TestTime = Literal["none", "flip", "flip-shift"]
"""What a network sees of each crop in an evaluation.

- ``none``: the image as it is, once
- ``flip``: the image and its mirror image, logits averaged (2 passes)
- ``flip-shift``: these, and both once more of the image shifted by a pixel up and left, and down and right, the
  borders mirrored; the unshifted count half (6 passes; Jordan 2024, arXiv 2404.00498, section 3.5)
"""
PROTOCOLS: dict[TestTime, str] = {"none": "one-crop", "flip": "flips", "flip-shift": "flips and shifts"}
PASSES: dict[TestTime, int] = {"none": 1, "flip": 2, "flip-shift": 6}
SCALES = (224, 256, 384, 480, 640)
"""Shorter sides of He 2015, section 3.4, of networks trained on crops of `TRAINED` pixels."""
TRAINED = 224
RESIZED = 256
"""The shorter side that those crops are cut from in a test."""

Kind = Literal["one-crop", "ten-crop", "multi-scale"]


class _Named(Spec):
    name: str

    @property
    def called(self) -> str:
        """What a result calls it."""
        return self.name


class OneCrop(_Named):
    """The centre of each image; with ``resize`` None all of it, which is the CIFAR test (He 2015, section 4.2)."""

    name: Literal["one-crop"] = "one-crop"
    crop: tuple[Pixels, Pixels] = Field(description="height and width")
    resize: Pixels | None = Field(None, description="of the shorter side; null: images have the crop's size already")
    test_time: TestTime = "none"

    @property
    def called(self) -> str:
        """What a result calls it."""
        return PROTOCOLS[self.test_time]

    @property
    def views(self) -> int:
        """Softmax scores that are averaged for each image."""
        return 1

    def words(self) -> str:
        """One line for people."""
        size = _by(self.crop)
        crop = size if self.resize is None else f"centre {size} of shorter side {self.resize}"
        passes = PASSES[self.test_time]
        return crop if passes == 1 else f"{crop}, logits averaged over {passes} passes ({self.called})"


class TenCrop(_Named):
    """Four corners, the centre, and their mirror images; softmax scores averaged (Krizhevsky 2012, section 4.1)."""

    name: Literal["ten-crop"] = "ten-crop"
    crop: tuple[Pixels, Pixels] = Field(description="height and width")
    resize: Pixels = Field(description="of the shorter side")

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.resize < max(self.crop):
            raise ValueError(f"crops of {_by(self.crop)} lie inside a shorter side of {self.resize} pixels")
        return self

    @property
    def views(self) -> int:
        """Softmax scores that are averaged for each image."""
        return 10

    def words(self) -> str:
        """One line for people."""
        return (
            f"corners and centre {_by(self.crop)} of shorter side {self.resize}, and their mirror images, "
            "softmax scores averaged"
        )


class MultiScale(_Named):
    """The whole image at several sizes through the fully convolutional network (He 2015, section 3.4).

    The head is applied at each position of the feature map; softmax scores are averaged over the positions, then over
    mirror images and sizes, each size counting the same.
    """

    name: Literal["multi-scale"] = "multi-scale"
    scales: tuple[Pixels, ...] = Field(SCALES, min_length=1, description="pixels of the shorter side, one pass each")
    flip: bool = Field(True, description="mirror images too")
    window: tuple[Pixels, Pixels] = Field(
        (7, 7),
        description="positions of the feature map that are pooled at a time, as many as the network saw in training; "
        "1, 1: the head at each position",
    )

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(f"each shorter side is named once, got {', '.join(map(str, self.scales))}")
        return self

    @property
    def views(self) -> int:
        """Softmax scores, each a mean over positions, that are averaged for each image."""
        return len(self.scales) * (2 if self.flip else 1)

    def words(self) -> str:
        """One line for people."""
        flips = " and mirror images" if self.flip else ""
        return (
            f"shorter sides {', '.join(map(str, self.scales))}{flips}, pooled over windows of {_by(self.window)}, "
            "softmax scores averaged over positions and sizes"
        )


Single = OneCrop | TenCrop | MultiScale
"""What one network's scores can be made by."""


class Ensemble(_Named):
    """Softmax scores averaged over several networks, each by its own protocol (He 2015, section 4.1, Table 5)."""

    name: Literal["ensemble"] = "ensemble"
    members: tuple[Annotated[Single, Field(discriminator="name")], ...] = Field(min_length=1)

    def words(self) -> str:
        """One line for people."""
        kinds = sorted({member.called for member in self.members})
        return f"mean of the softmax scores of {len(self.members)} members ({', '.join(kinds)})"


Protocol = Annotated[Single | Ensemble, Field(discriminator="name")]


def suited(
    kind: Kind,
    preprocessing: Preprocessing,
    *,
    test_time: TestTime = "none",
    scales: tuple[int, ...] = (),
    window: tuple[int, int] = (7, 7),
) -> Single:
    """A protocol for images as the weights want them.

    Where nothing says it, the sizes are the paper's in proportion to the crop: ten crops of 32 pixels are cut from a
    shorter side of 37 as those of 224 from 256.

    Args:
        kind: its name.
        preprocessing: crop and shorter side of one crop.
        test_time: of one crop.
        scales: shorter sides of multi-scale; by default `SCALES`.
        window: see `MultiScale`.

    Raises:
        InputError: sizes that do not go together, or what belongs to another protocol.
    """
    crop = preprocessing.crop
    if test_time != "none" and kind != "one-crop":
        raise InputError(
            f"--test-time goes with --protocol one-crop; {kind} has mirror images of its own, leave it out"
        )
    if scales and kind != "multi-scale":
        raise InputError(
            f"--scales goes with --protocol multi-scale, not with {kind}; leave it out, or add --protocol multi-scale"
        )
    if kind == "one-crop":
        return OneCrop(crop=crop, resize=preprocessing.resize, test_time=test_time)
    if kind == "ten-crop":
        resize = preprocessing.resize or _in_proportion(RESIZED, max(crop))
        if resize < max(crop):
            raise InputError(
                f"expected a shorter side of at least the crop's {max(crop)} pixels, found {resize}; give --resize"
            )
        return TenCrop(crop=crop, resize=resize)
    if scales and (min(scales) < 1 or len(set(scales)) < len(scales)):
        raise InputError(f"--scales takes different numbers of pixels of 1 or more, got {' '.join(map(str, scales))}")
    sides = scales or tuple(_in_proportion(scale, min(crop)) for scale in SCALES)
    return MultiScale(scales=tuple(dict.fromkeys(sides)), window=window)


def _in_proportion(pixels: int, crop: int) -> int:
    return round(pixels * crop / TRAINED)


def _by(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))
