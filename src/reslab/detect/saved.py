"""Trained detectors as files: safetensors under torchvision's names, with what they are in the header."""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from reslab import runs
from reslab.detect.networks import Detector, build_detector, load_torchvision
from reslab.detect.spec import DetectorSpec
from reslab.errors import InputError
from reslab.runs import RunDir
from reslab.train.recipe import what_is_wrong
from reslab.train.state import save
from reslab.weights.files import header_of, read_safetensors

FINAL = Path("checkpoints") / "final.safetensors"
"""Where the folder of a run has its result."""


def save_detector(path: Path, detector: Detector, **about: Any) -> None:
    """Writes a detector, with more ``about`` it in the header."""
    save(path, dict(detector.model.state_dict()), {"detector": detector.spec.model_dump(mode="json"), **about})


def is_detector(source: str | Path) -> bool:
    """Whether this is the folder of a detector's run, finished or not, or a file that one wrote; nothing is loaded."""
    path = Path(source).expanduser()
    run = RunDir(path)
    try:
        return "detector" in (runs.read_json(run.recipe) if run.exists else header_of(path))
    except (InputError, OSError, ValueError):  # of a recipe that is damaged
        return False


def load_detector(source: str | Path, device: torch.device | str = "cpu") -> Detector:
    """The detector of a run's folder, or of a file that a run wrote.

    Raises:
        InputError: there is none, or it is something else.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / FINAL).exists():
            raise InputError(f"expected a finished run of 'reslab detect train' in {path}, but there is no {FINAL}")
        path = path / FINAL
    elif not path.exists():
        raise InputError(f"expected a detector, a file or the folder of a run, at {path}, but there is nothing")
    tensors, header = read_safetensors(path)
    if "detector" not in header:
        raise InputError(f"expected a detector as 'reslab detect train' writes it in {path}, but it is something else")
    try:
        spec = DetectorSpec.model_validate(header["detector"])
    except ValidationError as error:
        raise InputError(f"{path}: {what_is_wrong(error)}") from None
    detector = build_detector(spec)
    load_torchvision(detector, tensors)
    return detector.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]
