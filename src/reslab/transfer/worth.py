"""What a fine-tuned network is worth: its scores of each validation and test image, kept with the run.

A temperature, which makes scores into probabilities that can be believed, is fitted on the validation images and kept
in the header of the weights; the test images only measure what it does.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax
from torch import nn

from reslab.data.images import ImageSet
from reslab.data.stored import Stored
from reslab.errors import InputError
from reslab.evaluate.calibration import fitted_temperature, scaled
from reslab.evaluate.figures import Figures, Labels, Logs, figures
from reslab.evaluate.metrics import autocast, evaluating
from reslab.runs import RunDir, read_json, write_atomic, write_json
from reslab.train import state
from reslab.train.device import Execution, resolve_precision
from reslab.transfer.embed import batches_of
from reslab.transfer.finetune import Prepared, helpers, network
from reslab.weights.files import read_safetensors
from reslab.weights.load import FINAL, load
from reslab.weights.preprocessing import Preprocessing

FILE = Path("eval") / "finetune.npz"
"""In the folder of the run."""
ENOUGH = 100
"""Validation images that a temperature is fitted on at least; of fewer it would be chance."""


@dataclass(frozen=True)
class Scores:
    """What a network says of some images with labels."""

    logs: Logs
    """log of the softmax scores (N, classes), as the network gives them"""
    labels: Labels
    """(N,)"""
    names: tuple[str, ...]
    """the file of each image, or its place in one (N,)"""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Worth:
    """Scores of a run's validation and test images, and the temperature."""

    classes: tuple[str, ...]
    test: Scores
    validation: Scores
    temperature: float | None
    """None: too few validation images to fit one on"""

    def calibrated(self) -> Logs:
        """Log scores of the test images at the temperature."""
        return self.test.logs if self.temperature is None else scaled(self.test.logs, self.temperature)

    def figures(self) -> tuple[Figures, Figures]:
        """Of the test images: as the network scores them, and at the temperature."""
        return figures(self.test.logs, self.test.labels), figures(self.calibrated(), self.test.labels)


@torch.no_grad()
def scores_of(
    net: nn.Module, images: Stored | ImageSet, preprocessing: Preprocessing, *, names: tuple[str, ...], precision: str,
    device: torch.device, workers: int = 0,
) -> Scores:  # fmt: skip
    """The scores of all images of a split, one centre crop each. Raises `InputError` where one is damaged."""
    rows, labels = [], []
    with evaluating(net):
        for x, wanted in batches_of(images, preprocessing, device=device, workers=workers):
            with autocast(device, precision):
                rows.append(net(x).float().cpu().numpy())
            labels.append(wanted.cpu().numpy())
    if not rows:
        return Scores(np.empty((0, 0), np.float32), np.empty(0, np.int64), names)
    logs: Logs = log_softmax(np.concatenate(rows), axis=1).astype(np.float32)
    return Scores(logs, np.concatenate(labels).astype(np.int64), names)


def measure(prepared: Prepared, out: Path, execution: Execution) -> Worth:
    """The worth of a finished run, computed once and then read from its folder; adds the temperature to its weights.

    Raises:
        InputError: an image is damaged, or the folder cannot be written.
    """
    run = RunDir(out)
    if (out / FILE).exists() and "accuracy" in read_json(run.result):
        return read(out)
    weights = load(out)
    how = {
        "precision": resolve_precision(prepared.recipe.precision, execution.device),
        "device": execution.device,
        "workers": helpers(execution, len(prepared.division.test)),
    }
    net = network(weights, execution)
    parts = (prepared.data.test, prepared.division.test), (prepared.data.validation, prepared.division.validation)
    test, validation = (
        Scores(np.empty((0, len(prepared.looked.classes)), np.float32), np.empty(0, np.int64), ())
        if images is None
        else scores_of(net, images, prepared.preprocessing, names=_named(prepared, index), **how)  # type: ignore[arg-type]
        for images, index in parts
    )
    temperature = None
    if len(validation) >= ENOUGH and np.isfinite(validation.logs).all():
        temperature = fitted_temperature(validation.logs, validation.labels)
    worth = Worth(prepared.looked.classes, test, validation, temperature)
    _keep(worth, out)
    return worth


def _named(prepared: Prepared, index: npt.NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(prepared.looked.names[i] for i in index.tolist())


def _keep(worth: Worth, out: Path) -> None:
    run = RunDir(out)
    about = {
        "classes": worth.classes, "temperature": worth.temperature,
        "names": {"test": worth.test.names, "validation": worth.validation.names},
    }  # fmt: skip

    def write(temporary: Path) -> None:
        with temporary.open("wb") as handle:
            np.savez_compressed(
                handle, test_logs=worth.test.logs, test_labels=worth.test.labels, about=np.array(json.dumps(about)),
                validation_logs=worth.validation.logs, validation_labels=worth.validation.labels,
            )  # fmt: skip

    (out / FILE).parent.mkdir(exist_ok=True)
    write_atomic(out / FILE, write)
    if worth.temperature is not None:
        tensors, header = read_safetensors(out / FINAL)
        state.save(out / FINAL, tensors, header | {"temperature": worth.temperature})
    plain, calibrated = worth.figures()
    low, high = plain.top1_interval
    write_json(
        run.result,
        read_json(run.result)
        | {
            "accuracy": 100 - plain.top1_error,
            "accuracy_interval": [100 - high, 100 - low],
            "temperature": worth.temperature,
            "calibration_error": plain.calibration_error,
            "calibration_error_at_temperature": calibrated.calibration_error,
        },
    )


def read(out: Path) -> Worth:
    """What `measure` left in the folder of a run. Raises `InputError` where there is none."""
    try:
        with (out / FILE).open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as why:
        raise InputError(
            f"{out}: expected a finished fine-tuning with its scores in {FILE}, but {getattr(why, 'strerror', why)}; "
            "run `reslab finetune` to its end"
        ) from None
    about: dict[str, Any] = json.loads(str(arrays["about"][()]))
    test, validation = (
        Scores(arrays[f"{name}_logs"], arrays[f"{name}_labels"], tuple(about["names"][name]))
        for name in ("test", "validation")
    )
    return Worth(tuple(about["classes"]), test, validation, about["temperature"])
