"""``reslab export``."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch.export import ExportedProgram

from reslab import __version__
from reslab.commands import export_detector
from reslab.commands.execution import start
from reslab.commands.export_data import to_calibrate, to_compare
from reslab.commands.export_print import as_json, show
from reslab.commands.options.export import Options
from reslab.commands.preprocessing import preprocessing_of
from reslab.data.labels import ilsvrc, read_names
from reslab.deploy.artefact import About, Checked, is_artefact, seal, written
from reslab.deploy.export import (
    FILES,
    HEAD,
    head_of,
    onnx_of,
    openvino_of,
    program_of,
    write_onnx,
    write_openvino,
    write_torch,
)
from reslab.deploy.feed import row, stacked
from reslab.deploy.gate import Original, Sample, check, why_wrong
from reslab.deploy.libraries import library
from reslab.deploy.quantize import Quantisable, quantised, quantiser
from reslab.deploy.runtimes import READS, Batch, opened, ways
from reslab.detect.saved import is_detector
from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.report.words import plural
from reslab.runs import describe, now
from reslab.train.device import Execution, keep_freed_memory
from reslab.weights.load import Weights, load


def run(options: Options) -> None:
    """Writes the model files, shows them to the gate, and keeps those that pass."""
    detects = is_detector(options.weights)
    if detects:
        export_detector.check_options(options)
    _check(options)
    if detects:
        export_detector.run(options)
        return
    execution = start("cpu", options.threads)
    keep_freed_memory()
    console = Console(stderr=True, quiet=options.json)
    weights = load(options.weights, net=options.net, which=options.which)
    weights.check_head("an export")
    about = _about(options, weights)
    sample = None if options.data is None else to_compare(options, weights, about, console)
    calibration = to_calibrate(options, weights, about, console) if options.int8 else None
    net = weights.module()
    head = head_of(net) if options.explain else None
    program = program_of(net, weights.spec, about.preprocessing, options.input, maps=options.explain)
    with written(options.out) as folder:
        if head is not None:
            np.save(folder / HEAD, head)
        _write(program, folder, about, calibration, console)
        if sample is not None:
            original = Original(_at_its_best(weights, execution), about)
            rows = tuple(_gate(original, folder, about, sample, options, console))
            about = _passed(about, rows, folder, force=options.force)
            if not options.json:
                show(rows, Console())
        if options.json:
            print(as_json(str(options.out), about, about.gate))
        if not about.models:
            text = "no format passed its checks, so nothing was written; --force writes them anyway"
            console.print(text, highlight=False, soft_wrap=True)
            raise SystemExit(1)
        seal(folder, about)
    text = f"{options.out}: {', '.join(about.models)}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _check(options: Options) -> None:
    """What is wrong whatever the weights are."""
    for name, number in (("images", options.images), ("calibration-images", options.calibration_images)):
        if number < 1:
            raise InputError(f"--{name} takes 1 or more, got {number}")
    if options.calibration is not None and not options.int8:
        raise InputError("--calibration names images for --int8; add --int8, or leave it out")
    if options.int8 and "torch" in options.to:
        raise InputError("--int8 goes with --to onnx and openvino: NNCF writes no torch.export archive in int8")
    if not options.to:
        raise InputError("--to takes one format or more: onnx, openvino, torch")
    if options.data is None and not options.force:
        raise InputError(
            "name real images by --data, to check the exported model on (a folder, with labels or without), or add "
            "--force to write it without checks"
        )
    for name in _libraries(options):
        library(name)
    if options.int8:
        quantiser()
    out = options.out
    with suppress(OSError):
        if out.exists() and not is_artefact(out) and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(f"--out {out} exists and is not an artefact; name another folder")
        if is_artefact(out) and not options.force:
            raise InputError(f"--out {out} holds an artefact already; name another folder, or add --force")


def _libraries(options: Options) -> Iterator[str]:
    """What is needed of the extra ``[deploy]``: missed before anything is computed."""
    if set(options.to) & {"onnx", "openvino"}:
        yield from ("onnx", "onnxscript")
    if "onnx" in options.to:
        yield "onnxruntime"
    if "openvino" in options.to:
        yield "openvino"


def _write(
    program: ExportedProgram, folder: Path, about: About, calibration: Sample | None, console: Console
) -> None:  # fmt: skip
    """Writes the model files, in int8 where there are images to calibrate on."""
    said = about.inside()
    if "torch" in about.models:
        write_torch(program, folder, said)
    if not set(about.models) & {"onnx", "openvino"}:
        return
    model = onnx_of(program, said)
    rows = None if calibration is None else [stacked([row(image, about)]) for image in calibration.images]
    if "onnx" in about.models:
        write_onnx(model if rows is None else _in_int8(model, "onnx", rows, console), folder)
    if "openvino" in about.models:
        other = openvino_of(model)
        write_openvino(other if rows is None else _in_int8(other, "openvino", rows, console), folder, said)


def _in_int8(model: Any, kind: Quantisable, rows: Sequence[Batch], console: Console) -> Any:
    console.print(f"{kind}: calibrating on {plural(len(rows), 'image')}", highlight=False, soft_wrap=True)
    made = quantised(model, kind, rows)
    text = f"{kind}: {made.layers - made.left} of {plural(made.layers, 'layer')} in int8, {made.left} left in fp32"
    console.print(text, highlight=False, soft_wrap=True)
    return made.model


def _about(options: Options, weights: Weights) -> About:
    """What is to be written, as far as it is known before."""
    spec = weights.spec
    if spec.in_channels not in (1, 3) and options.input != "tensors":
        raise InputError(
            f"'{spec.name}' takes {spec.in_channels} channels, which no image file has; export it by --input tensors"
        )
    known = ilsvrc() if spec.num_classes == len(ilsvrc()) else None
    classes = read_names(options.outputs, spec.num_classes) if options.outputs else weights.classes or known
    said = {name: value for name, value in weights.header.items() if name != "temperature"}
    return About(
        net=spec.name, spec=spec, num_classes=spec.num_classes, channels=spec.in_channels, classes=classes,
        input=options.input, preprocessing=preprocessing_of(options.given, weights),
        temperature=float(weights.header.get("temperature") or 1.0), precision="int8" if options.int8 else "fp32",
        head=HEAD if options.explain else None,
        models={format: FILES[format] for format in options.to},
        provenance={
            "weights": weights.origin, "weights_fingerprint": weights.fingerprint(), "header": said,
            "assumed": list(weights.assumed), "reslab": __version__, "machine": describe(), "when": now(),
        },
    )  # fmt: skip


def _at_its_best(weights: Weights, execution: Execution) -> torch.nn.Module:
    net = weights.module().to(memory_format=torch.channels_last).eval()
    return net.fuse(execution.fuses) if isinstance(net, Network) else net


def _gate(
    original: Original, folder: Path, about: About, sample: Sample, options: Options, console: Console
) -> Iterator[Checked]:
    expected = original.all(sample.images)
    for way in ways(about):
        console.print(f"comparing {way} on {plural(len(sample.images), 'image')}", highlight=False, soft_wrap=True)
        runtime = opened(folder / about.models[READS[way.name]], way, threads=torch.get_num_threads())
        yield check(original, runtime, sample, expected=expected, speed=options.speed)


def _passed(about: About, rows: Sequence[Checked], folder: Path, *, force: bool) -> About:
    """With the formats that pass; the files of the others are taken away.

    One does if one of its runtimes passed, and its answers are right as it is stored: bf16 may hide what is wrong.
    """
    wrong = {READS[row.runtime] for row in rows if row.precision == about.precision and why_wrong(row)}
    good = {READS[row.runtime] for row in rows if row.passed} - wrong
    gone = () if force else [format for format in about.models if format not in good]
    for format in gone:
        for path in folder.glob(f"{Path(FILES[format]).stem}.*" if format == "openvino" else FILES[format]):
            if format != "openvino" or path.suffix in (".xml", ".bin"):
                path.unlink()
    models = {format: name for format, name in about.models.items() if format not in gone}
    return about.model_copy(update={"models": models, "gate": tuple(rows)})
