"""The bodies of answers, as they stand in the OpenAPI."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from reslab.deploy.serve.model import Found, Probabilities


class Body(BaseModel):
    """Frozen; read from our own values alone."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)


class Guess(Body):
    """A class and its probability."""

    output: int = Field(description="the number of the network's output, from 0")
    name: Annotated[str, Field(alias="class")]
    probability: float


class Prediction(Body):
    """What is said of one image."""

    name: str | None = Field(None, description="of the file, as it was sent")
    top: tuple[Guess, ...] = Field((), description="the likeliest classes, the likeliest first")
    error: str | None = Field(None, description="why there is no answer")


class Predicted(Body):
    """Answer to `POST /v1/predict`, in the order of the images."""

    model: str
    predictions: tuple[Prediction, ...]
    milliseconds: float = Field(description="from the last byte of the request until now")


class Box(Body):
    """An object: its class, how sure that is, and where it is."""

    output: int = Field(description="the number of the class, from 0")
    name: Annotated[str, Field(alias="class")]
    score: float = Field(description="0 to 1")
    box: tuple[float, float, float, float] = Field(description="left, top, right, bottom, in pixels from the top left")


class Detection(Body):
    """What was found in one image."""

    name: str | None = Field(None, description="of the file, as it was sent")
    width: int | None = Field(None, description="of the image, upright")
    height: int | None = None
    boxes: tuple[Box, ...] = Field((), description="the surest first")
    error: str | None = Field(None, description="why there is no answer")


class Detected(Body):
    """Answer to `POST /v1/detect`, in the order of the images."""

    model: str
    detections: tuple[Detection, ...]
    milliseconds: float = Field(description="from the last byte of the request until now")


class Explained(Body):
    """Answer to `POST /v1/explain`."""

    model: str
    top: tuple[Guess, ...]
    explained: Guess = Field(description="the class that the picture is of")
    picture: str = Field(description="base64 of a PNG: what the network was shown, coloured where it saw the class")
    milliseconds: float


class AboutModel(Body):
    """Answer to `GET /v1/model`."""

    name: str
    classes: tuple[str, ...]
    detects: bool = Field(description="whether it is a detector: /v1/detect is there, and /v1/predict is not")
    explains: bool = Field(description="whether /v1/explain is there")
    size: tuple[int, ...] | None = Field(description="height and width that images are fitted to; null: any")
    most_bytes: int
    most_images: int
    most_pixels: int
    formats: tuple[str, ...]


class Problem(Body):
    """Answer where there is no other."""

    error: str
    request: str = Field(description="what it is called in the log")


def top(probabilities: Probabilities, classes: tuple[str, ...], count: int) -> tuple[Guess, ...]:
    """The likeliest classes, the likeliest first; of equal ones the one with the lesser number."""
    order = (-probabilities).argsort(kind="stable")[:count]
    return tuple(guess(probabilities, classes, int(output)) for output in order)


def guess(probabilities: Probabilities, classes: tuple[str, ...], output: int) -> Guess:
    """One class."""
    return Guess(output=output, name=classes[output], probability=float(probabilities[output]))


def boxes(found: Found, classes: tuple[str, ...], least: float) -> tuple[Box, ...]:
    """Those with at least this score, in their order."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return tuple(
        Box(output=label, name=classes[label], score=score, box=tuple(edges))
        for edges, score, label in rows
        if score >= least
    )
