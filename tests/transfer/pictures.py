"""Folders of small pictures whose classes can be told apart, and weights to begin from."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reslab.nets.catalog import resolve_any
from reslab.nets.network import build
from reslab.train.state import save
from reslab.weights.load import header_of
from reslab.weights.preprocessing import Preprocessing

SIDE = 16
COLOURS = {"blue": (40, 60, 200), "green": (30, 170, 60), "red": (200, 50, 40)}


def picture(name: str, seed: int, side: int = SIDE) -> Image.Image:
    """Blobs around the class's colour; another picture for each seed."""
    rng = np.random.default_rng([seed, *name.encode()])
    coarse = np.clip(np.array(COLOURS[name]) + rng.integers(-90, 90, (4, 4, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def folder(root: Path, each: int, *, side: int = SIDE, split: str = "") -> Path:
    """``ROOT/[SPLIT/]CLASS/N.png``, so many of each class."""
    for name in COLOURS:
        place = root / split / name
        place.mkdir(parents=True)
        for number in range(each):
            picture(name, number + 1000 * len(split), side).save(place / f"{number:03d}.png")
    return root


def weights(path: Path, net: str = "cifar_resnet(depth=8, width=4)", *, side: int = SIDE, classes: int = 5) -> Path:
    """Drawn weights of a small network for images of that size, with their preprocessing, as a file."""
    spec = resolve_any(net, num_classes=classes, size=(side, side))
    module = build(net, num_classes=classes, size=(side, side), seed=3)
    with torch.no_grad():  # statistics of BN that a training would have left
        module.train()(torch.rand(64, 3, side, side) - 0.5)
    about = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), crop=(side, side))
    save(path, dict(module.eval().state_dict()), header_of(spec, about, tuple("abcde"[:classes])))
    return path
