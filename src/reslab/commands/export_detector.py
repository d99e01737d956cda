"""``reslab export`` of a detector."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from reslab import __version__
from reslab.commands.detect_predict import listed
from reslab.commands.options.export import Options
from reslab.commands.train import start
from reslab.data.decode.whole import Encoded, whole
from reslab.deploy.artefact import seal, written
from reslab.deploy.export import FILES
from reslab.detect.artefact import CheckedBoxes, DetectorAbout, OnnxDetector
from reslab.detect.drawn import pixels_of
from reslab.detect.export import write_onnx
from reslab.detect.find import find
from reslab.detect.gate import check
from reslab.detect.saved import load_detector
from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.report.words import plural
from reslab.runs import describe, now
from reslab.train.device import keep_freed_memory

OF_CLASSIFIERS = ("input", "explain", "int8", "calibration", "calibration_images", "split", "labels", "outputs", "net",
                  "which", "given")  # fmt: skip


def check_options(options: Options) -> None:
    """Raises `InputError` for what a detector has no use for, or cannot be written as."""
    if options.to != ("onnx",):
        raise InputError(
            f"--to {' '.join(options.to)}: {options.weights} is a detector, which can be written as onnx only: the "
            "number of its boxes depends on the image, which torch.export does not support"
        )
    usual = {each.name: each.default for each in dataclasses.fields(Options)}
    for name in OF_CLASSIFIERS:
        if getattr(options, name) != usual[name]:
            option = "--mean, --std, --resize, --crop and --interpolation" if name == "given" else f"--{name}"
            raise InputError(f"{options.weights} is a detector: leave out {option.replace('_', '-')}")


def run(options: Options) -> None:
    """Writes the model file, shows it to the gate, and keeps it if it passes."""
    console = Console(stderr=True, quiet=options.json)
    paths = () if options.data is None else _spread(listed((Path(options.data),)), options.images)
    execution = start("cpu", options.threads)
    keep_freed_memory()
    detector = load_detector(options.weights)
    pictures = _read(paths, console)
    about = DetectorAbout(
        detector=detector.spec, models={"onnx": FILES["onnx"]},
        provenance={"weights": options.weights, "reslab": __version__, "machine": describe(), "when": now()},
    )  # fmt: skip
    with written(options.out) as folder:
        path = folder / FILES["onnx"]
        write_onnx(detector, path)
        if pictures:
            console.print(f"comparing on {plural(len(pictures), 'image')}", highlight=False, soft_wrap=True)
            body = getattr(detector.model.backbone, "body", None)
            if isinstance(body, Network):
                body.fuse(execution.fuses)  # the original at its best, once it is written
            export = OnnxDetector(path, threads=torch.get_num_threads())
            seen = check(lambda some: find(detector, some), export.find, pictures, speed=options.speed)
            about = about.model_copy(update={"gate": seen})
            print(_as_json(options, seen) if options.json else _words(seen))
            if seen.refused and not options.force:
                text = "it did not pass its checks, so nothing was written; --force writes it anyway"
                console.print(text, highlight=False, soft_wrap=True)
                raise SystemExit(1)
        elif options.json:
            print(_as_json(options, None))
        seal(folder, about)
    console.print(f"{options.out}: onnx", markup=False, highlight=False, soft_wrap=True)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """So many of them, evenly spaced."""
    count = min(count, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]


def _read(paths: Sequence[Path], console: Console) -> list[Tensor]:
    """Pictures (3, H, W); those that cannot be read are left out, and named."""
    found = []
    for path in paths:
        try:
            found.append(pixels_of(whole(Encoded(str(path), path, oriented=True), 3)))
        except InputError as error:
            console.print(f"skipped: {error}", markup=False, highlight=False, soft_wrap=True)
    if paths and not found:
        raise InputError("--data: none of the images can be read")
    return found


def _words(seen: CheckedBoxes) -> str:
    said = (
        f"{seen.agreement:.1f} % of {seen.boxes:,} boxes in {plural(seen.images, 'image')} are the same, their scores "
        f"differ by at most {seen.largest_difference:.1g}"
    )
    if seen.speed is not None:
        said += (
            f"; {seen.speed.artefact:.1f} images/s, before {seen.speed.original:.1f}: {seen.speed.ratio:.2f} times "
            f"({seen.speed.low:.2f} to {seen.speed.high:.2f})"
        )
    return f"onnxruntime fp32: {f'refused: {seen.refused}' if seen.refused else 'passed'}; {said}"


def _as_json(options: Options, seen: CheckedBoxes | None) -> str:
    written = ["onnx"] if seen is None or not seen.refused or options.force else []
    gate = None if seen is None else seen.model_dump(mode="json")
    return json.dumps({"out": str(options.out), "written": written, "gate": gate}, indent=2)
