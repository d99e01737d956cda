"""Every network that has a name, at its full depth and width, written for each runtime and compared with itself.

    python benchmarks/export_catalogue.py --out results/export_catalogue.json

Weights are drawn; BN's statistics are those of drawn images. Each is written as ONNX (passed through its checker), as
OpenVINO's IR and as a `torch.export` archive, takes tensors, and computes one and three of them by each runtime, in
fp32. Differences are those of the logits from PyTorch in fp64, relative to the largest; PyTorch's own in fp32 says what
rounding alone does (in plain networks of 110 layers much). What is in the record is not done again. Takes half an hour
of one core. Preprocessing and int8 are tested elsewhere (tests/deploy).
"""

import argparse
import gc
import tempfile
import time
from copy import deepcopy
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from export import LIBRARIES
from reslab.deploy.artefact import Format, RuntimeName
from reslab.deploy.export import FILES, onnx_of, openvino_of, program_of, write_onnx, write_openvino, write_torch
from reslab.deploy.runtimes import READS, Way, opened
from reslab.errors import InputError
from reslab.nets.catalog import CATALOG, REFERENCES, resolve_any
from reslab.nets.network import build_any
from reslab.runs import made, read_json, write_json
from reslab.weights.preprocessing import Preprocessing

BATCHES = (1, 3)


def network(name: str, size: tuple[int, int]) -> nn.Module:
    """With drawn weights, and BN's statistics of eight drawn images."""
    torch.manual_seed(0)
    net = build_any(name)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches, of which there is one
    with torch.no_grad():
        net.train()(torch.randn(8, 3, *size))
    return net.eval()


def compared(name: str) -> dict[str, Any]:
    """What was written of it, and how far each runtime is from PyTorch."""
    began = time.perf_counter()
    spec = resolve_any(name)
    size = getattr(spec, "size", None) or (224, 224)
    how = Preprocessing(mean=(0,) * 3, std=(1,) * 3, crop=size)
    net = network(name, size)
    images = torch.randn(max(BATCHES), 3, *size)
    with torch.no_grad():
        own = net(images).numpy()
        expected = deepcopy(net).double()(images.double()).numpy()
    found: dict[str, Any] = {
        "parameters": sum(each.numel() for each in net.parameters()),
        "difference": {"pytorch": {str(len(own)): relative(own, expected)}},
    }
    try:
        program = program_of(net, spec, how, "tensors")
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            model = onnx_of(program, {})
            write_torch(program, folder, {})
            write_onnx(model, folder)
            write_openvino(openvino_of(model), folder, {})
            del model, program
            for runtime, reads in READS.items():
                found["difference"][runtime] = apart(folder, runtime, reads, images.numpy(), expected)
    except InputError as why:
        found["refused"] = str(why)
    return found | {"seconds": round(time.perf_counter() - began, 1)}


def apart(folder: Path, runtime: RuntimeName, reads: Format, images: Any, expected: Any) -> dict[str, float]:
    """The largest difference of a logit at each batch size, relative to the largest logit."""
    computes = opened(folder / FILES[reads], Way(runtime, "fp32"), threads=torch.get_num_threads())
    found = {}
    for batch in BATCHES:
        logits = computes.logits(images[:batch])
        found[str(batch)] = relative(logits, expected[:batch])
    return found


def relative(found: Any, expected: Any) -> float:
    """The largest difference, beside the largest logit."""
    return float(f"{np.abs(found - expected).max() / np.abs(expected).max():.2g}")


def main() -> None:
    """Goes through the names, prints and records."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("names", nargs="*", help="by default all")
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--out", type=Path, required=True)
    given = words.parse_args()
    torch.set_num_threads(given.threads)
    names = given.names or [*CATALOG, *REFERENCES]
    found: dict[str, Any] = read_json(given.out)["networks"] if given.out.exists() else {}
    versions = {name: metadata.version(name) for name in LIBRARIES}
    for name in names:
        if name in found:
            continue
        found[name] = compared(name)
        print(name, found[name], flush=True)
        gc.collect()
        worst = {
            side: max(max(one["difference"].get(side, {"": 0.0}).values()) for one in found.values())
            for side in ("pytorch", *READS)
        }  # fmt: skip
        record = {
            "names": len(names), "written": sum("refused" not in one for one in found.values()),
            "refused": [one for one in found if "refused" in found[one]], "largest_difference": worst,
        }  # fmt: skip
        write_json(given.out, record | {"networks": found, "made": made(**versions)})


if __name__ == "__main__":
    main()
