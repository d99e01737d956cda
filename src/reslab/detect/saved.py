"""Trained detectors as files: safetensors under torchvision's names, with what they are in the header."""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from reslab import runs
from reslab.deploy.artefact import is_artefact
from reslab.detect.networks import Detector, build_detector, load_torchvision
from reslab.detect.spec import DetectorSpec
from reslab.errors import InputError
from reslab.runs import RunDir
from reslab.train.recipe import what_is_wrong
from reslab.train.state import save
from reslab.weights.files import header_of, read_safetensors

FINAL = Path("checkpoints") / "final.safetensors"
"""Where the folder of a run has its result."""
_CLASSIFIERS = "'reslab predict', 'reslab eval' and 'reslab serve' take it"


def save_detector(path: Path, detector: Detector, **about: Any) -> None:
    """Writes a detector, with more ``about`` it in the header."""
    save(path, dict(detector.model.state_dict()), {"detector": detector.spec.model_dump(mode="json"), **about})


def is_detector(source: str | Path) -> bool:
    """Whether this is the folder of a detector's run, finished or not, or a file that one wrote; nothing is loaded."""
    path = Path(source).expanduser()
    if RunDir(path).exists:
        return _spec_of_run(path) is not None
    header = header_of(path)
    return "detector" in header or ("iteration" in header and _spec_of_run(_run_of(path)) is not None)


def load_detector(source: str | Path, device: torch.device | str = "cpu") -> Detector:
    """The detector of a run's folder, of a file that a run wrote, or of a checkpoint in such a folder.

    Raises:
        InputError: there is none, or it is something else.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if is_artefact(path):
            raise InputError(f"{path} is the artefact of a classifier: {_CLASSIFIERS}")
        if not (path / FINAL).exists():
            unfinished = (
                f"the run has not finished; continue with reslab detect train --resume {path}, or name one of its "
                "checkpoints"
            )
            raise InputError(
                f"expected a run of 'reslab detect train' in {path}, but "
                f"{unfinished if is_detector(path) else 'there is none'}"
            )
        path = path / FINAL
    elif not path.exists():
        raise InputError(f"expected a detector, a file or the folder of a run, at {path}, but nothing is there")
    tensors, header = read_safetensors(path)
    plain = header.get("detector")
    if plain is None and "iteration" in header:
        plain = _spec_of_run(_run_of(path))
        tensors = {name.removeprefix("model."): each for name, each in tensors.items() if name.startswith("model.")}
    if plain is None:
        kind = f"those of a classifier: {_CLASSIFIERS}" if "net" in header else "something else"
        raise InputError(
            f"expected the weights of a detector, as 'reslab detect train' writes, in {path}, found {kind}"
        )
    try:
        spec = DetectorSpec.model_validate(plain)
    except ValidationError as error:
        raise InputError(f"{path}: {what_is_wrong(error)}") from None
    detector = build_detector(spec)
    load_torchvision(detector, tensors)
    return detector.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def _run_of(checkpoint: Path) -> Path:
    return checkpoint.resolve().parent.parent


def _spec_of_run(folder: Path) -> Any:
    """What a run trains, as plain values; None where it is no run of a detector."""
    try:
        recipe = runs.read_json(RunDir(folder).recipe)
    except (InputError, OSError, ValueError):  # none, or damaged
        return None
    return recipe.get("detector") if isinstance(recipe, dict) else None
