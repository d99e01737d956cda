"""What only a GPU can show, in order of value, within a budget of minutes.

    python benchmarks/gpu.py --call 1                          correctness and steps: needs no data
    python benchmarks/gpu.py --call 2 --data path/to/cifar10   Table 6, several trainings at a time, and 94 %
    python benchmarks/gpu.py --budget 9 --data path/to/cifar10 [--out results/gpu] [--runs runs/gpu] [--only NAME ...]
    python benchmarks/gpu.py --only detection-backbones --boxes path/to/bccd   detectors: VGG-16 and ResNet-101
    python benchmarks/gpu.py --rehearse --call 1               all of it on the CPU, at sizes that show that it runs

The two calls fit a machine that is lent for fifteen minutes (`LEASE`); without ``--call`` the whole agenda is worked
at. CIFAR-10 in two halves that travel with the calls is made by `scripts/webp.py`.

Each job writes one JSON file; a job whose file is there is not run again, and a training that the budget cut short
goes on from its checkpoint. A job that is cut short leaves what it has in NAME.partial.json, and is run again. A job
runs in a process of its own, so that none finds settings, memory or a broken device that another left.
`--list` prints the agenda. Works with torch 2.11.
"""

import argparse
import gc
import importlib.util
import json
import math
import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from subprocess import Popen
from typing import Any

import torch
from torch import Tensor
from torch.profiler import profile

from reslab import recipes, runs, studies
from reslab.bench import peak, peers, works
from reslab.bench.paired import Work, ratio, take_turns_apart
from reslab.data.sources import Dataset, load
from reslab.data.spec import Source
from reslab.errors import InputError
from reslab.evaluate.metrics import evaluate
from reslab.nets.catalog import resolve, resolve_any
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.runs import RunDir
from reslab.studies.design import Depths
from reslab.studies.plan import MARK, Plan, of_no_study
from reslab.studies.runner import adopt, carry_out
from reslab.studies.summarise import summarise
from reslab.studies.together import Together
from reslab.train.device import Execution
from reslab.train.loop import Stopped, Trainer, train
from reslab.train.recipe import Recipe, override
from reslab.train.turns import Turns

sys.path.insert(0, str(Path(__file__).parent))  # for those who load this file by its path
import gpu_detection
import gpu_kernels

ROOT = Path(__file__).parents[1]
CUDA = torch.device("cuda")
REHEARSES = False
"""On the CPU, with networks, batches and lengths that take seconds: whether all of it runs."""
START = time.monotonic()
SAME, ALIKE = 1e-3, 0.02
"""Weights may differ by so much after 20 steps in fp32; in bf16 their mean losses by this share."""
LEAST_LEFT = 15
"""Seconds that another seed takes, with a margin: with less left it is not begun."""
LEEWAY = 30
"""Seconds behind the end in which a job may still write down what it has."""
PARTIAL = ".partial.json"
STOPPING = 12
"""Seconds before the end at which trainings under way are asked to leave a checkpoint."""
REHEARSED = 16
"""Iterations of a training in a rehearsal."""
NEVER = 1e30
"""A difference without bound, as JSON can hold it."""


@dataclass(frozen=True)
class Context:
    """Where the jobs read and write, and when they have to end."""

    data: str | None
    out: Path
    folder: Path
    deadline: float
    nets: tuple[str, ...] = ()
    """of Table 6, if not all"""
    job: str = ""
    """that is being carried out"""
    boxes: str | None = None
    """images with boxes, for detectors"""

    def keep(self, found: dict[str, Any]) -> None:
        """Writes what a job has so far: it may be ended before it is done."""
        if self.job:
            runs.write_json(self.out / f"{self.job}{PARTIAL}", json.loads(json.dumps(found, default=str)))

    def left(self) -> float:
        """Seconds until the end."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class Lease:
    """A machine that is lent for a while, to be called twice. In seconds, all of them counted from asking for it."""

    whole: float = 15 * 60
    longest: float = 10 * 60
    """of a call"""
    start: float = 60
    """until the first command runs: the machine's start, and what travels with it; 30 were seen"""
    between: float = 45
    """from the end of one call to the beginning of the next"""
    calls: tuple[float, ...] = (2.5 * 60, 9.25 * 60)
    """what is planned of each, `LEEWAY` not counted"""

    def spent(self) -> float:
        """Seconds in all, at the most."""
        return self.start + sum(call + LEEWAY for call in self.calls) + self.between * (len(self.calls) - 1)

    def fits(self) -> bool:
        """Whether all calls end before the machine goes back."""
        return self.spent() <= self.whole and all(call + LEEWAY <= self.longest for call in self.calls)


