"""A smaller network, step by step: blocks pruned, fine-tuned, written in int8; what each step costs and gains.

    python benchmarks/smaller.py CIFAR10 --out results/smaller.json
    python benchmarks/smaller.py CIFAR10 --weights runs/resnet56 --drop 8 --out results/smaller_resnet56.json

CIFAR10 is the data set as `reslab` takes it (cifar10, or a Parquet folder). The steps are the commands that a user
would give: `reslab prune --drop` (training images choose the blocks; how many was said beforehand, so that no test
image chooses anything), what it wrote fine-tuned by `--drop 0 --finetune`, and `reslab export`, in fp32 and with
`--int8`. All 10,000 test images are then named by what was written, by OpenVINO; and by turns, each in a process of its
own, all that was written and the whole network in eager PyTorch compute batches of 1 and of 32. ``--no-speed`` leaves
the turns out. ``--folder`` keeps what was written and finds it again, and ``--speed-alone`` adds the turns to a record,
so that they can be taken when nothing else runs.
"""

import argparse
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from export import CPU, LIBRARIES, SHIPPED, exported, figures, in_pytorch, of_artefact, tested
from reslab.bench import peers, works
from reslab.bench.paired import Work, ratio, take_turns_apart
from reslab.deploy.artefact import read
from reslab.deploy.evaluate import spec_of
from reslab.deploy.export import FILES
from reslab.deploy.libraries import library
from reslab.deploy.quantize import counted
from reslab.deploy.runtimes import Way, answering
from reslab.nets.cost import cost_any
from reslab.nets.spec import AnyNet
from reslab.runs import made, read_json, write_json
from reslab.train.device import Execution
from reslab.weights.load import load

BATCHES = (1, 32)
PYTORCH = "whole, eager PyTorch"


@dataclass(frozen=True)
class Step:
    """What was written, and by which commands."""

    name: str
    folder: Path
    commands: tuple[str, ...]


def pruned(weights: str, given: argparse.Namespace, out: Path, *more: str) -> str:
    """`reslab prune` without any comparison of speed, unless it is there already; returns the command."""
    words = ["prune", weights, "--data", given.source, "--rounds", "1", *more]
    if not out.exists():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "reslab", *words, "--out", str(out)], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        write_json(out.with_suffix(".json"), {"processor_seconds": round(spent, 1)})
    return shlex.join(["reslab", *(Path(word).name if "/" in word else word for word in words)])


def steps(given: argparse.Namespace, folder: Path) -> list[Step]:
    """All that is compared, written; the whole network first."""
    small, tuned = folder / "pruned.safetensors", folder / "tuned.safetensors"
    cut = pruned(given.weights, given, small, "--drop", str(given.drop))
    tuning = ["--finetune", str(given.finetune), "--lr", f"{given.lr:g}", "--precision", given.precision]
    again = pruned(str(small), given, tuned, "--drop", "0", *tuning)
    found: list[Step] = []
    for name, weights, before in (
        ("whole", given.weights, ()),
        (f"without {given.drop} blocks", str(small), (cut,)),
        (f"without {given.drop} blocks, fine-tuned", str(tuned), (cut, again)),
    ):
        for precision in ("fp32", "int8"):
            place = folder / f"{len(found)}"
            more = ("--int8",) if precision == "int8" else ()
            words = ("--force", "--input", "crops", *more)
            command = exported(weights, given.source, place, *words, to=("openvino",))
            found.append(Step(f"{name}, {precision}", place, (*before, command)))
    return found


def in_eager(spec: AnyNet, batch: int) -> Work:
    """The whole network as a script has it, in its quickest memory format for convolutions."""
    case = works.Case(spec, batch, Execution(CPU), "fp32")
    return peers.peer_inference(case, "eager", peers.Way(channels_last=True, keeps_memory=True))


