"""Pictures and boxes as a detector takes them; what comes when is a function of the seed and the step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from reslab.data.decode.whole import Encoded, whole
from reslab.data.draws import integers, permutation
from reslab.detect.annotations.types import Picture
from reslab.detect.drawn import pixels_of

_FLIP = 91  # which random numbers they are
CACHE = 1 << 30
"""Bytes of decoded pictures that are kept."""


def decoded(picture: Picture) -> Tensor:
    """Upright pixels (3, H, W), uint8. Raises `InputError` that names a damaged picture."""
    return pixels_of(whole(Encoded(str(picture.path), picture.path, oriented=True), 3))


def target(picture: Picture, *, flipped: bool) -> dict[str, Tensor]:
    """Boxes (n, 4) and labels (n,), counted from 1, that are to be learnt: neither difficult ones nor crowds."""
    kept = ~picture.ignored()
    boxes = torch.from_numpy(picture.corners()[kept]).float().reshape(-1, 4)
    if flipped:
        boxes = torch.stack([picture.width - boxes[:, 2], boxes[:, 1], picture.width - boxes[:, 0], boxes[:, 3]], 1)
    return {"boxes": boxes, "labels": torch.from_numpy(picture.labels()[kept]) + 1}


class Feed:
    """The training pictures in the order of their epochs."""

    def __init__(self, pictures: Sequence[Picture], batch: int, *, flip: bool, seed: int) -> None:
        self.pictures, self.batch, self.flip, self.seed = tuple(pictures), batch, flip, seed
        self._kept: dict[int, Tensor] = {}
        self._room = CACHE
        self._order: tuple[int, Tensor] | None = None

    def chosen(self, iteration: int) -> list[tuple[int, bool]]:
        """Which pictures a step takes, counted from 0, and which of them are mirrored."""
        n, found = len(self.pictures), []
        for position in range(iteration * self.batch, (iteration + 1) * self.batch):
            epoch, place = divmod(position, n)
            if self._order is None or self._order[0] != epoch:
                self._order = epoch, permutation(n, self.seed, epoch)
            index = self._order[1][place]
            mirrored = self.flip and bool(integers(index, 2, self.seed, epoch, _FLIP))
            found.append((int(index), mirrored))
        return found

    def take(self, iteration: int, device: torch.device) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Pictures (3, H, W) in 0 to 1, and targets, of a step."""
        images, targets = [], []
        for index, mirrored in self.chosen(iteration):
            pixels = self._pixels(index).to(device).float() / 255
            images.append(pixels.flip(2) if mirrored else pixels)
            made = target(self.pictures[index], flipped=mirrored)
            targets.append({name: tensor.to(device) for name, tensor in made.items()})
        return images, targets

    def _pixels(self, index: int) -> Tensor:
        known = self._kept.get(index)
        if known is not None:
            return known
        pixels = decoded(self.pictures[index])
        if pixels.numel() <= self._room:
            self._room -= pixels.numel()
            self._kept[index] = pixels
        return pixels
