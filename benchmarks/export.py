"""What leaves the lab: the accuracy of int8 on CIFAR-10, and the speed of each runtime beside PyTorch and by hand.

    python benchmarks/export.py int8 CIFAR10 --out results/export_int8.json
    python benchmarks/export.py speed PHOTOGRAPHS --out results/export_speed.json

CIFAR10 is the data set as `reslab` takes it (cifar10, or a Parquet folder), PHOTOGRAPHS any folder of JPEG files.

int8: the shipped ResNet-20, written by `reslab export` in fp32 and in int8 for each format, names all 10,000 test
images; so does what NNCF makes of the same network by its own defaults. Speed plays no part in it.

speed: ResNet-50 at 224 pixels, in batches of 16 and of 1, all sides by turns, each in a process of its own:
torchvision's in eager PyTorch as it comes and in each way that could be its best (bf16 where the processor has it,
channels-last, BN folded); what `reslab export` writes, by each runtime; and the runtimes used by hand on torchvision's
network. All take fp32 tensors that are ready. Weights are drawn, as speed does not depend on them. BN's statistics are
those of the photographs, from which int8 takes its ranges, too; what accuracy control leaves in fp32 is said. Each
photograph is a class of its own, so that answers are as certain as those of a network that was trained. With --folder
and --rounds 0 all is written and nothing timed, so that the turns can be taken when nothing else runs; batch sizes of
an older record that are not measured now stay in it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from reslab.bench.paired import Work, ratio, take_turns_apart
from reslab.data.decode.whole import Encoded, whole
from reslab.data.images import ImageSet
from reslab.data.labels import outputs
from reslab.data.sources import load as load_data
from reslab.deploy.artefact import About, read, seal, written
from reslab.deploy.export import FILES, onnx_of, openvino_of, program_of, write_onnx, write_openvino, write_torch
from reslab.deploy.feed import logits_of, row, stacked
from reslab.deploy.gate import Original
from reslab.deploy.quantize import SETTINGS, Quantisable, quantised, quantiser
from reslab.deploy.runtimes import Logits, Way, open_runtime, opened, ways
from reslab.evaluate.figures import wilson
from reslab.nets import build
from reslab.runs import made, read_json, write_json
from reslab.train.device import has_bf16
from reslab.weights.load import Weights, load
from reslab.weights.preprocessing import Preprocessing

SHIPPED = "reslab:resnet20-cifar10"
CALIBRATION = 300
CPU = torch.device("cpu")
IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=(224, 224), resize=256)
LIBRARIES = ("onnx", "onnxruntime", "openvino", "nncf")


@dataclass(frozen=True)
class Tested:
    """All test images of a data set, decoded, and the output that is right for each."""

    images: Sequence[Image.Image]
    labels: npt.NDArray[np.int64]


def tested(source: str, weights: Weights) -> Tested:
    """The test images of a data set whose classes are those of the weights."""
    data = load_data(source)
    found = outputs(data.info.classes, weights.spec.num_classes, names=weights.classes)
    return Tested(pictures(data.test), np.asarray(found.numbers, np.int64)[data.test.labels.numpy()])


def pictures(images: ImageSet) -> list[Image.Image]:
    """Coloured images (N, 3, H, W) one by one."""
    return [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in images.images]


def about_of(weights: Weights, kind: Literal["photographs", "tensors"]) -> About:
    """What is known of an export before it is written."""
    return About(
        net=weights.spec.name, spec=weights.spec, num_classes=weights.spec.num_classes,
        channels=weights.spec.in_channels, classes=weights.classes, input=kind, preprocessing=weights.preprocessing,
        models=FILES,
    )  # fmt: skip


def in_pytorch(weights: Weights, shown: Tested) -> npt.NDArray[np.int64]:
    """What the network says first of each image, in fp32."""
    net = weights.module().to(memory_format=torch.channels_last).eval()
    first: npt.NDArray[np.int64] = Original(net, about_of(weights, "photographs")).all(shown.images, 100).argmax(1)
    return first


def exported(
    weights: str, source: str, folder: Path, *more: str, to: Sequence[str] = ("onnx", "openvino")
) -> str:  # fmt: skip
    """`reslab export` without any comparison of speed, unless it is there already; returns the command."""
    words = ["export", weights, "--to", *to, "--data", source, "--no-speed", *more]
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "reslab", *words, "--out", str(folder)], check=True)
    return " ".join(["reslab", *(Path(word).name if "/" in word else word for word in words)])


def figures(first: npt.NDArray[np.int64], before: npt.NDArray[np.int64], shown: Tested) -> dict[str, Any]:
    """Accuracy in per cent with its interval (95 %, Wilson), and how often both say the same first."""
    hits, count = int((first == shown.labels).sum()), len(first)
    low, high = wilson(hits, count)
    return {
        "accuracy": round(100 * hits / count, 2),
        "interval": [round(100 * low, 2), round(100 * high, 2)],
        "agreement": round(100 * float((first == before).mean()), 2),
    }


def of_artefact(folder: Path, shown: Tested) -> dict[str, npt.NDArray[np.int64]]:
    """What each runtime says first of each image, as the artefact is stored."""
    artefact = read(folder)
    found = {}
    for way in ways(artefact.about):
        if way.precision == artefact.about.precision:
            runtime = open_runtime(artefact, way.name)
            rows = (row(image, artefact.about) for image in shown.images)
            found[str(way)] = logits_of(runtime, rows, 100).argmax(1)
    return found


def by_defaults(weights: Weights, source: str, shown: Tested, scratch: Path) -> dict[str, npt.NDArray[np.int64]]:
    """The same of what NNCF makes by its own defaults, of the network alone."""
    about = about_of(weights, "tensors")
    model = onnx_of(program_of(weights.module(), weights.spec, about.preprocessing, "tensors"), {})
    train = load_data(source).train
    chosen = np.linspace(0, len(train) - 1, CALIBRATION).round().astype(int)
    rows = [stacked([row(image, about)]) for image in pictures(ImageSet(train.images[chosen], train.labels[chosen]))]
    found = {}
    kinds: tuple[tuple[Quantisable, Any], ...] = (("onnx", model), ("openvino", openvino_of(model)))
    for kind, graph in kinds:
        path = by_hand(graph, kind, rows, scratch)
        runtime = opened(path, Way("onnxruntime" if kind == "onnx" else "openvino", "int8"))
        logits: Logits = logits_of(runtime, (row(image, about) for image in shown.images), 100)
        found[f"{runtime.name} int8 by NNCF's defaults"] = logits.argmax(1)
    return found


def by_hand(graph: Any, kind: Quantisable, rows: Sequence[Any], folder: Path) -> Path:
    """A graph in int8 by NNCF's defaults, written."""
    nncf = quantiser()
    made_ = nncf.quantize(graph, nncf.Dataset(rows, (lambda x: {"images": x}) if kind == "onnx" else (lambda x: x)))
    (write_onnx if kind == "onnx" else partial(write_openvino, said={}))(made_, folder)
    return folder / FILES[kind]