LEASE = Lease()
CALLS: tuple[tuple[str, ...], ...] = (
    ("kernels", "captured-is-eager", "profile-resnet20", "profile-resnet110"),
    ("table6", "seconds-to-94"),
)
"""The jobs of each call."""


def _synchronize() -> None:
    if CUDA.type == "cuda":
        torch.cuda.synchronize()


def _net(name: str) -> str:
    """A network, or in a rehearsal one of its kind that is small."""
    if not REHEARSES:
        return name
    if name == "resnet50":  # which another library has to have, too
        return "resnet18"
    return f"cifar_{'plain' if name.startswith('plain') else 'resnet'}(depth=8, width=4)"


class Skipped(Exception):
    """A job that cannot be done here, and why."""


@dataclass(frozen=True)
class Job:
    """One entry of the agenda."""

    name: str
    what: str
    minutes: float
    """at least so long; with less left it is not begun, unless it can be cut short and gone on with"""
    gigabytes: float
    """memory of the device that it needs"""
    run: Callable[["Context"], dict[str, Any]]
    resumable: bool = False
    leaves: float = 0.0
    """minutes that it leaves to those behind it, where it could go on to the end"""


# --- speed -----------------------------------------------------------------------------------------


def throughput(
    net: str, batch: int, against: peers.Against, *, bn_group: int | None = None, compiled: bool = True
) -> Callable[[Context], dict[str, Any]]:
    """Training images a second, ours captured, compiled and as it is, by turns with the peer; each in its own process.

    ``bn_group`` is 64 for the networks of He 2015, section 4.2, which were trained in two halves of 64. Of very deep
    networks ``compiled`` False saves the minutes that compiling takes.
    """

    def run(context: Context) -> dict[str, Any]:
        group = None if bn_group is None else 2 if REHEARSES else bn_group
        case = works.Case(
            resolve_any(_net(net)), (4 if bn_group else 2) if REHEARSES else batch, Execution(CUDA), "bf16", group
        )
        eager, written = Execution(CUDA, graphs=False), Execution(CUDA, compile=True)
        makers: dict[str, Callable[[], Work]] = {
            "reslab": partial(works.step_of, case),
            "reslab uncaptured": partial(works.step_of, replace(case, execution=eager)),
            f"{against} as it comes": partial(peers.peer_training, case, against),
            against: partial(peers.peer_training, case, against, peers.Way("bf16 autocast", channels_last=True)),
        }
        rounds, turn = (2, 0.01) if REHEARSES else (10, 0.5)
        written_well = compiled and _apart(context, "compiled and captured") <= SAME
        if written_well:
            makers["reslab compiled"] = partial(works.step_of, replace(case, execution=written))
        try:
            seconds = take_turns_apart(makers, rounds=rounds, turn=turn, device=CUDA)
        except (InputError, RuntimeError, MemoryError) as error:
            if not written_well:
                raise
            print(f"    without the compiler: {error}", flush=True)
            makers.pop("reslab compiled")
            seconds = take_turns_apart(makers, rounds=rounds, turn=turn, device=CUDA)
        ours = min(("reslab", "reslab compiled"), key=lambda name: statistics.median(seconds.get(name, [math.inf])))
        limit = peak.Peak(1.0, 1.0) if REHEARSES else peak.measure(CUDA, case.precision)
        return {
            "net": net, "batch": batch, "precision": case.precision, "bn_group": bn_group, "against": against,
            "images_per_second": {name: case.batch / statistics.median(each) for name, each in seconds.items()},
            "ours": ours, "ratio": vars(ratio(seconds[against], seconds[ours])),
            "seconds": seconds, "peak": vars(limit),
        }  # fmt: skip

    return run


def captured_is_eager(context: Context) -> dict[str, Any]:
    """Twenty steps, captured and not, from one seed: how far weights and losses are apart. Five seconds on an H100.

    In fp32 with kernels that repeat themselves, and once as the agenda trains: bf16, the quickest kernels.
    """
    return _ways_apart(context, "captured", Execution(CUDA))


def compiled_is_eager(context: Context) -> dict[str, Any]:
    """The same of steps that are compiled first, and captured. The compiler may take minutes, or not come to an end."""
    return _ways_apart(context, "compiled and captured", Execution(CUDA, compile=True))


