"""All that decides what a detector is trained to: the same recipe on the same pictures means the same training."""

from typing import Literal

from pydantic import Field

from reslab.detect.spec import DetectorSpec
from reslab.train.recipe import Finite, Precision, Ramp, Schedule, Sgd


class DetectRecipe(Finite):
    """A training of a detector, all of its parts together ("approximate joint training", Ren et al. 2015, 3.2)."""

    detector: DetectorSpec
    scales: tuple[int, ...] = Field((), description="short sides to draw from at each picture; () is the detector's")
    flip: bool = Field(True, description="every second picture of chance is mirrored, with its boxes")
    learns: Literal["train", "trainval"] = Field("train", description="the splits that are learnt from")
    batch: int = Field(4, ge=1, description="pictures of a step")
    iterations: int = Field(ge=1)
    optimizer: Sgd = Sgd(lr=0.01)
    schedule: Schedule = Ramp(start=0.05, peak=0.1, end=0.0)
    evaluate_every: int = Field(500, ge=1)
    seed: int = 0
    precision: Precision = "auto"