def int8(given: argparse.Namespace) -> dict[str, Any]:
    """Accuracy and agreement of the shipped ResNet-20."""
    weights = load(SHIPPED)
    shown = tested(given.source, weights)
    before = in_pytorch(weights, shown)
    found = {"pytorch fp32": figures(before, before, shown)}
    commands = []
    with tempfile.TemporaryDirectory() as scratch:
        for precision, more in (("fp32", ()), ("int8", ("--int8", "--calibration-images", str(CALIBRATION)))):
            commands.append(exported(SHIPPED, given.source, Path(scratch) / precision, "--force", *more))
            for name, first in of_artefact(Path(scratch) / precision, shown).items():
                found[name] = figures(first, before, shown)
        for name, first in by_defaults(weights, given.source, shown, Path(scratch)).items():
            found[name] = figures(first, before, shown)
    for name, each in found.items():
        print(name, each, flush=True)
    return {
        "weights": SHIPPED, "images": len(shown.labels), "exported_by": commands,
        "settings": asdict(SETTINGS) | {"calibration_images": CALIBRATION, "of": "training images, evenly spaced"},
        "found": found,
    }  # fmt: skip


def drawn(photographs: Sequence[Path]) -> tuple[nn.Module, list[npt.NDArray[np.float32]]]:
    """torchvision's ResNet-50 with drawn weights and BN's statistics of photographs, and those as tensors, one each."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    net = resnet50()
    about = About(
        net="resnet50", num_classes=1000, channels=3, input="tensors", preprocessing=IMAGENET, models=FILES
    )  # fmt: skip
    rows = [row(whole(Encoded(path.name, path, True), 3), about)[None].astype(np.float32) for path in photographs]
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
    with torch.no_grad():
        batches = [torch.from_numpy(np.concatenate(rows[start : start + 16])) for start in range(0, len(rows), 16)]
        for batch in batches:
            net.train()(batch)
        # Each photograph is a class, and as sure as one that was learnt: else int8 would change what was never certain,
        # and accuracy control take back layers for it.
        head, net.fc = net.fc, nn.Identity()
        features = torch.cat([net.eval()(batch) for batch in batches])
        apart = nn.functional.normalize(features - features.mean(0))
        head.weight[: len(rows)], net.fc = 10 * apart, head
        head.weight[len(rows) :], head.bias[:] = 0, -head.weight @ features.mean(0)
    return net, rows


def _tensors(batch: int) -> Tensor:
    return torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def eager(state: Path, batch: int, *, bf16: bool, channels_last: bool, folded: bool) -> Work:
    """torchvision's network in PyTorch."""
    from torch.fx.experimental.optimization import fuse
    from torchvision.models import resnet50

    net = resnet50()
    net.load_state_dict(torch.load(state, weights_only=True))
    net = net.eval()
    images = _tensors(batch)
    if folded:
        net = fuse(net)
    if bf16:
        net, images = net.bfloat16(), images.bfloat16()
    if channels_last:
        net, images = net.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def run() -> Tensor:
        found: Tensor = net(images)
        return found

    return run