def _ways_apart(context: Context, way: str, execution: Execution) -> dict[str, Any]:
    data = load(context.data or "synthetic")
    plan = he2015_cifar(_net("resnet20"), data.info, iterations=400, batch=8 if REHEARSES else 128)
    exact, quick = (override(plan, [f"precision={name}"]) for name in ("fp32", "bf16"))
    ways = {  # what may break comes last
        "eager": (exact, Execution(CUDA, graphs=False, deterministic=True)),
        "eager again": (exact, Execution(CUDA, graphs=False, deterministic=True)),
        "eager in bf16": (quick, Execution(CUDA, graphs=False)),
        way: (exact, replace(execution, deterministic=True)),
        f"{way} in bf16": (quick, execution),
    }
    found: dict[str, Any] = {}
    first: dict[str, Tensor] = {}
    for name, (recipe, execution) in ways.items():
        # Steps that must repeat themselves have asked for it in the whole process.
        torch.use_deterministic_algorithms(execution.deterministic)
        start = time.perf_counter()
        try:
            trainer = Trainer(recipe, data, execution)
            trainer.net.train()
            for number in range(20):
                trainer.step()
                if number == 0:
                    _synchronize()
                    found[name] = {"seconds_of_first_step": time.perf_counter() - start}
            trainer.look()
        except (InputError, RuntimeError) as error:
            if name.startswith("eager"):
                raise
            traceback.print_exc()
            found[name] = {"why_not": str(error)}
            continue
        state = {key: tensor.detach().float() for key, tensor in trainer.net.state_dict().items()}
        first = first or state
        far = [float((tensor - first[key]).abs().max()) for key, tensor in state.items()]
        found[name] |= {"loss": trainer.window.mean_loss(), "finite": all(map(math.isfinite, far))}
        if recipe is exact:
            found[name]["greatest_difference"] = max(far) if found[name]["finite"] else NEVER
        context.keep(found)
    if way == "captured" and not found["captured"].get("greatest_difference", NEVER) <= SAME:
        print(f"    CAPTURED STEPS ARE NOT THE STEPS; what follows runs eager: {found['captured']}", flush=True)
    return found


def _apart(context: Context, way: str) -> float:
    """How far weights were from eager ones after twenty steps here; without bound where they could not be made."""
    path = context.out / f"{way.partition(' ')[0]}-is-eager.json"
    if not path.exists():
        return 0.0 if way == "captured" else NEVER  # capturing is what `reslab train` does
    seen = runs.read_json(path)
    exact, quick, eager = seen[way], seen[f"{way} in bf16"], seen["eager in bf16"]
    alike = "loss" in quick and abs(quick["loss"] - eager["loss"]) <= ALIKE * eager["loss"]
    return float(exact.get("greatest_difference", NEVER)) if alike else NEVER


def _execution(context: Context) -> Execution:
    """Captured, unless it was tried here and did not compute the same."""
    return Execution(CUDA, graphs=_apart(context, "captured") <= SAME)


def concurrency(context: Context) -> dict[str, Any]:
    """Steps a second of ResNet-20 with one training and with several at a time, each in a process of its own."""
    if context.data is None:
        raise Skipped("needs CIFAR-10: --data PATH")
    rates = {}
    spawn = multiprocessing.get_context("spawn")
    how = _execution(context)
    for count in (1, 2, 4):
        ready = spawn.Barrier(count, timeout=110)
        answers = spawn.Queue()
        processes = [
            spawn.Process(target=_steps, args=(context.data, how, k, ready, answers), daemon=True) for k in range(count)
        ]
        for process in processes:
            process.start()
        rates[str(count)] = sum(answers.get(timeout=120) for _ in processes)
        context.keep({"steps_per_second": rates})
        for process in processes:
            process.join()
    return {"steps_per_second": rates}


def _steps(source: str, how: Execution, seed: int, ready: Barrier, answers: "Queue[float]") -> None:
    data = load(source)
    trainer = Trainer(_paper("resnet20", data, seed), data, how)
    trainer.net.train()
    for _ in range(20):
        trainer.step()
    torch.cuda.synchronize()
    ready.wait()
    start = time.perf_counter()
    for _ in range(500):
        trainer.step()
    torch.cuda.synchronize()
    answers.put(500 / (time.perf_counter() - start))


def kernels(context: Context) -> dict[str, Any]:
    """The GPU's kernels against fp64, and what share of the memory's speed they reach."""
    if REHEARSES:
        os.environ["TRITON_INTERPRET"] = "1"
    found = gpu_kernels.correctness(CUDA, tiny=REHEARSES)
    context.keep(found)
    found |= gpu_kernels.speed(CUDA, tiny=REHEARSES)
    context.keep(found)
    return found | ({} if REHEARSES else gpu_kernels.passes(CUDA))


