"""``reslab export`` of a detector."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from torch import Tensor

from reslab import __version__
from reslab.commands.detect_predict import listed
from reslab.commands.execution import start
from reslab.commands.options.export import Options
from reslab.data.decode.whole import Encoded, whole
from reslab.deploy.artefact import Format, seal, written
from reslab.deploy.export import FILES
from reslab.deploy.runtimes import READS
from reslab.detect import annotations
from reslab.detect.annotations.types import Picture
from reslab.detect.artefact import CheckedBoxes, DetectorAbout
from reslab.detect.detections import Detections
from reslab.detect.drawn import pixels_of
from reslab.detect.export import write_onnx, write_openvino
from reslab.detect.feed import decoded
from reslab.detect.find import find
from reslab.detect.gate import check
from reslab.detect.networks import Detector
from reslab.detect.runtimes import opened, ways
from reslab.detect.saved import load_detector
from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.report.words import plural
from reslab.runs import describe, now
from reslab.train.device import keep_freed_memory

T = TypeVar("T")
OF_CLASSIFIERS = ("input", "explain", "int8", "calibration", "calibration_images", "split", "labels", "outputs", "net",
                  "which", "given")  # fmt: skip


def check_options(options: Options) -> None:
    """Raises `InputError` for what a detector has no use for, or cannot be written as."""
    if "torch" in options.to:
        raise InputError(
            f"--to {' '.join(options.to)}: {options.weights} is a detector, which can be written as onnx and openvino: "
            "the number of its boxes depends on the image, which torch.export does not support"
        )
    usual = {each.name: each.default for each in dataclasses.fields(Options)}
    for name in OF_CLASSIFIERS:
        if getattr(options, name) != usual[name]:
            option = "--mean, --std, --resize, --crop and --interpolation" if name == "given" else f"--{name}"
            raise InputError(f"{options.weights} is a detector: leave out {option.replace('_', '-')}")


def run(options: Options) -> None:
    """Writes the model files, shows them to the gate, and keeps those that pass."""
    console = Console(stderr=True, quiet=options.json)
    execution = start("cpu", options.threads)
    keep_freed_memory()
    detector = load_detector(options.weights)
    pictures, truth = _to_compare(options, detector, console)
    about = DetectorAbout(
        detector=detector.spec, models={name: FILES[name] for name in FILES if name in options.to},
        provenance={"weights": options.weights, "reslab": __version__, "machine": describe(), "when": now()},
    )  # fmt: skip
    with written(options.out) as folder:
        _write(detector, folder, about.models)
        if pictures:
            console.print(f"comparing on {_said(pictures, truth)}", highlight=False, soft_wrap=True)
            body = getattr(detector.model.backbone, "body", None)
            if isinstance(body, Network):
                body.fuse(execution.fuses)  # the original at its best, once it is written
            rows = []
            for row in _gate(detector, folder, about, pictures, truth, speed=options.speed):
                rows.append(row)
                if not options.json:
                    print(_words(row))
            about = _passed(about, tuple(rows), folder, force=options.force)
        if options.json:
            print(_as_json(options, about))
        if not about.models:
            text = "no format passed its checks, so nothing was written; --force writes it anyway"
            console.print(text, highlight=False, soft_wrap=True)
            raise SystemExit(1)
        seal(folder, about)
    console.print(f"{options.out}: {', '.join(about.models)}", markup=False, highlight=False, soft_wrap=True)


def _write(detector: Detector, folder: Path, models: dict[Format, str]) -> None:
    path = folder / FILES["onnx"]
    write_onnx(detector, path)
    if "openvino" in models:
        write_openvino(path, folder / models["openvino"])
    if "onnx" not in models:
        path.unlink()


def _gate(
    detector: Detector, folder: Path, about: DetectorAbout, pictures: Sequence[Tensor], truth: Sequence[Picture], *,
    speed: bool,
) -> Iterator[CheckedBoxes]:  # fmt: skip
    """Each file in each precision, beside the original in the same one."""
    before = find(detector, pictures)
    for way in ways(about.models):
        export = opened(folder / about.models[READS[way.name]], way, threads=torch.get_num_threads())

        def rival(some: Sequence[Tensor], precision: str = way.precision) -> list[Detections]:
            return find(detector, some, precision=precision)

        yield check(
            lambda _: before, export.find, pictures, way=way, truth=truth, rival=rival, speed=speed
        )  # fmt: skip


def _passed(about: DetectorAbout, rows: tuple[CheckedBoxes, ...], folder: Path, *, force: bool) -> DetectorAbout:
    """What may go out: files that passed in fp32. Those that did not are removed, unless they are asked for."""
    kept = {
        name: file for name, file in about.models.items()
        if force or any(READS[row.runtime] == name and row.precision == "fp32" and not row.refused for row in rows)
    }  # fmt: skip
    for name in about.models.keys() - kept.keys():
        for path in folder.glob(f"{Path(about.models[name]).stem}.*" if name == "openvino" else about.models[name]):
            if path.name not in kept.values():
                path.unlink()
    return about.model_copy(update={"gate": rows, "models": kept})


def _to_compare(
    options: Options, detector: Detector, console: Console
) -> tuple[list[Tensor], tuple[Picture, ...]]:  # fmt: skip
    """Pictures (3, H, W), and their boxes where the folder has some."""
    if options.data is None:
        return [], ()
    try:
        data = annotations.read(options.data, detector.spec.classes)
    except InputError:  # pictures alone
        return _read(_spread(listed((Path(options.data),)), options.images), console), ()
    split = next(name for name in ("test", "val", "train") if data.splits.get(name))
    truth = tuple(_spread(data.splits[split], options.images))
    return [decoded(each) for each in truth], truth


def _said(pictures: Sequence[Tensor], truth: Sequence[Picture]) -> str:
    return plural(len(pictures), "image") + (" with annotated boxes" if truth else "")


def _spread(some: Sequence[T], count: int) -> list[T]:
    """So many of them, evenly spaced."""
    count = min(count, len(some))
    return [some[i * len(some) // count] for i in range(count)]


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
    if seen.gain is not None:
        said += f"; mAP@[.5:.95] {seen.gain.points:+.2f} points ({seen.gain.low:+.2f} to {seen.gain.high:+.2f})"
    if seen.speed is not None:
        said += (
            f"; {seen.speed.artefact:.1f} images/s, before {seen.speed.original:.1f}: {seen.speed.ratio:.2f} times "
            f"({seen.speed.low:.2f} to {seen.speed.high:.2f})"
        )
    verdict = f"refused: {seen.refused}" if seen.refused else "passed"
    return f"{seen.runtime} {seen.precision}: {verdict}; {said}"


def _as_json(options: Options, about: DetectorAbout) -> str:
    gate = [row.model_dump(mode="json") for row in about.gate]
    return json.dumps({"out": str(options.out), "written": list(about.models), "gate": gate}, indent=2)