def artefact(folder: Path, way: Way, batch: int) -> Work:
    """What was exported, by a runtime as Reslab opens it."""
    found = read(folder)
    runtime = open_runtime(found, way.name, precision=way.precision, threads=torch.get_num_threads())
    images = _tensors(batch).numpy()
    return lambda: runtime.logits(images)


def onnxruntime_by_hand(path: Path, batch: int) -> Work:
    """As its documentation has it."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    images = {session.get_inputs()[0].name: _tensors(batch).numpy()}
    return lambda: session.run(None, images)


def openvino_by_hand(path: Path, batch: int, *, precision: str | None) -> Work:
    """As its documentation has it; it computes in bf16 where the processor has it unless told otherwise."""
    import openvino as ov

    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    settings |= {} if precision is None else {"INFERENCE_PRECISION_HINT": precision}
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    images = _tensors(batch).numpy()
    return lambda: compiled(images)


def written_by_hand(net: nn.Module, rows: Sequence[Any], folder: Path) -> dict[str, Path]:
    """torchvision's network for each runtime, by what the libraries themselves offer."""
    import openvino as ov

    paths = {name: folder / name for name in ("fp32", "int8")}
    for path in paths.values():
        path.mkdir()
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        net, (_tensors(2),), dynamo=True, input_names=["images"], dynamic_shapes=({0: batch},), verbose=False,
        external_data=False,
    )  # fmt: skip
    assert program is not None
    write_onnx(program.model_proto, paths["fp32"])
    graph = ov.convert_model(net, example_input=_tensors(2), input=[-1, 3, 224, 224])
    write_openvino(graph, paths["fp32"], {})
    by_hand(program.model_proto, "onnx", rows, paths["int8"])
    by_hand(graph, "openvino", rows, paths["int8"])
    return paths


def written_by_reslab(net: nn.Module, rows: Sequence[Any], folder: Path) -> tuple[dict[str, Path], dict[str, int]]:
    """The same network by Reslab in fp32 and int8, and how many layers each int8 graph has left in fp32."""
    own = build("resnet50").eval()
    own.load_state_dict(net.state_dict())
    spec = own.spec
    program = program_of(own, spec, IMAGENET, "tensors")
    about = About(net="resnet50", spec=spec, num_classes=1000, channels=3, input="tensors", preprocessing=IMAGENET,
                  models=FILES)  # fmt: skip
    model = onnx_of(program, {})
    graph = openvino_of(model)
    paths, left = {name: folder / name for name in ("fp32", "int8")}, {}
    with written(paths["fp32"]) as place:
        write_torch(program, place, {})
        write_onnx(model, place)
        write_openvino(graph, place, {})
        seal(place, about)
    with written(paths["int8"]) as place:
        for kind, each in (("onnx", model), ("openvino", openvino_of(model))):
            found = quantised(each, kind, rows)  # type: ignore[arg-type]
            left[kind] = found.left
            (write_onnx if kind == "onnx" else partial(write_openvino, said={}))(found.model, place)
        seal(place, about.model_copy(update={"precision": "int8", "models": {
            kind: name for kind, name in FILES.items() if kind != "torch"}}))  # fmt: skip
    return paths, left


