"""A model that is told from afar: which of three colours a picture has the most of. It can be held up."""

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from reslab.deploy.serve.app import application
from reslab.deploy.serve.decoding import How, Pixels
from reslab.deploy.serve.limits import Limits
from reslab.deploy.serve.model import Detecting, Found, Model, Probabilities
from reslab.deploy.serve.service import Service


class Colours:
    """As `reslab.deploy.serve.model.Model`."""

    name = "colours"
    classes = ("red", "green", "blue & <b>bold</b>")
    how = How(channels=3, crop=(16, 16))

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.goes_on = threading.Event()
        self.goes_on.set()

    def probabilities(self, images: Sequence[Pixels]) -> Sequence[Probabilities]:
        self.batches.append(len(images))
        assert self.goes_on.wait(30)
        shares = np.stack([image.reshape(-1, 3).mean(0) + 1 for image in images]).astype(np.float32)
        return list(shares / shares.sum(1, keepdims=True))


class ExplainedColours(Colours):
    """And as `reslab.deploy.serve.model.Explaining`."""

    def heat(self, pixels: Pixels, output: int | None) -> tuple[Probabilities, int, bytes]:
        [found] = self.probabilities([pixels])
        chosen = int(found.argmax()) if output is None else output
        out = io.BytesIO()
        Image.fromarray(pixels[:, :, chosen]).save(out, "PNG")
        return found, chosen, out.getvalue()


class Patches:
    """As `reslab.deploy.serve.model.Detecting`: where a picture is red, by halves of it surer and less sure."""

    name = "patches"
    classes = ("red <i>", "half")
    how = How(channels=3, crop=None)

    def detect(self, images: Sequence[Pixels]) -> Sequence[Found]:
        return [self._one(image) for image in images]

    def _one(self, image: Pixels) -> Found:
        rows, columns = np.nonzero((image[..., 0] > 200) & (image[..., 1] < 80))
        if not len(rows):
            return Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), *image.shape[:2])
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        boxes = np.array([[left, top, right, bottom], [left, top, (left + right) / 2, bottom]], np.float64)
        return Found(boxes, np.array([0.9, 0.3]), np.array([0, 1]), *image.shape[:2])


def patch(size: tuple[int, int], box: tuple[int, int, int, int], kind: str = "PNG") -> bytes:
    """A blue picture of width and height ``size``, red in the box (left, top, right, bottom)."""
    out = io.BytesIO()
    image = Image.new("RGB", size, "blue")
    image.paste("red", box)
    image.save(out, kind)
    return out.getvalue()


def picture(colour: str = "red", size: tuple[int, int] = (20, 20), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


SMALL = Limits(
    bytes=100_000, bytes_at_a_time=250_000, images=4, pixels=1_000_000, receive_seconds=60.0, places=8, patience=60.0
)


@contextmanager
def client(model: Model | Detecting | None = None, limits: Limits = SMALL, **more: Any) -> Iterator[TestClient]:
    service = Service(model or ExplainedColours(), limits, batch=4)
    with TestClient(application(service, **more), raise_server_exceptions=False) as found:
        yield found
