"""What computes the exported file of a detector: ONNX Runtime, or OpenVINO in fp32 or bf16."""

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reslab.deploy.artefact import Format, Precision
from reslab.deploy.libraries import library, openvino_core
from reslab.deploy.runtimes import READS, Way
from reslab.detect.artefact import INPUT, OUTPUTS, DetectorAbout
from reslab.detect.detections import Detections
from reslab.errors import InputError, first_line
from reslab.train.device import has_bf16

CPU = torch.device("cpu")
Photograph = npt.NDArray[np.uint8]
"""(H, W, 3)"""


class Finder:
    """A model file, opened. For one thread at a time."""

    def _computed(self, image: Photograph) -> Sequence[npt.NDArray[Any]]:
        """Boxes, scores, labels."""
        raise NotImplementedError

    def one(self, image: Photograph) -> Detections:
        """The boxes in a picture (H, W, 3)."""
        boxes, scores, labels = self._computed(image)
        return Detections(boxes.astype(np.float64), scores.astype(np.float64), labels.astype(np.int64))

    def find(self, pictures: Iterable[Tensor]) -> list[Detections]:
        """The boxes in pictures (3, H, W), uint8."""
        return [self.one(np.ascontiguousarray(each.numpy().transpose(1, 2, 0))) for each in pictures]


class OnnxDetector(Finder):
    """By ONNX Runtime, in fp32."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Raises `InputError` where the library is missing, or does not take the file."""
        ort = library("onnxruntime")
        settings = ort.SessionOptions()
        settings.log_severity_level = 3  # errors alone: it warns of what it does not optimise
        if threads is not None:
            settings.intra_op_num_threads = threads
        try:
            self._session: Any = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        except Exception as why:  # of another library, of any kind
            raise InputError(f"{path} cannot be opened by onnxruntime: {first_line(why)}") from None

    def _computed(self, image: Photograph) -> Sequence[npt.NDArray[Any]]:
        found: list[npt.NDArray[Any]] = self._session.run(list(OUTPUTS), {INPUT: image})
        return found


class OpenVinoDetector(Finder):
    """By OpenVINO; in bf16 all but the boxes, which the file marks as fp32 (`reslab.detect.export`)."""

    def __init__(self, path: Path, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        """Raises `InputError` where the library is missing, or does not take the file."""
        core = openvino_core()
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY",
        }  # fmt: skip
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self._request: Any = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
        except Exception as why:  # of another library, of any kind
            raise InputError(f"{path} cannot be opened by openvino: {first_line(why)}") from None

    def _computed(self, image: Photograph) -> Sequence[npt.NDArray[Any]]:
        found = self._request.infer({INPUT: image}, share_inputs=True)
        return [found[name] for name in OUTPUTS]


def opened(path: Path, way: Way, *, threads: int | None = None) -> Finder:
    """A model file, ready to find boxes."""
    if way.name == "onnxruntime":
        return OnnxDetector(path, threads=threads)
    return OpenVinoDetector(path, precision=way.precision, threads=threads)


def ways(formats: Iterable[Format]) -> Iterator[Way]:
    """How files of these formats can be computed on this processor, the one that is usually quickest first."""
    given = set(formats)
    for name, reads in READS.items():
        if reads in given:
            yield Way(name, "fp32")
            if name == "openvino" and has_bf16(CPU):
                yield Way(name, "bf16")


def chosen(folder: Path, about: DetectorAbout, precision: str) -> Way:
    """The way that an artefact is computed in a precision; ``auto``: bf16 where it passed the gate.

    Raises `InputError` for bf16 without a file that can be computed so.
    """
    installed = [each for each in ways(about.models) if find_spec(each.name) is not None]
    passed = any(row.precision == "bf16" and not row.refused for row in about.gate)
    wanted = ("bf16" if passed else "fp32") if precision == "auto" else precision
    found = [each for each in installed if each.precision == wanted]
    if found:
        return found[0]
    if precision == "auto" and installed:
        return installed[0]
    if wanted == "bf16" and "openvino" not in about.models:
        raise InputError(
            f"{folder} was written for ONNX Runtime, which computes in fp32; --precision bf16 needs an export --to "
            "openvino, or the weights that it was exported from"
        )
    if wanted == "bf16" and not has_bf16(CPU):
        raise InputError(f"--precision bf16: this processor has no bf16; leave it out to compute {folder} in fp32")
    needed = " or ".join(name for name, reads in READS.items() if reads in about.models)
    raise InputError(f"{folder} needs the library {needed}: pip install 'reslab[deploy]'")