def sides(state: Path, ours: dict[str, Path], others: dict[str, Path], batch: int) -> dict[str, Any]:
    """What takes turns, by name; each is made in a process of its own."""
    half = has_bf16(CPU)
    todo: dict[str, Any] = {
        "pytorch fp32, as it comes": partial(eager, state, batch, bf16=False, channels_last=False, folded=False)
    }
    for bf16 in (False, True) if half else (False,):
        for last in (False, True):
            name = f"pytorch {'bf16' if bf16 else 'fp32'}, {'channels-last' if last else 'channels-first'}, folded"
            todo[name] = partial(eager, state, batch, bf16=bf16, channels_last=last, folded=True)
    for folder in ours.values():
        for way in ways(read(folder).about):
            if way.precision != "bf16" or half:
                todo[f"reslab, {way}"] = partial(artefact, folder, way, batch)
    for precision, folder in others.items():
        todo[f"by hand, onnxruntime {precision}"] = partial(onnxruntime_by_hand, folder / FILES["onnx"], batch)
        hint = "f32" if precision == "fp32" else None
        path = folder / FILES["openvino"]
        todo[f"by hand, openvino {precision}"] = partial(openvino_by_hand, path, batch, precision=hint)
    if half:
        path = others["fp32"] / FILES["openvino"]
        todo["by hand, openvino bf16"] = partial(openvino_by_hand, path, batch, precision="bf16")
    return todo


def compared(seconds: dict[str, list[float]], batch: int) -> dict[str, Any]:
    """Images a second of each side, and each of ours beside PyTorch at its best and the same runtime by hand."""
    rates = {name: round(batch / statistics.median(each), 2) for name, each in seconds.items()}
    best = max((name for name in rates if name.startswith("pytorch")), key=rates.__getitem__)
    found: dict[str, Any] = {"images_per_second": rates, "pytorch_at_its_best": best, "times_as_fast": {}}
    first = "pytorch fp32, as it comes"
    for name in rates:
        if name.startswith("reslab, "):
            hand = name.replace("reslab, ", "by hand, ")
            against = {"pytorch as it comes": first, "pytorch at its best": best, "by hand": hand}
            found["times_as_fast"][name] = {
                said: {key: round(value, 3) for key, value in asdict(ratio(seconds[other], seconds[name])).items()}
                for said, other in against.items()
                if other in seconds
            }
    return found


def speed(given: argparse.Namespace) -> dict[str, Any]:
    """ResNet-50 by each runtime."""
    torch.set_num_threads(given.threads)
    paths = (path for path in sorted(given.source_path.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg"))
    photographs = list(islice(paths, given.images))
    if not photographs:
        raise SystemExit(f"{given.source}: expected a folder with JPEG files")
    record: dict[str, Any] = {"net": "resnet50", "threads": given.threads, "calibration_images": len(photographs)}
    if given.out.exists():
        record |= {name: each for name, each in read_json(given.out).items() if name.startswith("batch_")}
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        if not (folder / "left.json").exists():
            net, rows = drawn(photographs)
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(net.state_dict(), folder / "state.pt")
            for name in ("ours", "others"):
                (folder / name).mkdir()
            left = written_by_reslab(net, rows, folder / "ours")[1]
            written_by_hand(net, rows, folder / "others")
            write_json(folder / "left.json", left)
        ours, others = ({kind: folder / name / kind for kind in ("fp32", "int8")} for name in ("ours", "others"))
        record["layers_of_int8_left_in_fp32"] = left = read_json(folder / "left.json")
        print("left in fp32:", left, flush=True)
        for batch in given.batches if given.rounds else ():
            todo = sides(folder / "state.pt", ours, others, batch)
            todo = {name: make for name, make in todo.items() if any(word in name for word in given.sides)}
            load = [round(each, 2) for each in os.getloadavg()]
            seconds = take_turns_apart(
                todo, rounds=given.rounds, turn=given.turn, device=CPU, done=lambda n: print("round", n, flush=True)
            )
            record[f"batch_{batch}"] = (
                compared(seconds, batch) | {"rounds": given.rounds, "load_average": load} | made()
            )
            for name, rate in record[f"batch_{batch}"]["images_per_second"].items():
                print(f"  {rate:8.1f} images/s  {name}", flush=True)
    return record


def main() -> None:
    """Measures, prints and writes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("what", choices=("int8", "speed"))
    words.add_argument("source")
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--rounds", type=int, default=9)
    words.add_argument("--turn", type=float, default=1.0, help="seconds")
    words.add_argument("--batches", type=int, nargs="+", default=[16, 1])
    words.add_argument(
        "--images",
        type=int,
        choices=range(16, 1001),
        metavar="16..1000",
        default=CALIBRATION,
        help="photographs that int8 takes its ranges from",
    )
    words.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    words.add_argument("--folder", type=Path, help="that keeps what is written, and in which it is found again")
    words.add_argument("--sides", nargs="+", default=[""], help="take turns if their names hold one of these words")
    given = words.parse_args()
    given.source_path = Path(given.source)
    found = int8(given) if given.what == "int8" else speed(given)
    versions = {name: metadata.version(name) for name in LIBRARIES}
    write_json(given.out, {"what": given.what} | found | {"made": made(**versions)})


if __name__ == "__main__":
    main()
