"""Draws a heat map over the picture."""

import numpy as np
import numpy.typing as npt
from PIL import Image

LEAST_SIDE = 224
"""Pixels of a picture's shorter side, at least: small images are enlarged, so that something can be seen."""
STRONGEST = 0.6
"""How much of the colour there is where the map is greatest; where it is 0 the picture is in grey."""
_STOPS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)
"""Colours at 0, 1/4, ..., 1 of matplotlib's inferno: told apart without seeing red or green."""


def heat(pixels: npt.NDArray[np.uint8], values: npt.NDArray[np.floating]) -> Image.Image:
    """A map blended over a picture: grey where it is 0, coloured the more the greater it is.

    Args:
        pixels: (H, W, 1) or (H, W, 3).
        values: (h, w), none below 0; scaled by its greatest. Laid over the whole picture, interpolated bilinearly.
    """
    grey = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("L")
    enlarged = max(1, -(-LEAST_SIDE // min(grey.size)))
    size = grey.width * enlarged, grey.height * enlarged
    under = np.asarray(grey.resize(size, Image.Resampling.NEAREST), np.float32)[:, :, None]
    top = float(values.max())
    scaled = (values / top if top > 0 else np.zeros_like(values)).astype(np.float32)
    share = np.asarray(Image.fromarray(scaled).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
    places = np.linspace(0, 1, len(_STOPS))
    colours = np.stack([np.interp(share, places, _STOPS[:, i]) for i in range(3)], axis=2)
    alpha = STRONGEST * share[:, :, None]
    return Image.fromarray(np.rint((1 - alpha) * under + alpha * colours).astype(np.uint8))
