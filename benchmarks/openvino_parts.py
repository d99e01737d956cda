"""OpenVINO on batches: parts of them computed apart, as Reslab does, beside the whole by all threads, from one file.

    python benchmarks/openvino_parts.py --out results/openvino_parts.json

ResNet-50 at 224 pixels with drawn weights, in fp32 (computed in bf16 too where the processor has it) and in int8 by
NNCF's defaults with ranges of a few drawn tensors: speed depends on neither. Both sides open the same file and take
turns in one process; the other is what OpenVINO's documentation has for the least latency, with as many threads.
"""

import argparse
import os
import statistics
import tempfile
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export import CPU, IMAGENET, by_hand, openvino_by_hand
from reslab.bench.paired import Work, ratio, take_turns
from reslab.deploy.export import FILES, onnx_of, openvino_of, program_of, write_openvino
from reslab.deploy.runtimes import Way, opened
from reslab.nets import build
from reslab.runs import made, write_json
from reslab.train.device import has_bf16


def main() -> None:
    """Writes both files, times, prints and records."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    words.add_argument("--out", type=Path, required=True)
    given = words.parse_args()
    torch.set_num_threads(given.threads)
    net = build("resnet50", seed=0).eval()
    graph = openvino_of(onnx_of(program_of(net, net.spec, IMAGENET, "tensors"), {}))
    draw = np.random.default_rng(0)
    rows = [draw.standard_normal((1, 3, 224, 224)).astype(np.float32) for _ in range(4)]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / name for name in ("fp32", "int8")}
        for folder in folders.values():
            folder.mkdir()
        write_openvino(graph, folders["fp32"], {})
        by_hand(graph, "openvino", rows, folders["int8"])
        for precision in ("int8", "bf16", "fp32") if has_bf16(CPU) else ("int8", "fp32"):
            path = folders["int8" if precision == "int8" else "fp32"] / FILES["openvino"]
            hint = {"int8": None, "bf16": "bf16", "fp32": "f32"}[precision]
            runtime = opened(path, Way("openvino", precision), threads=given.threads)
            for batch in given.batches:
                images = draw.standard_normal((batch, 3, 224, 224)).astype(np.float32)
                works: dict[str, Work] = {
                    "reslab": partial(runtime.logits, images),
                    "by hand": openvino_by_hand(path, batch, precision=hint),
                }
                seconds = take_turns(works, rounds=given.rounds, turn=0.3, device=CPU, warm_up=2)
                rates = {name: round(batch / statistics.median(each), 1) for name, each in seconds.items()}
                times = asdict(ratio(seconds["by hand"], seconds["reslab"]))
                times = {key: round(value, 3) for key, value in times.items()}
                found.setdefault(precision, {})[str(batch)] = {"images_per_second": rates, "times_by_hand": times}
                print(precision, batch, rates, times, flush=True)
    record = {"net": "resnet50", "threads": given.threads, "by_precision_and_batch": found}
    load = [round(each, 2) for each in os.getloadavg()]
    versions = {name: metadata.version(name) for name in ("openvino", "nncf")}
    write_json(given.out, record | {"load_average": load, "made": made(**versions)})


if __name__ == "__main__":
    main()
