"""The error of an artefact: what `reslab.evaluate.predict` is for weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from reslab.data.decode.whole import Fit
from reslab.data.views import AsItIs, Views
from reslab.deploy.artefact import Artefact
from reslab.deploy.feed import normalised, stacked
from reslab.deploy.runtimes import Runtime
from reslab.errors import InputError
from reslab.evaluate.predict import Question, timed
from reslab.evaluate.predictions import Predictions
from reslab.evaluate.scores import Scored
from reslab.nets.spec import AnyNet
from reslab.weights.load import Weights


@dataclass(frozen=True)
class Behind(Weights):
    """What is known of the weights behind an artefact, without the weights."""

    print: str = ""

    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of what is computed."""
        return self.print


def spec_of(artefact: Artefact) -> AnyNet:
    """The network that an artefact was made of. Raises `InputError` for one that does not describe it."""
    if artefact.about.spec is None:
        raise InputError(f"{artefact.folder} does not say which network it is; export it again")
    return artefact.about.spec


def behind(artefact: Artefact, file: str) -> Behind:
    """The network that an artefact was made of, as far as an evaluation asks; ``file`` is what is computed.

    Raises `InputError` for an artefact that does not describe its network.
    """
    about = artefact.about
    return Behind(
        spec_of(artefact), {}, str(artefact.folder), "exported", about.preprocessing, about.classes, certain=True,
        print=about.files[file].sha256[:16],
    )  # fmt: skip


def predictions(question: Question, artefact: Artefact, runtime: Runtime, *, batch: int = 100) -> Predictions:
    """The artefact's scores of the images of an evaluation by one crop, which it makes itself where it can.

    Raises `InputError` for images that cannot be decoded.
    """
    about = artefact.about
    how = about.preprocessing
    shown = AsItIs() if about.input == "photographs" else Fit(how.crop, how.resize, how.interpolation)
    views = Views(
        question.images.listed, shown, batch=batch, unit=how.crop, most_damaged=question.images.most_damaged,
        while_the_caller_computes=False,
    )  # fmt: skip

    def score(seen: Callable[[int], None]) -> Scored:
        logs = torch.full((len(views), about.num_classes), -math.inf)
        whole = torch.zeros(len(views), dtype=torch.bool)
        for view in views:
            pixels = view.parts[0].permute(0, 2, 3, 1).numpy()  # (n, C, H, W) -> (n, H, W, C)
            rows = [normalised(np.ascontiguousarray(each), about) for each in pixels]
            logs[view.index] = torch.from_numpy(runtime.logits(stacked(rows))).log_softmax(1)
            whole[view.index] = True
            seen(len(view.index))
        if not whole.any():
            raise InputError("no image could be decoded, so there is nothing to evaluate")
        return Scored(logs[whole], whole)

    return timed(question, views, score)
