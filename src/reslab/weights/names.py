"""How weights are named: by a hub's name or a path, and which set of a file. Importable without torch."""

from typing import Literal

PREFIXES = ("reslab:", "torchvision:", "timm:", "hf:")
Which = Literal["ema", "raw"]
"""Of a file that holds both: the average over the training (``ema``), or the weights as the last step left them."""
DEFAULT: Which = "ema"
"""Scripts that keep an average choose their best checkpoint and report their accuracy by it; timm's loader and
torchvision's ``--test-only`` take it too, where there is one."""


def is_hub(source: str) -> bool:
    """Whether this names weights on a hub rather than a file."""
    return source.startswith(PREFIXES)
