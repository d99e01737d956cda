"""Images in, probabilities out, by an artefact: as `reslab.evaluate.classify` by a network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from reslab.deploy.artefact import About
from reslab.deploy.feed import MOST_WAITING, logits_of, normalised, probabilities, shown_pixels
from reslab.deploy.runtimes import Runtime
from reslab.errors import InputError
from reslab.evaluate.classify import SOME, Answering, Answers, AnyImage, Shown, decoded


@dataclass(frozen=True)
class Exported(Answering):
    """An artefact, opened, with all that turns an image into what it takes."""

    runtime: Runtime
    about: About
    """its ``oriented``, where nobody said, is taken as yes: these are a user's own photographs"""
    batch: int = 32
    """images computed at a time, those of one size together"""

    def __post_init__(self) -> None:
        if self.about.channels not in (1, 3):
            raise InputError(f"no image file has the {self.about.channels} channels that the artefact takes")
        if self.batch < 1:
            raise InputError(f"a batch takes 1 or more images, got {self.batch}")
        if self.about.input == "photographs":  # which are large: fewer are decoded ahead
            object.__setattr__(self, "some", max(1, SOME // 4))

    def pixels(self, image: AnyImage, name: str = "the image") -> npt.NDArray[np.uint8]:
        """An image as pixels (H, W, C), whole if the artefact resizes it. `InputError` begins with its name."""
        how = self.about.preprocessing
        return shown_pixels(decoded(image, name, self.about.channels, oriented=how.oriented is not False), self.about)

    def at_once(self, waiting: Sequence[Shown]) -> int:
        """Fewer than a batch where they are large."""
        held = 0
        for count, each in enumerate(waiting[: self.batch], 1):
            held += 0 if each.pixels is None else each.pixels.nbytes
            if count == self.batch or held > MOST_WAITING:
                return count
        return 0

    def answer(self, shown: Sequence[Shown]) -> Answers:
        """In batches of those of one size."""
        rows = [normalised(each.pixels, self.about) for each in shown if each.pixels is not None]
        if not rows:
            return Answers(list(shown), torch.empty(0, 0), torch.empty(0))
        logits = logits_of(self.runtime, rows, self.batch)
        found = torch.from_numpy(probabilities(logits, self.about.temperature))
        return Answers(list(shown), found, torch.empty(0))
