"""Where an artefact saw a class: class activation maps, which need no gradient.

Of a network that ends in global average pooling and a linear layer the logit of class c is b_c plus the mean over
positions of sum_k w_ck f_k, so that this sum says how much each position speaks for the class (Zhou et al. 2016, arXiv
1512.04150, eq. 2). Grad-CAM at what the pooling takes is the positive part of the same, but for a factor.

Imports without torch: so does what serves an artefact.
"""

import numpy as np
import numpy.typing as npt

from reslab.deploy.artefact import Artefact
from reslab.deploy.runtimes import Maps
from reslab.errors import InputError

Head = npt.NDArray[np.float32]
"""(classes, C), the weights of the last layer."""


def head(artefact: Artefact) -> Head | None:
    """The weights that make maps of an artefact's second output; None where it has none. Raises `InputError`."""
    about = artefact.about
    if about.head is None:
        return None
    try:
        found: Head = np.load(artefact.folder / about.head, allow_pickle=False)
    except (OSError, ValueError) as why:
        raise InputError(f"{artefact.folder / about.head} is not an array of weights ({why}); export again") from None
    if found.dtype != np.float32 or found.ndim != 2 or len(found) != about.num_classes:
        raise InputError(
            f"{artefact.folder / about.head}: expected fp32 weights of {about.num_classes} classes, found "
            f"{found.dtype} of {found.shape}; export again"
        )
    return found


def class_activation(maps: Maps, weights: Head, output: int) -> npt.NDArray[np.float32]:
    """The positive part of a class's activation map, (H, W), of an image's maps (C, H, W)."""
    found: npt.NDArray[np.float32] = np.maximum(np.einsum("c,chw->hw", weights[output], maps), 0)
    return found
