"""An artefact behind the server, by whichever runtime opened it. Imports without torch."""

from collections.abc import Sequence

from reslab.deploy.artefact import About
from reslab.deploy.feed import logits_of, normalised, probabilities
from reslab.deploy.runtimes import Runtime
from reslab.deploy.serve.decoding import How, Pixels
from reslab.deploy.serve.model import Probabilities, address


class ArtefactModel:
    """As `reslab.deploy.serve.model.Model`."""

    def __init__(self, runtime: Runtime, about: About, classes: tuple[str, ...], batch: int) -> None:
        self._runtime, self._about, self._batch = runtime, about, batch
        self.name, self.classes = address(about.net), classes
        how = about.preprocessing
        fitted = {"crop": how.crop, "resize": how.resize, "interpolation": how.interpolation}
        self.how = How.model_validate(
            {"channels": about.channels, "crop": None, "oriented": how.oriented is not False}
            | ({} if about.input == "photographs" else fitted)
        )

    def probabilities(self, images: Sequence[Pixels]) -> Sequence[Probabilities]:
        """Of each image (H, W, C); those of one size are computed together."""
        logits = logits_of(self._runtime, (normalised(each, self._about) for each in images), self._batch)
        return list(probabilities(logits, self._about.temperature))