def timed(found: list[Step], given: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Seconds of a batch of each, by batch size and name."""
    seconds = {}
    for batch in BATCHES:
        makers: dict[str, Any] = {PYTORCH: partial(in_eager, spec_of(read(found[0].folder)), batch)}
        for step in found:
            way = Way("openvino", read(step.folder).about.precision)
            makers[step.name] = partial(answering, step.folder, way, batch=batch, threads=given.threads)
        seconds[str(batch)] = take_turns_apart(makers, rounds=given.rounds, turn=given.turn, device=CPU)
    return seconds


def layers_of(folder: Path) -> dict[str, int]:
    """How many layers of what was written multiply weights, and how many of them accuracy control left in fp32."""
    if read(folder).about.precision != "int8":
        return {}
    layers, left = counted(library("openvino").Core().read_model(folder / FILES["openvino"]), "openvino")
    return {"layers": layers, "left_in_fp32": left}


def speeds(seconds: Mapping[str, dict[str, list[float]]], name: str, first: str) -> dict[str, Any]:
    """Images a second, and how many times as fast as the whole network, exported and in PyTorch."""
    found = {}
    for batch, each in seconds.items():
        found[batch] = {"images_per_second": round(int(batch) / statistics.median(each[name]), 1)} | {
            said: {key: round(value, 3) for key, value in asdict(ratio(each[other], each[name])).items()}
            for said, other in (("times_the_whole", first), ("times_pytorch", PYTORCH))
        }
    return found


def main() -> None:
    """Makes, measures, prints and writes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("source")
    words.add_argument("--weights", default=SHIPPED)
    words.add_argument("--drop", type=int, default=2, help="blocks")
    words.add_argument("--finetune", type=int, default=2000, help="mini-batches of 128")
    words.add_argument("--lr", type=float, default=0.01)
    words.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of fine-tuning")
    words.add_argument("--no-speed", action="store_true")
    words.add_argument("--speed-alone", action="store_true", help="adds it to the record, of what is in --folder")
    words.add_argument("--folder", type=Path, help="that keeps what is written")
    words.add_argument("--rounds", type=int, default=9)
    words.add_argument("--turn", type=float, default=0.5, help="seconds")
    words.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    words.add_argument("--out", type=Path, required=True)
    given = words.parse_args()
    torch.set_num_threads(given.threads)
    if given.speed_alone:
        record = read_json(given.out)
        found = [Step(row["step"], given.folder / str(i), ()) for i, row in enumerate(record["steps"][1:])]
        load_average = [round(each, 2) for each in os.getloadavg()]
        seconds = timed(found, given)
        for row in record["steps"][1:]:
            row["by_batch"] = speeds(seconds, row["step"], found[0].name)
            print(row["step"], row["by_batch"], flush=True)
        eager = {batch: round(int(batch) / statistics.median(each[PYTORCH]), 1) for batch, each in seconds.items()}
        record["speed"] = {"threads": given.threads, "eager_pytorch_images_per_second": eager} | made()
        write_json(given.out, record | {"speed": record["speed"] | {"load_average": load_average}})
        return
    weights = load(given.weights)
    shown = tested(given.source, weights)
    before = in_pytorch(weights, shown)
    rows = [{"step": "whole, PyTorch, fp32"} | figures(before, before, shown)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = steps(given, folder)
        seconds = {} if given.no_speed else timed(found, given)
        spent = {name: read_json(folder / f"{name}.json")["processor_seconds"] for name in ("pruned", "tuned")}
        for step in found:
            artefact = read(step.folder)
            spec = spec_of(artefact)
            [first] = (each for name, each in of_artefact(step.folder, shown).items() if name.startswith("openvino"))
            costs = cost_any(spec)
            files = sum(each.bytes for name, each in artefact.about.files.items() if name.startswith("model.")
                        and not name.endswith(".onnx"))  # fmt: skip
            row = {"step": step.name, "net": spec.name, "params": costs.params, "macs": costs.macs, "bytes": files}
            row |= figures(first, before, shown) | layers_of(step.folder) | {"commands": step.commands}
            rows.append(row | ({} if given.no_speed else {"by_batch": speeds(seconds, step.name, found[0].name)}))
    for row in rows:
        print({key: value for key, value in row.items() if key != "commands"}, flush=True)
    versions = {name: metadata.version(name) for name in LIBRARIES}
    load_average = [round(each, 2) for each in os.getloadavg()]
    record = {"weights": given.weights, "images": len(shown.labels), "runtime": "openvino", "threads": given.threads}
    record |= {"processor_seconds_of_pruning": spent["pruned"], "processor_seconds_of_fine_tuning": spent["tuned"]}
    record |= {"steps": rows, "load_average": load_average}
    write_json(given.out, record | {"made": made(**versions)})


if __name__ == "__main__":
    main()
