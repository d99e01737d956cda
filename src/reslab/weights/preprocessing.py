"""How an image becomes a network's input: plain data that travels with the weights."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from reslab.nets.spec import Pixels, Spec

PerChannel = tuple[float, ...]
PerPixel = tuple[tuple[tuple[float, ...], ...], ...]


class Preprocessing(Spec):
    """input = (pixel / 255 - mean) / std, of an image resized and cropped to the size of the training images."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: PerChannel | PerPixel = Field(description="per channel, or per pixel (C, H, W): He 2015, section 4.2")
    std: PerChannel = Field(description="per channel")
    crop: tuple[Pixels, Pixels] = Field(description="height and width of the centre crop: the input's size")
    resize: int | None = Field(
        None, ge=1, description="pixels of the shorter side before the crop; null: images have the crop's size already"
    )
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    oriented: bool | None = Field(
        None,
        description="whether images are rotated upright by their EXIF orientation first; null: not stated, use the "
        "default of the images' layout",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if len(self.mean) != len(self.std) or not self.std:
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} standard deviations")
        if any(value <= 0 for value in self.std):
            raise ValueError(f"standard deviations are numbers above 0, got {self.std}")
        shapes = {(len(c), *map(len, c)) if isinstance(c, tuple) else () for c in self.mean}
        lengths = set(next(iter(shapes))[1:])
        if len(shapes) != 1 or len(lengths) > 1 or 0 in lengths or (0,) in shapes:
            raise ValueError("the mean is a number for each channel, or a whole image")
        return self

    @property
    def mean_size(self) -> tuple[int, int] | None:
        """Height and width of the mean image; None where the mean is per channel."""
        first = self.mean[0]
        return (len(first), len(first[0])) if isinstance(first, tuple) else None

    def __repr__(self) -> str:
        """One line, even if the mean is a whole image."""
        return f"Preprocessing({self.words()})"

    __str__ = __repr__

    def words(self) -> str:
        """One line for people."""
        size = "x".join(map(str, self.crop))
        if self.resize:
            size = f"shorter side {self.resize} ({self.interpolation}), centre crop {size}"
        return f"{size}, {self.constants()}"

    def constants(self) -> str:
        """Mean and standard deviation for people."""
        mean = "a whole image" if self.mean_size else ", ".join(f"{value:.4g}" for value in self.mean)
        return f"mean {mean}, std {', '.join(f'{value:.4g}' for value in self.std)}"

    def of_any_size(self) -> Self:
        """Replaces a mean image by its average per channel."""
        if self.mean_size is None:
            return self
        whole = [[value for row in channel for value in row] for channel in self.mean if isinstance(channel, tuple)]
        return self.model_copy(update={"mean": tuple(sum(values) / len(values) for values in whole)})
