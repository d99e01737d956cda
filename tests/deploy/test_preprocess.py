"""Images made into input inside the network: the pixels of Pillow, whatever their size."""

import numpy as np
import pytest
import torch
from PIL import Image

from reslab.data.decode.whole import Fit, fitted_image
from reslab.data.transforms import Normalizer
from reslab.deploy.preprocess import Fitted, Interpolation, Normalised, _rounded
from reslab.weights.preprocessing import Preprocessing

SIZES = ((40, 40), (17, 60), (100, 33), (61, 59), (24, 24), (20, 24), (24, 31), (9, 7), (1, 1), (300, 200))
"""Height and width: larger and smaller than the crop, even and odd, already right."""


def photograph(height: int, width: int, channels: int = 3) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Smooth colours with noise over them, up to black and white."""
    draw = np.random.default_rng(height * 1000 + width)
    down, across = np.mgrid[:height, :width]
    waves = np.stack([np.sin(down / (5 + 3 * i) + across / (9 - i)) for i in range(channels)], 2)
    return np.clip(127 + 120 * waves + draw.normal(0, 20, waves.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", [28, None])
@pytest.mark.parametrize("crop", [(24, 24), (20, 27)])
def test_pixels_are_pillows(crop: tuple[int, int], resize: int | None, interpolation: Interpolation) -> None:
    how = Preprocessing(mean=(0,) * 3, std=(1 / 255,) * 3, crop=crop, resize=resize, interpolation=interpolation)
    inside = Fitted(how)
    apart = []
    for height, width in SIZES:
        image = photograph(height, width)
        seen = inside(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
        expected = np.asarray(fitted_image(Image.fromarray(image), Fit(crop, resize, interpolation)), np.float32)
        assert seen.shape == expected.shape
        apart.append(np.abs(seen - expected).flatten())
        # Each axis is rounded, a sum halfway either way; and Pillow begins with the other axis of tall images.
        assert apart[-1].max() < (2.01 if width >= height else 6.01), (height, width)
    assert np.concatenate(apart).mean() < 0.1


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    how = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), crop=(24, 20))
    images = torch.from_numpy(np.stack([photograph(24, 20), photograph(24, 20)[::-1]]))
    expected = Normalizer.from_values(how.mean, how.std)(images.permute(0, 3, 1, 2))
    assert torch.equal(Normalised(how)(images), expected)
    torch.testing.assert_close(Fitted(how)(images), expected, rtol=0, atol=1e-5)


def test_grey_images_and_a_mean_image() -> None:
    draw = np.random.default_rng(0)
    mean = (tuple(tuple(float(v) for v in row) for row in draw.random((8, 9))),)
    how = Preprocessing(mean=mean, std=(0.5,), crop=(8, 9))
    images = torch.from_numpy(photograph(8, 9, 1))[None]
    expected = (images.permute(0, 3, 1, 2).double() / 255 - torch.tensor(mean)) / 0.5
    torch.testing.assert_close(Fitted(how)(images).double(), expected, rtol=0, atol=1e-5)


def test_rounding_is_pythons() -> None:
    a = torch.arange(60)
    for b in (1, 2, 3, 4, 7):
        assert _rounded(a, b).tolist() == [round(value / b) for value in a.tolist()]