def profiled(made: Callable[[Context], Callable[[], object]]) -> Callable[[Context], dict[str, Any]]:
    """Kernels of a captured step and their time: by our kernels, and by PyTorch's own."""

    def run(context: Context) -> dict[str, Any]:
        found = {}
        for way, rule in (("reslab", "measured"), ("by PyTorch", "library")):
            os.environ["RESLAB_KERNELS"] = rule
            start = time.perf_counter()
            step = made(context)
            for _ in range(10):
                step()
            _synchronize()
            begun = time.perf_counter()
            steps = 2 if REHEARSES else 50
            for _ in range(steps):
                step()
            _synchronize()
            seconds = (time.perf_counter() - begun) / steps
            steps = 5
            with profile() as seen:
                for _ in range(steps):
                    step()
                _synchronize()
            ran = [event for event in seen.events() if event.device_type.name == "CUDA"]
            by_name: dict[str, list[float]] = {}
            for event in ran:
                by_name.setdefault(event.name, []).append(event.device_time)
            longest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:40]
            found[way] = {
                "seconds": seconds, "seconds_until_captured": begun - start, "kernels": len(ran) / steps,
                "device_microseconds": sum(event.device_time for event in ran) / steps,
                "longest": [[name[:120], len(each) / steps, sum(each) / steps] for name, each in longest],
            }  # fmt: skip
            context.keep(found)
            del step
            gc.collect()
        return found

    return run


def _paper_step(net: str, context: Context) -> Callable[[], object]:
    """A step of the paper's recipe."""
    data = load(context.data or "synthetic")
    trainer = Trainer(_paper(_net(net), data, 0), data, Execution(CUDA))
    trainer.net.train()
    return trainer.step


def _step_of_photographs(net: str, context: Context) -> Callable[[], object]:
    """A step of 256 images at 224 pixels."""
    batch = 2 if REHEARSES else 256
    return works.step_of(works.Case(resolve_any(_net(net)), batch, Execution(CUDA), "bf16"))


def at_a_time(context: Context) -> dict[str, Any]:
    """Steps a second in all, of several trainings of ResNet-20 in one process."""
    data, rates = load(context.data or "synthetic"), {}
    for count in (1, 2) if REHEARSES else (1, 4, 8, 16):
        if context.left() < LEAST_LEFT:
            break
        rates[str(count)] = _rate_of(count, data, _execution(context), 6 if REHEARSES else 600)
        context.keep({"steps_per_second": rates})
    return {"steps_per_second": rates}


def _rate_of(count: int, data: Dataset, how: Execution, steps: int) -> float:
    """Steps a second of so many trainings that take turns, as `study --at-a-time` has them."""
    turns, ready, ends = Turns(), threading.Barrier(count, timeout=60), list[float]()

    def work(seed: int) -> float:
        with turns.mine(), torch.cuda.stream(torch.cuda.Stream(CUDA) if CUDA.type == "cuda" else None):
            trainer = Trainer(_paper(_net("resnet20"), data, seed), data, how)
            trainer.net.train()
            for _ in range(10):
                trainer.step()
            trainer.look()
            turns.end()
            ready.wait()
            turns.begin()
            start = time.perf_counter()
            for number in range(1, steps + 1):
                trainer.step()
                if number % 50 == 0 or number == steps:
                    trainer.look()
                turns.pass_on()
            ends.append(time.perf_counter())
            return start

    with ThreadPoolExecutor(count) as pool:
        begun = [future.result() for future in [pool.submit(work, seed) for seed in range(count)]]
    return count * steps / (max(ends) - min(begun))


def very_deep(net: str) -> Callable[[Context], dict[str, Any]]:
    """Memory and time of a step at batch 128, with checkpointing and without, and what the account reckons."""

    def run(context: Context) -> dict[str, Any]:
        data = load("synthetic")
        recipe = he2015_cifar(net, data.info, iterations=64_000)
        found = {}
        for way in (True, False):
            gc.collect()
            torch.cuda.empty_cache()
            trainer = Trainer(recipe, data, Execution(CUDA, checkpoint_activations=way, graphs=False))
            reckoned = trainer.account()
            trainer.net.train()
            for _ in range(2):
                trainer.step()
            trainer.look()
            torch.cuda.reset_peak_memory_stats()  # the search for algorithms took more than a step does
            start = time.perf_counter()
            for _ in range(3):
                trainer.step()
            trainer.look()
            found["checkpointed" if way else "kept"] = {
                "seconds": (time.perf_counter() - start) / 3,
                "peak_bytes": torch.cuda.max_memory_allocated(), "reckoned_bytes": reckoned.total,
            }  # fmt: skip
            del trainer
            context.keep({"net": net, "batch": 128, "steps": found})
        return {"net": net, "batch": 128, "steps": found}

    return run


