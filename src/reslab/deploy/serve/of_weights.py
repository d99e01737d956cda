"""Weights behind the server: PyTorch computes, and can say where it looked."""

import io
from collections.abc import Sequence

import torch

from reslab.deploy.serve.decoding import How, Pixels
from reslab.deploy.serve.model import Probabilities, address
from reslab.evaluate.classify import Answers, Classifying, Shown
from reslab.nets.network import Network
from reslab.probes.attribution import grad_cam
from reslab.probes.overlay import heat
from reslab.probes.seam import Sample


class TorchModel:
    """As `reslab.deploy.serve.model.Model`."""

    def __init__(self, classifying: Classifying, name: str, classes: tuple[str, ...]) -> None:
        self._classifying = classifying
        self.name, self.classes = address(name), classes
        how = classifying.preprocessing
        self.how = How(
            channels=classifying.channels, crop=how.crop, resize=how.resize, interpolation=how.interpolation,
            oriented=how.oriented is not False,
        )  # fmt: skip

    def probabilities(self, images: Sequence[Pixels]) -> Sequence[Probabilities]:
        """Of each image (H, W, C)."""
        return list(self._answers(images).probabilities.numpy())

    def _answers(self, images: Sequence[Pixels]) -> Answers:
        return self._classifying.answer([Shown("", pixels) for pixels in images])


class ExplainingTorchModel(TorchModel):
    """The same of a network in Reslab's grammar, whose blocks can be looked into."""

    def __init__(self, classifying: Classifying, name: str, classes: tuple[str, ...]) -> None:
        super().__init__(classifying, name, classes)
        assert isinstance(classifying.net, Network)

    def heat(self, pixels: Pixels, output: int | None) -> tuple[Probabilities, int, bytes]:
        """By Grad-CAM at the last block."""
        answers = self._answers([pixels])
        found = answers.probabilities[0].numpy()
        chosen = int(found.argmax()) if output is None else output
        asked = torch.tensor([chosen], device=answers.x.device)
        sample = Sample(answers.x, asked, batch=1, precision=self._classifying.precision)
        maps = grad_cam(self._classifying.net, sample, classes=asked).maps
        out = io.BytesIO()
        heat(pixels, maps[0]).save(out, "PNG")
        return found, chosen, out.getvalue()


def of_weights(classifying: Classifying, name: str, classes: tuple[str, ...]) -> TorchModel:
    """A model for the server; one that explains, where the network can be looked into."""
    net = classifying.net
    explains = isinstance(net, Network) and net.spec.stem.kind != "dense"
    return (ExplainingTorchModel if explains else TorchModel)(classifying, name, classes)
