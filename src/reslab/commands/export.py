"""``reslab export``."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from reslab import __version__
from reslab.commands.eval_data import Where, images_of
from reslab.commands.export_print import as_json, show
from reslab.commands.options.export import Options
from reslab.commands.preprocessing import preprocessing_of
from reslab.commands.train import start
from reslab.data.decode.whole import Encoded, whole
from reslab.data.formats import Unused
from reslab.data.labels import ilsvrc, outputs, read_names
from reslab.data.names import KNOWN
from reslab.data.walk import images_below
from reslab.deploy.artefact import About, Checked, is_artefact, seal, written
from reslab.deploy.export import FILES, onnx_of, openvino_of, program_of, write_onnx, write_openvino, write_torch
from reslab.deploy.gate import Original, Sample, check
from reslab.deploy.runtimes import READS, opened, ways
from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.report.words import plural
from reslab.runs import describe, now
from reslab.train.device import Execution, keep_freed_memory
from reslab.weights.load import Weights, load

MOST_BYTES = 2_000_000_000
"""Decoded images to compare on beyond this are left out."""


def run(options: Options) -> None:
    """Writes the model files, shows them to the gate, and keeps those that pass."""
    _check(options)
    execution = start("cpu", options.threads)
    keep_freed_memory()
    console = Console(stderr=True, quiet=options.json)
    weights = load(options.weights, net=options.net, which=options.which)
    weights.check_head("an export")
    about = _about(options, weights)
    sample = None if options.data is None else _sample(options, weights, about, console)
    program = program_of(weights.module(), weights.spec, about.preprocessing, options.input)
    with written(options.out) as folder:
        if set(about.models) & {"onnx", "openvino"}:
            model = onnx_of(program, about.inside())
            if "onnx" in about.models:
                write_onnx(model, folder)
            if "openvino" in about.models:
                write_openvino(openvino_of(model), folder, about.inside())
        if "torch" in about.models:
            write_torch(program, folder, about.inside())
        if sample is not None:
            original = Original(_at_its_best(weights, execution), about)
            rows = tuple(_gate(original, folder, about, sample, options, console))
            about = _passed(about, rows, folder, force=options.force)
            if not options.json:
                show(rows, Console())
        if options.json:
            print(as_json(str(options.out), about, about.gate))
        if not about.models:
            text = "nothing passed, and nothing is written; --force writes it all the same"
            console.print(text, highlight=False, soft_wrap=True)
            raise SystemExit(1)
        seal(folder, about)
    text = f"{options.out}: {', '.join(about.models)}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _check(options: Options) -> None:
    """What is wrong whatever the weights are."""
    if options.images < 1:
        raise InputError(f"--images takes 1 or more, got {options.images}")
    if not options.to:
        raise InputError("--to takes one format or more: onnx, openvino, torch")
    if options.data is None and not options.force:
        raise InputError(
            "nothing is written unseen: name real images by --data, to compare on (a folder will do, with labels or "
            "without), or add --force"
        )
    out = options.out
    with suppress(OSError):
        if out.exists() and not is_artefact(out) and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(f"--out {out} exists and is no artefact; name another folder")
        if is_artefact(out) and not options.force:
            raise InputError(f"--out {out} holds an artefact already; name another folder, or add --force")


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
        temperature=float(weights.header.get("temperature") or 1.0),
        models={format: FILES[format] for format in options.to},
        provenance={
            "weights": weights.origin, "weights_fingerprint": weights.fingerprint(), "header": said,
            "assumed": list(weights.assumed), "reslab": __version__, "machine": describe(), "when": now(),
        },
    )  # fmt: skip


def _at_its_best(weights: Weights, execution: Execution) -> torch.nn.Module:
    net = weights.module().to(memory_format=torch.channels_last).eval()
    return net.fuse(execution.fuses) if isinstance(net, Network) else net


def _sample(options: Options, weights: Weights, about: About, console: Console) -> Sample:
    """The images to compare on, decoded, with their classes where those are known."""
    assert options.data is not None
    where = Where.given(options.data, options.split, options.labels, options.outputs, None)
    flat = [] if options.data in KNOWN else _flat(Path(options.data).expanduser())
    try:
        listed = images_of(where, weights, about.preprocessing, one_crop=False).listed
        found = outputs(listed.classes, about.num_classes, names=weights.classes, file=options.outputs)
    except InputError as why:
        if not flat:
            raise
        console.print(f"no labels: {why}", markup=False, highlight=False, soft_wrap=True)
        oriented = about.preprocessing.oriented is not False
        chosen = [flat[i] for i in _spaced(len(flat), options.images)]
        return _decoded((Encoded(str(path), path, oriented) for path in chosen), None, about.channels)
    if listed.channels != about.channels:
        raise InputError(
            f"the network takes images of {plural(about.channels, 'channel')}, the data has {listed.channels}"
        )
    mask = np.zeros(len(listed.labels), bool)
    mask[_spaced(len(mask), options.images)] = True
    some = listed.only(mask.tolist())
    labels = np.asarray(found.numbers, np.int64)[some.labels.numpy()]
    return _decoded((item for chunk in some.chunks() for item in chunk), labels, about.channels)


def _flat(folder: Path) -> list[Path]:
    """The images of a folder in which any lie that are in no folder of a class."""
    if not folder.is_dir():
        return []
    every = list(images_below(folder, Unused(), []))
    return every if any(path.parent == folder for path in every) else []


def _spaced(count: int, wanted: int) -> Sequence[int]:
    """So many whole numbers below ``count``, evenly spaced."""
    places: list[int] = np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()
    return places


def _decoded(
    items: Iterator[Encoded], labels: np.ndarray[tuple[int], np.dtype[np.int64]] | None, channels: int
) -> Sample:
    images: list[Image.Image] = []
    held = 0
    for item in items:
        images.append(whole(item, channels))
        held += images[-1].width * images[-1].height * channels
        if held > MOST_BYTES:
            break
    if not images:
        raise InputError("there is no image to compare on; name others by --data")
    return Sample(images, None if labels is None else labels[: len(images)])


def _gate(
    original: Original, folder: Path, about: About, sample: Sample, options: Options, console: Console
) -> Iterator[Checked]:
    expected = original.all(sample.images)
    for way in ways(about):
        console.print(f"comparing {way} on {plural(len(sample.images), 'image')}", highlight=False, soft_wrap=True)
        runtime = opened(folder / about.models[READS[way.name]], way, threads=torch.get_num_threads())
        yield check(original, runtime, sample, expected=expected, speed=options.speed)


def _passed(about: About, rows: Sequence[Checked], folder: Path, *, force: bool) -> About:
    """With the formats that one of their runtimes passed with; the files of the others are taken away."""
    good = {READS[row.runtime] for row in rows if row.passed}
    gone = () if force else [format for format in about.models if format not in good]
    for format in gone:
        for path in folder.glob(f"{Path(FILES[format]).stem}.*" if format == "openvino" else FILES[format]):
            if format != "openvino" or path.suffix in (".xml", ".bin"):
                path.unlink()
    models = {format: name for format, name in about.models.items() if format not in gone}
    return about.model_copy(update={"models": models, "gate": tuple(rows)})