# --- trainings -------------------------------------------------------------------------------------


def _data(context: Context) -> Dataset:
    if context.data is None:
        raise Skipped("needs CIFAR-10: --data PATH")
    return load(context.data)


def _paper(net: str, data: Dataset, seed: int, iterations: int = 64_000) -> Recipe:
    return he2015_cifar(net, data.info, iterations=iterations, seed=seed)


def _quickest(context: Context, net: str, iterations: int) -> Execution:
    """Compiled where that was seen to compute the same here, and to save more time than it takes."""
    captured, speed = _execution(context), context.out / f"speed-{net}.json"
    if _apart(context, "compiled and captured") > SAME or not speed.exists():
        return captured
    seconds = runs.read_json(speed)["seconds"]
    if "reslab compiled" not in seconds:
        return captured
    saved = statistics.median(seconds["reslab"]) - statistics.median(seconds["reslab compiled"])
    compiled = runs.read_json(context.out / "compiled-is-eager.json")["compiled and captured"]
    longer = resolve(net).depth / resolve("resnet20").depth
    return replace(captured, compile=iterations * saved > longer * compiled["seconds_of_first_step"])


def training(net: str, seed: int, iterations: int) -> Callable[[Context], dict[str, Any]]:
    """One run by the paper's recipe; its curve and result. Its weights stay in its folder."""

    def run(context: Context) -> dict[str, Any]:
        data = _data(context)
        name = f"{net}-{iterations}-seed{seed}"
        folder = context.folder / "paper" / "runs" / name  # where studies find it
        recipe = _paper(net, data, seed, iterations)
        result = train(
            recipe, data, folder, execution=_quickest(context, net, iterations),
            source=Source(name=context.data or ""), quiet=True,
            stop=lambda: context.left() < 10,
        )  # fmt: skip
        return {"result": result, "metrics": RunDir(folder).read_metrics(), "recipe": recipe.model_dump(mode="json")}

    return run


def table6(nets: Sequence[tuple[str, int]], iterations: int, count: int) -> Callable[[Context], dict[str, Any]]:
    """Networks and seeds by the paper's recipe, so many at a time, the first ones first; each leaves its own record."""

    def run(context: Context) -> dict[str, Any]:
        data = _data(context)
        folder = context.folder / "paper" / "runs"  # where studies find them
        wanted = [(net, seed) for net, seed in nets if not context.nets or {net, f"{net}:{seed}"} & {*context.nets}]
        names = {f"{net}-{iterations}-seed{seed}": (net, seed) for net, seed in wanted}
        length = REHEARSED if REHEARSES else iterations
        waiting = of_no_study(
            {
                name: _paper(_net(net), data, seed, length)
                for name, (net, seed) in names.items()
                if not (context.out / f"{name}.json").exists()
            }
        )
        workers = Together(count, data, context.data or "", folder, _execution(context), None)
        left = len(waiting)
        together = min(count, left)
        try:
            for each in waiting:
                workers.submit(each)
            while left and context.left() > STOPPING:
                for name, result in workers.finished(0.2):
                    left -= 1
                    metrics = RunDir(folder / name).read_metrics()
                    _record(context, name, f"{name}, {together} at a time", {"result": result, "metrics": metrics})
                    print(f"    {name}: {result['test_error']:.2f} % in {result['seconds']:.0f} s", flush=True)
        finally:
            workers.close(at_once=left > 0)  # each run that is under way leaves a checkpoint
        if left:
            raise Stopped(f"{left} of {len(names)} runs are under way or to come; the same command goes on")
        return {"runs": list(names)}

    return run


def seconds_to_94(context: Context) -> dict[str, Any]:
    """The 94 % recipe, five seeds: seconds from the first step to the error on the test images, both counted.

    What is done once for any number of runs is apart: a first training of a few steps compiles kernels and captures.
    """
    data = _data(context)
    entry = recipes.find("fast_cifar94")
    found: dict[str, Any] = {"seconds": [], "test_error": [], "test_error_one_look": []}
    for seed in (-1, 0) if REHEARSES else (-1, 0, 1, 2, 3, 4):
        recipe = entry.make(entry.net, data.info, seed=max(seed, 0))
        if REHEARSES:
            recipe = override(recipe, ["iterations=2", "global_batch=20"])
        trainer = Trainer(recipe, data, _execution(context))
        trainer.net.train()
        _synchronize()
        start = time.perf_counter()
        for _ in range(min(20, recipe.iterations) if seed < 0 else recipe.iterations):
            trainer.step()
        test = evaluate(trainer.net, trainer.test, precision=trainer.recipe.precision, test_time=recipe.test_time)
        _synchronize()
        if seed >= 0:
            found["seconds"].append(time.perf_counter() - start)
            found["test_error"].append(test.top1_error)
            plain = evaluate(trainer.net, trainer.test, precision=trainer.recipe.precision)
            found["test_error_one_look"].append(plain.top1_error)
            context.keep(found)
            if context.left() < LEAST_LEFT:
                break
    accuracy = 100 - statistics.mean(found["test_error"])
    about = {"accuracy": accuracy, "reached": accuracy >= 94, "mean_seconds": statistics.mean(found["seconds"])}
    return about | found | {"recipe": recipe.model_dump(mode="json")}


