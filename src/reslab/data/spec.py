"""The data part of a recipe: plain values, importable without torch."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Normalization = Literal["per-pixel-mean", "per-channel", "imagenet", "given", "none"]
"""How uint8 pixels become network input, after division by 255.

- ``per-pixel-mean``: subtract the mean image of the training split, no division (He 2015, section 4.2)
- ``per-channel``: subtract the mean and divide by the standard deviation of each channel of the training split
- ``imagenet``: the constants that torchvision's ImageNet weights expect
- ``given``: the constants in ``mean`` and ``std``, which the weights that a training starts from were trained with
- ``none``: leave pixels in [0, 1]
"""


class Augment(BaseModel):
    """Random shift and flip of a training image, drawn anew for each time that it is seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pad: int = Field(0, ge=0, description="pixels padded on each side before a random crop of the original size")
    flip: bool | Literal["alternating"] = Field(
        False,
        description="mirror horizontally with probability one half; 'alternating': at random in the first epoch, then "
        "every other epoch, so that two epochs show both (Jordan 2024, arXiv 2404.00498, section 3.6)",
    )
    border: Literal["mean", "black", "reflect"] = Field(
        "mean",
        description="the padding: 'mean' pads after normalisation (zeros), 'black' before it, 'reflect' mirrors "
        "what is inside",
    )


class Colour(BaseModel):
    """Random changes of a photograph's colours, of all its pixels alike, drawn anew for each time that it is seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pca: float = Field(
        0.0,
        ge=0,
        description="standard deviation of the amounts by which the principal components of ImageNet's colours are "
        "added (Krizhevsky 2012, section 4.1, where it is 0.1); 0: not",
    )
    jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="brightness, contrast and saturation, in a random order, each blended by a factor in 1 - jitter to "
        "1 + jitter (Gross, Wilber 2016: 0.4); 0: not",
    )

    @property
    def changes(self) -> bool:
        """Whether anything is changed."""
        return bool(self.pca or self.jitter)


class ScaleCrop(BaseModel):
    """For photographs: the shorter side resized to a random length, a random crop (He 2015, section 3.4)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["scale-crop"] = "scale-crop"
    short: tuple[int, int] = Field((256, 480), description="shortest and longest length in pixels, inclusive")
    flip: bool = True
    colour: Colour = Colour()

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not 1 <= self.short[0] <= self.short[1]:
            raise ValueError(f"short is a least and a greatest length in pixels, got {list(self.short)}")
        return self


class ResizedCrop(BaseModel):
    """For photographs: a part of random area and shape, resized (Szegedy 2014, section 6)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["resized-crop"] = "resized-crop"
    area: tuple[float, float] = Field((0.08, 1.0), description="smallest and largest fraction of the image's area")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="range of width / height")
    flip: bool = True
    colour: Colour = Colour()

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if not 0 < self.area[0] <= self.area[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"area is a range in (0, 1], ratio one above 0, got {list(self.area)}, {list(self.ratio)}")
        return self


def _kind(value: Any) -> str:
    return str(value.get("kind", "shift") if isinstance(value, dict) else getattr(value, "kind", "shift"))


AnyAugment = Annotated[
    Annotated[Augment, Tag("shift")]
    | Annotated[ScaleCrop, Tag("scale-crop")]
    | Annotated[ResizedCrop, Tag("resized-crop")],
    Discriminator(_kind),
]
"""What becomes of a training image. Of small images the shift, of photographs one of the crops."""


class DataSpec(BaseModel):
    """Which data a recipe trains on and how an image becomes input. Where it lies on disk is not part of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="name of the data set, as found: cifar10, digits, a folder's own name")
    num_classes: int = Field(ge=2)
    channels: int = Field(ge=1)
    size: tuple[int, int] = Field(description="height and width of an image in pixels")
    holdout: int = Field(0, ge=0, description="training images set aside for validation; 0 trains on all")
    holdout_seed: int = Field(0, ge=0, description="which images are set aside; independent of the training seed")
    normalization: Normalization = "per-pixel-mean"
    mean: tuple[float, ...] = Field((), description="of each channel, for the normalization 'given'")
    std: tuple[float, ...] = Field((), description="standard deviation of each channel, for the normalization 'given'")
    resize: int | None = Field(
        None, ge=1, description="pixels of a photograph's shorter side in an evaluation; null: 256 for a crop of 224"
    )
    augment: AnyAugment = Augment()

    @model_validator(mode="after")
    def _all_given(self) -> Self:
        given = self.normalization == "given"
        if given and not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"normalization 'given' takes mean and std, a number for each of {self.channels} channels")
        if not given and (self.mean or self.std):
            raise ValueError(f"mean and std are for the normalization 'given', not for '{self.normalization}'")
        return self


class DataInfo(BaseModel):
    """Facts about a loaded data set, and its default augmentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str = Field(description="where it came from: 'scikit-learn', a path, a hub name")
    fingerprint: str = Field(
        description="tells data apart: of images in memory a hash of the decoded content; of photographs on disk "
        "of their labels, and of their names or lengths"
    )
    classes: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    n_train: int
    n_test: int
    augment: AnyAugment
    oriented: bool = Field(False, description="whether images are rotated upright by their EXIF orientation")
    unused: str = Field("", description="files beside the images that are not used, in words")

    def outline(self) -> str:
        """The data set in a line, for people; its own ``repr`` lists all classes."""
        images = f"{self.n_train:,} training and {self.n_test:,} test images of {self.size[0]}x{self.size[1]}"
        return f"{self.name}: {images}, {self.channels} channels, {len(self.classes)} classes"

    def spec(
        self, *, holdout: int = 0, normalization: Normalization = "per-pixel-mean", mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (), resize: int | None = None,
    ) -> DataSpec:  # fmt: skip
        """The part of this that belongs in a recipe."""
        return DataSpec(
            name=self.name,
            num_classes=len(self.classes),
            channels=self.channels,
            size=self.size,
            holdout=holdout,
            normalization=normalization,
            mean=mean,
            std=std,
            resize=resize,
            augment=self.augment,
        )


class Source(BaseModel):
    """How the user named the data: enough to find it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="a known name, or a path")
    size: int | None = Field(None, description="size in pixels, if it was given")
    labels: str | None = Field(None, description="path of a list of labels, if one was given")
    oriented: bool | None = Field(
        None, description="whether images are rotated upright by EXIF; null: the default of the layout"
    )
