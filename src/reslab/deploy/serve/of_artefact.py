"""An artefact behind the server, by whichever runtime opened it. Imports without torch."""

import io
from collections.abc import Sequence

from PIL import Image

from reslab.data.decode.modes import pixels_of
from reslab.data.decode.whole import Fit, fitted_image
from reslab.deploy.artefact import About
from reslab.deploy.feed import logits_of, normalised, probabilities, stacked
from reslab.deploy.maps import Head, class_activation
from reslab.deploy.runtimes import Locating, Runtime
from reslab.deploy.serve.decoding import How, Pixels
from reslab.deploy.serve.model import Probabilities, address
from reslab.probes.overlay import heat


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


class ExplainingArtefactModel(ArtefactModel):
    """The same of an artefact that puts out the maps behind its logits."""

    def __init__(self, runtime: Locating, about: About, classes: tuple[str, ...], batch: int, head: Head) -> None:
        super().__init__(runtime, about, classes, batch)
        self._locating, self._head = runtime, head

    def heat(self, pixels: Pixels, output: int | None) -> tuple[Probabilities, int, bytes]:
        """By class activation maps, over the part of the picture that the network is shown."""
        logits, maps = self._locating.with_maps(stacked([normalised(pixels, self._about)]))
        found = probabilities(logits, self._about.temperature)[0]
        chosen = int(found.argmax()) if output is None else output
        out = io.BytesIO()
        heat(self._shown(pixels), class_activation(maps[0], self._head, chosen)).save(out, "PNG")
        return found, chosen, out.getvalue()

    def _shown(self, pixels: Pixels) -> Pixels:
        if self._about.input != "photographs":
            return pixels  # which are cropped
        how = self._about.preprocessing
        flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
        return pixels_of(fitted_image(Image.fromarray(flat), Fit(how.crop, how.resize, how.interpolation)))


def of_artefact(
    runtime: Locating, about: About, classes: tuple[str, ...], batch: int, head: Head | None
) -> ArtefactModel:  # fmt: skip
    """A model for the server; one that explains, where there is a ``head`` (`reslab.deploy.maps.head`)."""
    if head is None:
        return ArtefactModel(runtime, about, classes, batch)
    return ExplainingArtefactModel(runtime, about, classes, batch, head)