def backbones(context: Context) -> dict[str, Any]:
    """Detectors on VGG-16 and ResNet-101; eager, as `reslab detect train` is."""
    if context.boxes is None:
        raise Skipped("needs images with boxes: --boxes PATH")
    return gpu_detection.backbones(
        context.boxes, context.folder / "detection", Execution(CUDA), stop=lambda: context.left() < STOPPING,
        keep=context.keep, tiny=REHEARSES,
    )  # fmt: skip


def study(name: str, depths: Depths, iterations: int, seeds: int = 3) -> Callable[[Context], dict[str, Any]]:
    """A study as the command does it: its records, and where scipy is there its verdict, which the ledger finds."""

    def run(context: Context) -> dict[str, Any]:
        data = _data(context)
        plan = Plan(studies.find(name), data.info, depths, seeds, iterations)
        folder = context.folder / f"{name}-{iterations}" / "runs"
        runs.write_json(folder.parent / MARK, plan.mark())  # so that other studies take over its runs
        execution = _execution(context)
        adopt(plan.planned(), folder, data.info.fingerprint, execution, measured=plan.study.measure)
        found = {}
        for planned in plan.planned():
            carry_out(
                planned, data, context.data or "", folder, execution, plan.study.measure,
                stop=lambda: context.left() < 10,
            )  # fmt: skip
            run = RunDir(folder / planned.name)
            found[planned.name] = {
                "result": runs.read_json(run.result), "metrics": run.read_metrics(),
                "recipe": runs.read_json(run.recipe), "env": runs.read_json(run.env),
            }  # fmt: skip
            print(f"    {planned.name}: {found[planned.name]['result']['seconds']} s", flush=True)
        if importlib.util.find_spec("scipy"):
            summary = summarise(
                plan,
                folder,
                data=data,
                command=f"python benchmarks/gpu.py --data cifar10 --only study-{name}-{iterations}",
            )
            runs.write_json(
                context.out / f"study-{name}-{iterations}" / "summary.json", summary.model_dump(mode="json")
            )
        return {"runs": found}

    return run


