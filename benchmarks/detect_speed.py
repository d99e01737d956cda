"""Faster R-CNN ResNet-50-FPN on the CPU: a training step and an image, beside torchvision's, in one run.

    python benchmarks/detect_speed.py step BCCD --out results/detect/speed.json
    python benchmarks/detect_speed.py image BCCD --out results/detect/speed.json     # adds to the file
    python benchmarks/detect_speed.py profile BCCD --out results/detect/speed.json   # where OpenVINO's time goes

The short side is 320 and the images are those of a folder with boxes. All sides have the same network, anchors,
regions and proposals, and take the same images by turns; ratios are medians over the rounds.

Training (two images a step, the reference script's number for each process; its BN frozen, its stem and first stage
fixed, as the reference trains from ImageNet's weights; the weights here are random, which takes as long):

- torchvision: its reference script's step, fp32, channels first, `torch.optim.SGD`.
- torchvision at its best: bf16 by autocast and channels-last.
- reslab: a step of ``reslab detect train`` with its defaults here, images taken from the folder and decoded once.

Inference, an image at a time, one set of weights for all: torchvision eager in fp32; the same in channels-last; the
same in bf16, too; and what ``reslab export`` writes, by ONNX Runtime in fp32 and by OpenVINO in fp32 and bf16. All keep
300 proposals. The record says how many of our boxes are those of eager fp32: of bf16 few, as the weights are random and
their scores nearly equal; what bf16 is worth in a trained detector is in results/detect/export.json.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.models import resnet50
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops.misc import FrozenBatchNorm2d

from reslab import runs
from reslab.bench.paired import ratio, take_turns
from reslab.commands.execution import start
from reslab.deploy.libraries import library
from reslab.detect.annotations import Annotations, Picture, read
from reslab.detect.export import write_onnx, write_openvino
from reslab.detect.feed import Feed, decoded
from reslab.detect.find import find
from reslab.detect.gate import check
from reslab.detect.networks import build_detector
from reslab.detect.recipe import DetectRecipe
from reslab.detect.runtimes import OnnxDetector, OpenVinoDetector
from reslab.detect.spec import DetectorSpec
from reslab.detect.trainer import Trainer
from reslab.nets.catalog import resolve_any

SHORT, LONG, BATCH = 320, 1000, 2
CPU = torch.device("cpu")


def processor() -> str:
    """What /proc says of it: its name, and its kinds of vector arithmetic."""
    said = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in said.split("\n\n")[0].splitlines() if ":" in line)
    found = {name.strip(): value.strip() for name, value in fields.items()}
    kinds = [kind for kind in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if kind in found.get("flags", "").split()]
    family = f"family {found.get('cpu family')}, model {found.get('model')}"
    return f"{found.get('model name', 'unknown')} ({family}): {', '.join(kinds)}"


def spec(classes: tuple[str, ...]) -> DetectorSpec:
    """Ours, of the same parts."""
    return DetectorSpec(
        net=resolve_any("resnet50"), classes=classes, norm="frozen", frozen_stages=1, short=SHORT, long=LONG
    )


def peer(classes: int) -> FasterRCNN:
    """torchvision's, as ``fasterrcnn_resnet50_fpn`` builds it from ImageNet's weights."""
    torch.manual_seed(0)
    backbone = _resnet_fpn_extractor(resnet50(weights=None, norm_layer=FrozenBatchNorm2d), 3)
    return FasterRCNN(backbone, classes + 1, min_size=SHORT, max_size=LONG, rpn_post_nms_top_n_test=300)


def peer_step(pictures: tuple[Picture, ...], classes: int, *, best: bool) -> Callable[[], object]:
    """A step of the reference script; the images are decoded before."""
    model = peer(classes).train()
    if best:
        model = model.to(memory_format=torch.channels_last)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.0025, momentum=0.9, weight_decay=1e-4)
    feed = Feed(pictures, BATCH, flip=True, seed=0)
    i = 0

    def step() -> None:
        nonlocal i
        images, targets = feed.take(i, CPU)
        i += 1
        with torch.autocast("cpu", torch.bfloat16, enabled=best):
            loss: Tensor = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def steps(data: Annotations, rounds: int) -> dict[str, Any]:
    """The three trainings by turns."""
    pictures, classes = data.pictures("train")[:16], len(data.classes)
    recipe = DetectRecipe(detector=spec(data.classes), batch=BATCH, iterations=10_000)
    trainer = Trainer(recipe, pictures, start("cpu"))
    works = {
        "reslab": trainer.step,
        "torchvision": peer_step(pictures, classes, best=False),
        "torchvision, bf16 and channels-last": peer_step(pictures, classes, best=True),
    }
    return _compared(works, rounds, turn=1.0) | {"precision": trainer.precision, "images_a_step": BATCH}


def images(data: Annotations, rounds: int) -> dict[str, Any]:
    """The ways to find boxes by turns."""
    shown = [decoded(picture) for picture in data.pictures("test")[:8]]
    theirs = peer(len(data.classes)).eval()
    detector = build_detector(spec(data.classes)).eval()
    detector.model.load_state_dict(theirs.state_dict(), strict=False)  # counters of BN are ours alone
    last = peer(len(data.classes)).eval().to(memory_format=torch.channels_last)
    place = 0

    def after() -> int:
        nonlocal place
        place = (place + 1) % len(shown)
        return place

    def eager(model: FasterRCNN, *, bf16: bool = False) -> Callable[[], object]:
        @torch.inference_mode()
        def one() -> object:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return model([shown[after()].float() / 255])

        return one

    def exported(export: OnnxDetector | OpenVinoDetector) -> Callable[[], object]:
        def one() -> object:
            start = after()
            return export.find(shown[start : start + 1])

        return one

    with tempfile.TemporaryDirectory() as folder:
        path, threads = Path(folder) / "d.onnx", torch.get_num_threads()
        write_onnx(detector, path)
        write_openvino(path, path.with_suffix(".xml"))
        exports: dict[str, OnnxDetector | OpenVinoDetector] = {
            "reslab": OnnxDetector(path, threads=threads),
            "reslab, OpenVINO": OpenVinoDetector(path.with_suffix(".xml"), threads=threads),
            "reslab, OpenVINO bf16": OpenVinoDetector(path.with_suffix(".xml"), precision="bf16", threads=threads),
        }
        seen = {
            name: check(lambda some: find(detector, some), each.find, shown, speed=False)
            for name, each in exports.items()
        }
        works = {name: exported(each) for name, each in exports.items()} | {
            "torchvision": eager(theirs), "torchvision, channels-last": eager(last),
            "torchvision, bf16 and channels-last": eager(last, bf16=True),
        }  # fmt: skip
        seconds = take_turns(works, rounds=rounds, turn=0.6, device=CPU, warm_up=2)
    return {
        "rounds": rounds,
        "seconds": {name: round(statistics.median(each), 4) for name, each in seconds.items()},
        "times_as_fast": {name: {other: _ratio(seconds[other], seconds[name]) for other in works if other not in seen}
                          for name in exports},
        "same_boxes_per_cent": {name: round(each.agreement, 2) for name, each in seen.items()},
        "boxes": seen["reslab"].boxes,
    }  # fmt: skip


def profiled(data: Annotations, passes: int) -> dict[str, Any]:
    """Milliseconds of an image by kind of operation, in OpenVINO's file; those of half a millisecond or more."""
    openvino = library("openvino")
    image = decoded(data.pictures("test")[0]).permute(1, 2, 0).contiguous().numpy()
    detector = build_detector(spec(data.classes)).eval()
    found: dict[str, Any] = {"passes": passes, "image": image.shape}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.onnx"
        write_onnx(detector, path)
        write_openvino(path, path.with_suffix(".xml"))
        for precision in ("f32", "bf16"):
            settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                        "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}  # fmt: skip
            core = openvino.Core()
            request = core.compile_model(path.with_suffix(".xml"), "CPU", settings).create_infer_request()
            rows: dict[str, list[float]] = {}
            for number in range(passes + 2):
                request.infer([image])
                kinds: dict[str, float] = {}
                for each in request.profiling_info:
                    spent = 1000 * each.real_time.total_seconds()
                    kinds[each.node_type] = kinds.get(each.node_type, 0) + spent
                for kind, spent in kinds.items() if number > 1 else ():
                    rows.setdefault(kind, []).append(spent)
            medians = {kind: round(statistics.median(each), 2) for kind, each in rows.items()}
            largest = sorted(medians.items(), key=lambda row: -row[1])
            found[precision] = {kind: spent for kind, spent in largest if spent >= 0.5}
            found[precision]["all"] = round(sum(medians.values()), 2)
    return found


