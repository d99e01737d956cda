"""The job of `benchmarks/gpu.py` that compares backbones of a detector: VGG-16 with BN against ResNet-101, on BCCD.

He et al. 2015, Tables 7 and 8, at what a lent machine has time for: one seed, from random weights. By itself it decides
nothing (`reslab detect study` gives verdicts from three seeds on); it shows the full-size networks trained.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from reslab.detect.annotations import read
from reslab.detect.loop import train
from reslab.detect.recipe import DetectRecipe
from reslab.detect.spec import DetectorSpec
from reslab.nets.catalog import resolve_any
from reslab.runs import RunDir
from reslab.studies.he2015_detection import compared, published_map
from reslab.train.device import Execution

NETS = "vgg16-bn", "resnet101"
TINY = "cifar_plain(depth=8, width=4)", "cifar_resnet(depth=8, width=4)"
"""Those of a rehearsal."""
ITERATIONS, SHORT, REGIONS, ANCHORS = 600, 480, 128, (32.0, 64.0, 128.0, 256.0)


def recipe(net: str, classes: tuple[str, ...], *, tiny: bool = False) -> DetectRecipe:
    """Of both networks alike: Faster R-CNN as in 2015, BN trained, on the splits train and val."""
    detector = DetectorSpec(
        net=resolve_any(net), classes=classes, kind="c4", norm="batch", pooling="max", short=48 if tiny else SHORT,
        long=96 if tiny else 1000, anchors=(8.0, 16.0) if tiny else ANCHORS, regions=8 if tiny else REGIONS,
    )  # fmt: skip
    iterations = 2 if tiny else ITERATIONS
    return DetectRecipe(detector=detector, learns="trainval", batch=4, iterations=iterations, evaluate_every=iterations)


def backbones(
    boxes: str, folder: Path, execution: Execution, *, stop: Callable[[], bool], keep: Callable[[dict[str, Any]], None],
    tiny: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Trains each network and tests it; goes on where it was stopped. About 8 minutes on an H100 at most.

    Args:
        boxes: images with boxes, as `reslab detect train` takes them.
        folder: of the runs.
        execution: where they run.
        stop: asked after each step.
        keep: is given what there is after each network.
        tiny: with networks and images that take seconds on a CPU.
    """
    data, nets = read(boxes), TINY if tiny else NETS
    cuda, found = execution.device.type == "cuda", dict[str, Any]()
    for net in nets:
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        begun, run = time.perf_counter(), RunDir(folder / f"{net}-seed0")
        result = train(recipe(net, data.classes, tiny=tiny), data, run.path, execution=execution, stop=stop, quiet=True)
        found[net] = {
            "result": result, "metrics": run.read_metrics(), "published_voc07": published_map(net.removesuffix("-bn")),
            "seconds": round(time.perf_counter() - begun, 1),
            "gigabytes": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
        }  # fmt: skip
        keep({"networks": found})
        print(f"    {net}: mAP@0.5 {100 * (result['voc07']['map'] or 0):.1f} %", flush=True)
    points = {net: {0: 100 * (found[net]["result"]["voc07"]["map"] or 0.0)} for net in nets}
    return {"networks": found, "compared": [each.words() for each in compared(points, nets)]}
