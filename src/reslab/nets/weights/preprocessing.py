"""How an image becomes a network's input: plain data that travels with the weights."""

from typing import Literal

from pydantic import Field

from reslab.nets.spec import Pixels, Spec

PerChannel = tuple[float, ...]
PerPixel = tuple[tuple[tuple[float, ...], ...], ...]


class Preprocessing(Spec):
    """input = (pixel / 255 - mean) / std, of an image resized and cropped to the size of the training images."""

    mean: PerChannel | PerPixel = Field(description="per channel, or per pixel (C, H, W): He 2015, section 4.2")
    std: PerChannel = Field(description="per channel")
    crop: tuple[Pixels, Pixels] = Field(description="height and width of the centre crop: the input's size")
    resize: int | None = Field(
        None, ge=1, description="pixels of the shorter side before the crop; null: images have the crop's size already"
    )
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def words(self) -> str:
        """One line for people."""
        size = "x".join(map(str, self.crop))
        if self.resize:
            size = f"shorter side {self.resize} ({self.interpolation}), centre crop {size}"
        per_pixel = any(isinstance(value, tuple) for value in self.mean)
        mean = "a whole image" if per_pixel else ", ".join(f"{value:.4g}" for value in self.mean)
        return f"{size}, mean {mean}, std {', '.join(f'{value:.4g}' for value in self.std)}"