def agenda() -> list[Job]:
    """The jobs, the most valuable first: those of the two calls of a lease, and what is left."""

    def fast(net: str) -> Callable[[Context], dict[str, Any]]:
        return throughput(net, 128, "eager", bn_group=64, compiled=False)

    networks = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
    first = [(net, 0) for net in (*networks, "plain20", "plain56")] + [(net, 1) for net in networks]
    jobs = [
        Job("kernels", "the GPU's kernels against fp64, and their bytes a second", 0.8, 8, kernels),
        Job("captured-is-eager", "captured steps equal eager ones", 0.4, 2, captured_is_eager),
        Job("profile-resnet20", "kernels of a step of ResNet-20", 0.4, 4, profiled(partial(_paper_step, "resnet20"))),
        Job("profile-resnet110", "kernels of a step of ResNet-110", 0.4, 4,
            profiled(partial(_paper_step, "resnet110"))),
        Job("table6", "Table 6 and its plain networks, 64,000 iterations, five at a time", 1.0, 16,
            table6(first, 64_000, 5), resumable=True, leaves=1.2),
        Job("seconds-to-94", "94 % by fast_cifar94, five seeds", 1.0, 4, seconds_to_94),
        Job("detection-backbones", "detectors on VGG-16 and ResNet-101, 600 steps each; --boxes", 1.0, 30, backbones,
            resumable=True),
        Job("profile-resnet50", "kernels of a step of ResNet-50 at 224", 0.5, 60,
            profiled(partial(_step_of_photographs, "resnet50"))),
        Job("speed-resnet20", "ResNet-20 against eager", 0.7, 4, fast("resnet20")),
        Job("speed-resnet50", "ResNet-50 at 224 against torchvision", 1.0, 60,
            throughput("resnet50", 256, "torchvision", compiled=False)),
        Job("at-a-time", "steps a second of several trainings in one process", 0.5, 16, at_a_time),
        Job("speed-resnet110", "ResNet-110 against eager", 0.7, 4, fast("resnet110")),
        Job("speed-resnet56", "ResNet-56 against eager", 0.7, 4, fast("resnet56")),
        Job("concurrency", "trainings at a time, each in a process", 1, 8, concurrency),
    ]  # fmt: skip

    def paper(net: str, seed: int, iterations: int = 64_000) -> Job:
        what = f"{net} by the paper's recipe, {iterations:,} iterations, seed {seed}"
        run = training(net, seed, iterations)
        return Job(f"{net}-{iterations}-seed{seed}", what, 1.0, 4, run, resumable=True)

    runs_of_64k = [(net, 0) for net in (*networks, "plain20", "plain56")]
    runs_of_64k += [(net, seed) for seed in (1, 2) for net in ("resnet20", "plain20", "plain56", "resnet56")]
    runs_of_64k += [(net, seed) for seed in (1, 2, 3, 4) for net in networks]
    runs_of_64k += [(net, 0) for net in ("preresnet56", "preresnet110")]
    table = [paper(net, seed) for net, seed in dict.fromkeys(runs_of_64k)]
    jobs += table[:7]
    short = "the degradation study, 12 runs of 4,000 iterations, fp32"
    jobs.append(Job("study-degradation-4000", short, 1, 4, study("degradation", (20, 56), 4000), resumable=True))
    jobs += table[7:]
    jobs += [paper("plain56", 0, 192_000)]
    jobs += [
        Job("compiled-is-eager", "compiled and captured steps equal eager ones", 3, 2, compiled_is_eager),
        Job("very-deep-resnet1202", "memory of a step of ResNet-1202", 0.7, 30, very_deep("resnet1202")),
        Job("very-deep-preresnet1001", "memory of a step of ResNet-1001", 0.7, 60, very_deep("preresnet1001")),
    ]
    # Of what is trained above each takes over the runs that it would train alike, precision included.
    full: tuple[tuple[str, Depths], ...] = (
        ("degradation", (20, 56)), ("depth", (20, 32, 44, 56, 110)), ("orderings", (110,)), ("warm-up", (110,)),
        ("identity-shortcuts", (110,)), ("controls", (20, 56)), ("shortcuts", (56,)), ("bottleneck", (110,)),
        ("constructed", (20, 56)), ("highway", (19, 32)), ("width-or-depth", (16, 52)), ("cardinality", (29,)),
        ("tweaks", (50,)), ("ensembles", (20, 32, 44, 56, 110)),
    )  # fmt: skip
    for name, depths in full:
        what = f"the study {name}, depths {' '.join(map(str, depths))}, the paper's length, 3 seeds"
        jobs.append(Job(f"study-{name}-64000", what, 1.0, 8, study(name, depths, 64_000), resumable=True))
    return jobs


def attempt(job: Job, context: Context) -> str:
    """One job, in this process; what to say of it."""
    free = torch.cuda.mem_get_info(CUDA)[0] / 1e9 if CUDA.type == "cuda" else math.inf
    if free < job.gigabytes:
        return f"skipped: needs {job.gigabytes:g} GB of device memory, {free:.0f} are free"
    start = time.monotonic()
    context = replace(context, job=job.name)
    try:
        found = job.run(context)
    except Stopped as stopped:
        return str(stopped)
    except Skipped as why:
        return f"skipped: {why}"
    except Exception as error:
        traceback.print_exc()
        return f"FAILED: {type(error).__name__}: {error}"
    _record(context, job.name, job.what, found, minutes=(time.monotonic() - start) / 60)
    (context.out / f"{job.name}{PARTIAL}").unlink(missing_ok=True)
    return f"{(time.monotonic() - start):.0f} s"


def _record(context: Context, name: str, what: str, found: dict[str, Any], minutes: float | None = None) -> None:
    """Writes what was found, with the command and the machine."""
    gpu = torch.cuda.get_device_name(CUDA) if CUDA.type == "cuda" else "none: a rehearsal on the CPU"
    words = [f"python benchmarks/gpu.py --data cifar10 --only {context.job or name}"]
    words += ["--nets", *context.nets] if context.nets else []
    about = {
        "job": name, "what": what, "command": " ".join(words),
        "when": runs.now(), "machine": runs.describe() | {"gpu": gpu, "torch": torch.__version__},
    } | ({} if minutes is None else {"minutes": round(minutes, 2)})  # fmt: skip
    runs.write_json(
        context.out / f"{name}.json", json.loads(json.dumps(about | found, default=str), parse_constant=str)
    )


