"""Runtimes behind one interface: images in, logits out, whoever computes them.

Imports without torch, which the runtime of that name alone needs; each library is imported when it is opened.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from reslab.deploy.artefact import About, Artefact, Checked, Format, Precision, RuntimeName, read
from reslab.deploy.libraries import library, openvino_core
from reslab.errors import InputError, first_line

Batch = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
"""Images as the artefact's ``input`` says: uint8 (N, H, W, C), or fp32 (N, C, H, W)."""
Logits = npt.NDArray[np.float32]
"""(N, classes)."""
Maps = npt.NDArray[np.float32]
"""(N, C, H, W): what the network's last layer weighs the means of."""
READS: dict[RuntimeName, Format] = {"openvino": "openvino", "onnxruntime": "onnx", "torch": "torch"}
"""The format that each takes; the one that is usually quickest on a CPU first."""
MOMENT = 1.0
"""Seconds that the candidates together are tried for."""
ALONE = "not timed: there is no other"
APART = 2
"""Images for each thread from which on OpenVINO computes parts of a batch apart."""


class Runtime(Protocol):
    """What computes an artefact. For one thread at a time."""

    name: RuntimeName
    precision: Precision

    def logits(self, batch: Batch) -> Logits:
        """Images of one size -> logits."""


class Locating(Runtime, Protocol):
    """One that also gives what the logits are made of."""

    def with_maps(self, batch: Batch) -> tuple[Logits, Maps]:
        """Images of one size -> logits, and maps; of an artefact that has a ``head``."""


@dataclass(frozen=True)
class Way:
    """A runtime, and the precision that it computes in."""

    name: RuntimeName
    precision: Precision

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


class _OnnxRuntime:
    name: RuntimeName = "onnxruntime"

    def __init__(self, path: Path, precision: Precision, threads: int | None) -> None:
        ort = library("onnxruntime")
        settings = ort.SessionOptions()
        settings.log_severity_level = 3  # errors alone: it warns of what it does not optimise
        if threads is not None:
            settings.intra_op_num_threads = threads
        self.precision = precision
        self._session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._logits = self._session.get_outputs()[0].name

    def logits(self, batch: Batch) -> Logits:
        found: Logits = self._session.run([self._logits], {self._input: batch})[0]
        return found

    def with_maps(self, batch: Batch) -> tuple[Logits, Maps]:
        logits, maps = self._session.run(None, {self._input: batch})
        return logits, maps


class _OpenVino:
    """Few images are computed by all threads together; of a batch each thread computes a part, and waits for no other.

    The second way is as quick by itself, and quicker beside others on the same cores: a server, which decodes there,
    answers 1.07 times as many images (results/openvino_parts.json, openvino_parts_busy.json, serve.json,
    serve_whole.json). It is compiled when the first batch comes, and holds the weights once more.
    """

    name: RuntimeName = "openvino"

    def __init__(self, path: Path, precision: Precision, threads: int | None) -> None:
        self._core = openvino_core()
        # Said always: by default it computes in bf16 where the processor has it.
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self.precision = precision
        self._model = self._core.read_model(path)
        together = self._settings | {"PERFORMANCE_HINT": "LATENCY"}
        self._compiled = self._core.compile_model(self._model, "CPU", together)
        self._threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        self._apart: list[Any] = []
        """what computes a part of a batch, for each thread"""

    def logits(self, batch: Batch) -> Logits:
        return self._computed(batch, 1)[0]

    def with_maps(self, batch: Batch) -> tuple[Logits, Maps]:
        logits, maps = self._computed(batch, 2)
        return logits, maps

    def _computed(self, batch: Batch, outputs: int) -> list[npt.NDArray[np.float32]]:
        if self._threads == 1 or len(batch) < APART * self._threads:
            found = self._compiled(batch)
            return [found[i] for i in range(outputs)]
        if not self._apart:
            compiled = self._core.compile_model(
                self._model, "CPU", self._settings | {"NUM_STREAMS": self._threads}
            )  # fmt: skip
            self._apart = [compiled.create_infer_request() for _ in range(self._threads)]
        for request, part in zip(self._apart, np.array_split(batch, self._threads), strict=True):
            request.start_async({0: part}, share_inputs=True)
        for request in self._apart:
            request.wait()
        return [np.concatenate([request.get_output_tensor(i).data for request in self._apart]) for i in range(outputs)]


class _Torch:
    name: RuntimeName = "torch"

    def __init__(self, path: Path, precision: Precision, threads: int | None) -> None:
        torch = library("torch")
        if threads is not None:
            torch.set_num_threads(threads)
        self.precision = precision
        self._torch = torch
        module = torch.export.load(path).module()
        self._net = module.to(memory_format=torch.channels_last)

    def logits(self, batch: Batch) -> Logits:
        return self._computed(batch)[0]

    def with_maps(self, batch: Batch) -> tuple[Logits, Maps]:
        logits, maps = self._computed(batch)
        return logits, maps

    def _computed(self, batch: Batch) -> list[npt.NDArray[np.float32]]:
        torch = self._torch
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            found = self._net(torch.from_numpy(batch))
        return [each.float().numpy() for each in (found if isinstance(found, tuple | list) else (found,))]


_OPENED: dict[RuntimeName, Callable[[Path, Precision, int | None], Locating]] = {
    "onnxruntime": _OnnxRuntime,
    "openvino": _OpenVino,
    "torch": _Torch,
}


def opened(path: Path, way: Way, *, threads: int | None = None) -> Locating:
    """A model file, ready to compute. Raises `InputError` where the library is missing, or does not take it."""
    try:
        return _OPENED[way.name](path, way.precision, threads)
    except InputError:
        raise
    except Exception as why:  # of another library, of any kind
        raise InputError(f"{path} cannot be opened by {way.name}: {first_line(why)}") from None


