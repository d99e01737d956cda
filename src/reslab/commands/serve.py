"""``reslab serve``."""

import json
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from reslab.commands.artefacts import check_options, check_weights, open_artefact
from reslab.commands.options.common import GIVEN
from reslab.commands.options.serve import Options
from reslab.commands.output_names import output_names
from reslab.deploy.artefact import KIND, contents, is_artefact, read
from reslab.errors import InputError
from reslab.processor import allowed_cores

if TYPE_CHECKING:
    from reslab.deploy.serve.front import Front
    from reslab.deploy.serve.model import Detecting, Model
    from reslab.deploy.serve.service import Service

EXTRA = ("fastapi", "uvicorn", "multipart", "prometheus_client")
"""The libraries of ``[serve]``, by the names that they are imported under."""
MOST_PORT = 65_535
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Prepared:
    """A server that only has to be started."""

    app: "Front"
    service: "Service"
    listening: socket.socket

    @property
    def address(self) -> str:
        """Where it is asked."""
        host, port = self.listening.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run(options: Options) -> None:
    """Serves until SIGTERM or Ctrl-C."""
    console = Console(stderr=True, quiet=options.json)
    prepared = prepare(options, console)
    from reslab.deploy.serve import logs
    from reslab.deploy.serve.server import run as listen

    def told() -> None:
        name, address = prepared.service.model.name, prepared.address
        if options.json:
            print(json.dumps({"model": name, "address": address}), flush=True)
        else:
            console.print(f"{name} answers at {address}", markup=False, highlight=False, soft_wrap=True)

    logs.to_standard_error()
    listen(prepared.app, prepared.listening, patience=options.deadline, told=told)


def prepare(options: Options, console: Console) -> Prepared:
    """All but the start. Raises `InputError`."""
    _check(options)
    token = None if options.token_file is None else _token(options.token_file)
    if options.host not in LOOPBACK and token is None:
        text = f"anyone who can reach {options.host} can use this server; --token-file requires a token from them"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    from reslab.deploy.serve.app import application
    from reslab.deploy.serve.limits import Limits
    from reslab.deploy.serve.model import Detecting
    from reslab.deploy.serve.server import bound
    from reslab.deploy.serve.service import Service

    listening = bound(options.host, options.port)  # before the weights, which take their time
    limits = Limits(
        bytes=options.max_bytes, images=options.max_images, pixels=options.max_pixels, places=options.queue,
        decode_seconds=options.decode_seconds, patience=options.deadline,
        bytes_at_a_time=max(256_000_000, 4 * options.max_bytes),
    )  # fmt: skip
    try:
        model = model_of(options, console)
        service = Service(
            model, limits, batch=1 if isinstance(model, Detecting) else options.batch, linger=options.linger / 1000,
            decoders=options.decoders or max(1, allowed_cores() // 2),
        )  # fmt: skip
        return Prepared(application(service, token=token), service, listening)
    except BaseException:
        listening.close()
        raise


def _check(options: Options) -> None:
    """What is wrong whatever the weights are."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise InputError(f"reslab serve needs {', '.join(missing)}: pip install 'reslab[serve]'")
    for name, value in (
        ("queue", options.queue), ("max-bytes", options.max_bytes), ("max-images", options.max_images),
        ("max-pixels", options.max_pixels), ("batch-size", options.batch), ("decoders", options.decoders),
    ):  # fmt: skip
        if value is not None and value < 1:
            raise InputError(f"--{name} takes 1 or more, got {value}")
    for name, seconds in (("deadline", options.deadline), ("decode-seconds", options.decode_seconds)):
        if not 0 < seconds < float("inf"):
            raise InputError(f"--{name} takes seconds above 0, got {seconds:g}")
    if not 0 <= options.linger < float("inf"):
        raise InputError(f"--linger takes 0 milliseconds or more, got {options.linger:g}")
    if not 0 <= options.port <= MOST_PORT:
        raise InputError(f"--port takes 0 to {MOST_PORT}, got {options.port}")


def _token(path: Path) -> str:
    """The token in a file: kept out of the list of processes, where every argument can be read."""
    try:
        token = path.expanduser().read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as why:
        reason = getattr(why, "strerror", None) or "it is not ASCII text"
        raise InputError(f"--token-file {path} cannot be read: {reason}") from None
    if not token or any(letter.isspace() for letter in token):
        raise InputError(
            f"--token-file {path}: expected a token without spaces, found {'one with' if token else 'none'}"
        )
    return token


def model_of(options: Options, console: Console) -> "Model | Detecting":
    """What is served: a classifier or a detector, its weights or an artefact. Raises `InputError`."""
    if is_artefact(options.weights) and KIND not in contents(options.weights)[1]:
        return _by_artefact(options, console)
    from reslab.detect.artefact import is_detector_artefact
    from reslab.detect.saved import is_detector

    detects = is_detector_artefact(options.weights) or is_detector(options.weights)
    return _by_detector(options) if detects else _by_weights(options, console)


def _by_detector(options: Options) -> "Detecting":
    from reslab.commands.detect_ready import made_ready
    from reslab.detect.served import DetectorModel

    for name, given in (
        ("--runtime", options.runtime is not None), ("--net", options.net), ("--which", options.which),
        ("--outputs", options.outputs),
        ("--mean, --std, --resize, --crop and --interpolation", options.given != GIVEN),
        ("--no-orient", options.oriented is False),
    ):  # fmt: skip
        if given:
            raise InputError(f"{options.weights} is a detector, which has its classes and its size; leave out {name}")
    ready = made_ready(options.weights, options.device, options.threads, None, 0.0, options.precision)
    return DetectorModel(ready.spec, ready.find)


def _by_weights(options: Options, console: Console) -> "Model":
    from reslab.commands.classifying import classifying
    from reslab.deploy.serve.of_weights import of_weights

    check_weights(options.runtime)
    classify, weights = classifying(options, "a server")
    classes = output_names(options.outputs, "weights", weights.spec.num_classes, weights.classes, console)
    return of_weights(classify, weights.spec.name, classes)


def _by_artefact(options: Options, console: Console) -> "Model":
    from reslab.deploy.maps import head
    from reslab.deploy.serve.of_artefact import of_artefact

    check_options(options.weights, options.given, options.device, {"net": options.net, "which": options.which})
    found = open_artefact(
        read(options.weights), options.runtime, options.precision, threads=options.threads, batch=options.batch,
        console=console,
    )  # fmt: skip
    about = found.about(options.oriented)
    classes = output_names(options.outputs, "artefact", about.num_classes, about.classes, console)
    return of_artefact(found.runtime, about, classes, options.batch, head(found.artefact))