def _ratio(slow: list[float], quick: list[float]) -> dict[str, float]:
    return {key: round(value, 3) for key, value in asdict(ratio(slow, quick)).items()}


def _compared(works: dict[str, Callable[[], object]], rounds: int, turn: float) -> dict[str, Any]:
    seconds = take_turns(works, rounds=rounds, turn=turn, device=CPU, warm_up=3)
    return {
        "rounds": rounds,
        "seconds": {name: round(statistics.median(each), 4) for name, each in seconds.items()},
        "times_as_fast": {
            name: _ratio(each, seconds["reslab"])
            for name, each in seconds.items() if name != "reslab"
        },
    }  # fmt: skip


def main() -> None:
    """Reads the words of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("step", "image", "profile"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/detect/speed.json"))
    options = parser.parse_args()
    start("cpu", options.threads)
    data = read(options.data)
    made = {"step": steps, "image": images, "profile": profiled}[options.what](data, options.rounds)
    before = runs.read_json(options.out) if options.out.exists() else {}
    about = runs.made(torch=torch.__version__, torchvision=torchvision.__version__, processor=processor(),
                      threads=options.threads)  # fmt: skip
    runs.write_json(options.out, {"what": (__doc__ or "").split("\n\n")[0], **before, options.what: {**about, **made}})
    print(made)


if __name__ == "__main__":
    main()