def ways(about: About, *, format: Format | None = None) -> Iterator[Way]:
    """How an artefact could be computed: in the precision that it is stored in, and fp32 in bf16, too."""
    for name, reads in READS.items():
        if reads in about.models and format in (None, reads):
            yield Way(name, about.precision)
            if about.precision == "fp32" and name != "onnxruntime":  # whose CPU kernels know no bf16
                yield Way(name, "bf16")


def open_runtime(
    artefact: Artefact, name: RuntimeName, *, precision: Precision | None = None, threads: int | None = None
) -> Locating:
    """A runtime that was chosen by name.

    Args:
        artefact: to compute.
        name: of the runtime.
        precision: "bf16" computes an fp32 artefact so; None as it is stored.
        threads: of the processor; None leaves it to the runtime.

    Raises:
        InputError: the artefact has no file for it, or does not go with the precision, or the library is missing.
    """
    known = list(ways(artefact.about))
    way = Way(name, precision or artefact.about.precision)
    if way not in known:
        raise InputError(f"{artefact.folder} cannot be computed by {way}; it can by {', '.join(map(str, known))}")
    return opened(artefact.file(READS[name]), way, threads=threads)


def answering(folder: Path, way: Way, *, batch: int, threads: int | None) -> Callable[[], Logits]:
    """An artefact, opened, that computes the same random images whenever it is called: to be timed."""
    artefact = read(folder)
    runtime = open_runtime(artefact, way.name, precision=way.precision, threads=threads)
    images = example(artefact.about, batch)
    return lambda: runtime.logits(images)


@dataclass(frozen=True)
class Chosen:
    """The quickest runtime, and how it was found."""

    runtime: Locating
    tried: dict[str, float | str]
    """images a second of each candidate, or why it could not be had or was not timed"""

    def words(self) -> str:
        """One line for people."""
        seen = ", ".join(
            f"{name} {value:,.0f} images/s" if isinstance(value, float) else f"{name} not available ({value})"
            for name, value in self.tried.items()
            if value != ALONE
        )
        if ALONE in self.tried.values():
            others = f" ({seen})" if seen else ""
            return f"{self.runtime.name} {self.runtime.precision}, the only one that can be chosen{others}"
        return f"{self.runtime.name} {self.runtime.precision}, the fastest here ({seen})"


def quickest(
    artefact: Artefact, *, precisions: Sequence[Precision] | None = None, threads: int | None = None, batch: int = 1,
    moment: float = MOMENT,
) -> Chosen:  # fmt: skip
    """The runtime that is quickest on this machine, of those that passed the gate when the artefact was written.

    Args:
        artefact: to compute.
        precisions: that may be chosen; None is the artefact's own.
        threads: of the processor.
        batch: images at a time.
        moment: seconds for all of them together, without opening them; one alone is not timed.

    Raises:
        InputError: none passed, or none can be opened here.
    """
    about = artefact.about
    allowed = (about.precision,) if precisions is None else precisions
    passed = [way for way in ways(about) if way.precision in allowed and _passed(about.gate, way)]
    if not passed:
        raise InputError(
            f"{artefact.folder}: no runtime passed the checks at export ({_why(about.gate)}); name one by --runtime "
            "to use it anyway"
        )
    tried: dict[str, float | str] = {}
    found: dict[str, Locating] = {}
    for way in passed:
        if find_spec(way.name) is None:
            tried[str(way)] = "not installed"
            continue
        try:
            found[str(way)] = opened(artefact.file(READS[way.name]), way, threads=threads)
            tried[str(way)] = ALONE
        except InputError as why:
            tried[str(way)] = str(why)
    if not found:
        raise InputError(
            f"{artefact.folder}: none of its runtimes is available here "
            f"({'; '.join(f'{name}: {why}' for name, why in tried.items())}); pip install 'reslab[deploy]'"
        )
    if len(found) == 1:
        return Chosen(next(iter(found.values())), tried)
    images = example(about, batch)
    rates = {name: batch / _seconds(runtime, images, moment / len(found)) for name, runtime in found.items()}
    return Chosen(found[max(rates, key=rates.__getitem__)], {**tried, **rates})


def _passed(gate: Sequence[Checked], way: Way) -> bool:
    return any(row.passed and (row.runtime, row.precision) == (way.name, way.precision) for row in gate)


def _why(gate: Sequence[Checked]) -> str:
    return "; ".join(f"{row.runtime} {row.precision}: {row.refused}" for row in gate if row.refused) or "none was tried"


def example(about: About, batch: int) -> Batch:
    """Random images as an artefact takes them; photographs a little larger than their crop."""
    draw = np.random.default_rng(0)
    height, width = about.preprocessing.crop
    if about.input == "tensors":
        return draw.standard_normal((batch, about.channels, height, width)).astype(np.float32)
    if about.input == "photographs":
        height, width = height * 5 // 3, width * 9 // 4  # 373x504 for 224: a usual photograph of ImageNet
    return draw.integers(0, 256, (batch, height, width, about.channels), dtype=np.uint8)


def _seconds(runtime: Runtime, images: Batch, most: float) -> float:
    """The least seconds of a call, once it has warmed up, in about so many seconds."""
    runtime.logits(images)
    end = time.perf_counter() + most
    least = float("inf")
    while True:
        began = time.perf_counter()
        runtime.logits(images)
        now = time.perf_counter()
        least = min(least, now - began)
        if now + (now - began) > end:
            return least