def main() -> None:
    global CUDA, REHEARSES
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--call", type=int, choices=(1, 2), help="the jobs of this call of a lease, within its minutes")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at sizes that show that it runs")
    parser.add_argument("--budget", type=float, help="minutes; by default those of the call, or 9")
    parser.add_argument("--data", help="CIFAR-10: cifar10, or the path of its Parquet folder")
    parser.add_argument("--boxes", help="images with boxes for detectors: BCCD as Pascal VOC")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "gpu")
    parser.add_argument("--only", nargs="+", help="these jobs alone")
    parser.add_argument("--nets", nargs="+", metavar="NET", help="these of Table 6 alone; NET:SEED for one seed")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--list", action="store_true", help="print the agenda, and do nothing")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)  # the end as the monotonic clock counts
    parser.add_argument("--here", action="store_true", help="run the job in this process")
    options = parser.parse_args()
    if options.rehearse:
        CUDA, REHEARSES = torch.device("cpu"), True
    if options.budget is None:  # with half a minute to start, 9 keep within a call of 10
        options.budget = LEASE.calls[options.call - 1] / 60 if options.call else 9
    if options.call and not options.only:
        options.only = list(CALLS[options.call - 1])
    jobs = agenda()
    if options.only and (unknown := set(options.only) - {job.name for job in jobs}):
        parser.error(f"no such job: {', '.join(sorted(unknown))}; --list prints all")
    if options.list:
        for job in jobs:
            state = "done" if (options.out / f"{job.name}.json").exists() else ""
            print(f"{job.name:<28} {job.what:<70} {state}")
        return
    if not (REHEARSES or torch.cuda.is_available()):
        parser.error("no CUDA device here; --rehearse runs it on the CPU, at sizes that show that it does")
    if not 0 < options.budget < math.inf:
        parser.error(f"--budget takes minutes above 0, got {options.budget}")
    options.out.mkdir(parents=True, exist_ok=True)
    runs.write_json(options.runs / "paper" / MARK, {"study": "runs of the agenda"})  # so that studies take them over
    chosen = [job for job in jobs if not options.only or job.name in options.only]
    end = START + 60 * options.budget if options.until is None else options.until
    context = Context(options.data, options.out, options.runs, end, tuple(options.nets or ()), boxes=options.boxes)
    if options.here:
        for job in chosen:
            print(f"{job.name:<28} {attempt(job, context)}", flush=True)
    else:
        carry_out_all(chosen, context, options.jobs)


def carry_out_all(jobs: Sequence[Job], context: Context, at_a_time: int) -> None:
    """The jobs in their order, each in a process of its own; trainings several at a time."""
    waiting, running, begun = deque(jobs), dict[Popen[bytes], Job](), dict[Popen[bytes], float]()
    while waiting or running:
        for process in [process for process in running if process.poll() is not None]:
            job = running.pop(process)
            if process.returncode:
                print(f"{job.name:<28} FAILED: ended with {process.returncode}", flush=True)
        room = at_a_time if waiting and waiting[0].resumable and all(j.resumable for j in running.values()) else 1
        if waiting and len(running) < room:
            job = waiting.popleft()
            # What could go on to the end leaves time to what is to come.
            to_come = any(not (context.out / f"{other.name}.json").exists() for other in waiting)
            own = replace(context, deadline=context.deadline - (60 * job.leaves if to_come else 0))
            if (context.out / f"{job.name}.json").exists():
                print(f"{job.name:<28} done before", flush=True)
            # A training that was begun goes on however little time is left; another would hardly begin.
            elif own.left() < (20 if job.resumable else 60 * job.minutes):
                print(f"{job.name:<28} no time left", flush=True)
            else:
                process = Popen(_command(job, own), start_new_session=True)
                running[process], begun[process] = job, time.monotonic()
        elif running:
            time.sleep(0.2)
        for process, job in running.items():
            late = not job.resumable and time.monotonic() - begun[process] > 60 * (2 + 3 * job.minutes)
            if (late or context.left() < -LEEWAY) and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that it has begun


def _command(job: Job, context: Context) -> list[str]:
    words = [sys.executable, str(Path(__file__).resolve()), "--here", "--only", job.name]
    words += ["--rehearse"] if REHEARSES else []
    words += ["--until", repr(context.deadline), "--out", str(context.out), "--runs", str(context.folder)]
    words += ["--nets", *context.nets] if context.nets else []
    words += ["--boxes", context.boxes] if context.boxes else []
    return words + (["--data", context.data] if context.data else [])


if __name__ == "__main__":
    main()
