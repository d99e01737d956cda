"""The scores of a network on a data set as a file, so that another figure or an ensemble computes nothing again."""

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from reslab.errors import InputError
from reslab.evaluate.figures import Labels, Logs
from reslab.evaluate.protocols import Protocol
from reslab.nets.spec import Spec
from reslab.runs.files import write_atomic

SUFFIX = ".npz"


class About(Spec):
    """What scores are of, and how they came about."""

    format: Literal[1] = 1
    weights: str = Field(description="where they came from, for people")
    weights_fingerprint: str
    net: str
    net_fingerprint: str = Field(description="of its specification: the same weights fit look-alikes")
    data: str = Field(description="its name, for people")
    split: str
    data_fingerprint: str = Field(description="of the images in their order, and the class of each")
    data_stamp: str = Field("", description="of the times at which its files were last written, where they are files")
    classes: tuple[str, ...] = Field(description="of the data")
    numbers: tuple[int, ...] = Field(description="the output that is each of these classes")
    outputs: tuple[str | None, ...] = Field(description="names of the outputs; null where nobody says")
    outputs_said: str = Field("", description="how the classes were found among the outputs, for people")
    protocol: Protocol
    preprocessing: dict[str, Any]
    input: str = Field("", description="the preprocessing for people")
    precision: str
    recalibrated: str = Field("", description="which images BN's statistics were computed anew over, if they were")
    most_damaged: int = Field(0, description="images that might be left out")
    left_out: tuple[str, ...] = Field((), description="images that could not be decoded, and why")
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    when: str = ""
    reslab: str = ""

    def key(self) -> str:
        """16 hex digits over all that decides the scores: weights, network, images, protocol, preprocessing, precision.

        Not over where it was computed: the device and the number of threads change the rounding.
        """
        deciding = (
            "weights_fingerprint", "net_fingerprint", "data_fingerprint", "numbers", "outputs", "protocol",
            "preprocessing", "precision", "recalibrated", "most_damaged",
        )  # fmt: skip
        values = self.model_dump(mode="json", include=set(deciding))
        if self.data_stamp:  # an image may have been edited in place, its name and length being what they were
            values["data_stamp"] = self.data_stamp
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Predictions:
    """Scores of images, with their labels."""

    logs: Logs
    """log of the averaged softmax scores (N, outputs): as logarithms no order is lost where a score rounds to 0 or 1"""
    labels: Labels
    """the output that is right for each image (N,)"""
    about: About
    names: tuple[str, ...] = ()
    """of the images: their paths below the folder, or their places in a file; none where they have none"""


def save(predictions: Predictions, path: Path) -> None:
    """Writes a file atomically: arrays ``logs``, ``labels`` and ``names`` (UTF-8), and ``about`` as JSON.

    Nothing in it is a pickle.

    Raises `InputError` for a name that does not end in .npz; OSError where the file cannot be written.
    """
    if path.suffix != SUFFIX:
        raise InputError(f"predictions are saved as a file of NumPy: expected a name that ends in {SUFFIX}, got {path}")

    def write(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            np.savez(
                handle, logs=predictions.logs, labels=predictions.labels,
                about=np.array(predictions.about.model_dump_json()),
                names=np.array([os.fsencode(name) for name in predictions.names] or np.empty(0, "S1")),
            )  # fmt: skip

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, write)


def load(path: Path) -> Predictions:
    """Reads what `save` wrote. Raises `InputError` for anything else: missing, cut short, or not in agreement."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            logs, labels, about = stored["logs"], stored["labels"], str(stored["about"][()])
            names = tuple(os.fsdecode(bytes(name)) for name in stored["names"]) if "names" in stored.files else ()
    except FileNotFoundError:
        raise InputError(f"expected predictions at {path}, but there is no such file") from None
    except (OSError, ValueError, EOFError, KeyError, IndexError, TypeError, zipfile.BadZipFile, zlib.error) as why:
        reason = (str(why).splitlines() or [type(why).__name__])[0][:100]
        raise InputError(
            f"{path}: expected predictions that `reslab eval --save` wrote, found something else or a part of it "
            f"({reason}); make it anew"
        ) from None
    try:
        known = About.model_validate_json(about)
    except ValidationError as why:
        error = why.errors()[0]
        place = ".".join(map(str, error["loc"]))
        raise InputError(
            f"{path}: its description is not one that this version of reslab knows ({place}: {error['msg']}); make it "
            "anew"
        ) from None
    _check(path, logs, labels, known)
    if names and len(names) != len(labels):
        raise InputError(f"{path} is damaged: it has {len(names)} names for {len(labels)} images; make it anew")
    return Predictions(logs, labels, known, names)


def _check(path: Path, logs: npt.NDArray[Any], labels: npt.NDArray[Any], about: About) -> None:
    """That the parts of a file go together."""
    wrong = None
    if logs.dtype != np.float32 or logs.ndim != 2 or not logs.size:
        wrong = f"scores of {logs.dtype} {logs.shape}, expected float32 (images, classes)"
    elif labels.dtype != np.int64 or labels.shape != logs.shape[:1]:
        wrong = f"labels of {labels.dtype} {labels.shape} for {len(logs)} images, expected int64 and one each"
    elif len(about.outputs) != logs.shape[1]:
        wrong = f"{len(about.outputs)} names for {logs.shape[1]} outputs"
    elif labels.min() < 0 or labels.max() >= logs.shape[1]:
        wrong = f"labels {labels.min()} to {labels.max()} for {logs.shape[1]} outputs"
    elif not set(about.numbers) <= set(range(logs.shape[1])) or len(about.numbers) != len(about.classes):
        wrong = f"outputs {about.numbers[:5]}, ... for {len(about.classes)} classes"
    elif (logs > 1e-3).any():
        wrong = f"a score of {float(np.exp(np.nanmax(logs).astype(np.float64))):.3g}, expected 1 at most"
    if wrong:
        raise InputError(f"{path} is damaged: it has {wrong}; make it anew by `reslab eval --save`")
