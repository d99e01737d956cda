"""What ``reslab bench`` measures of ours: a network by its name, weights, or what was exported."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from rich.console import Console

from reslab.bench import peers, works
from reslab.bench.paired import Work
from reslab.commands.artefacts import check_options, check_weights, open_artefact
from reslab.commands.execution import start
from reslab.commands.options.bench import Options
from reslab.commands.options.common import GIVEN
from reslab.deploy.artefact import About, is_artefact, read
from reslab.deploy.evaluate import spec_of
from reslab.deploy.runtimes import Way, answering, example
from reslab.errors import InputError
from reslab.nets.catalog import resolve_any
from reslab.nets.spec import AnyNet
from reslab.report.words import plural
from reslab.train.device import describe, resolve_precision
from reslab.weights.load import load

USUAL = "resnet20"
"""What is measured where nothing is named."""
_BY_NAME: dict[works.What, Callable[[works.Case], Work]] = {
    "train": works.step_of, "infer": works.inference, "data": works.batches
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """Our side, and the case that a peer is given, too."""

    case: works.Case
    maker: Callable[[], Work]
    """made in a process of its own, to which it travels"""
    mode: str
    """how it is computed, for people"""
    more: dict[str, Any] = field(default_factory=dict)
    """what the record says of it besides"""


def subject_of(options: Options, console: Console) -> Subject:
    """What the options name. Raises `InputError`."""
    if options.weights is None:
        check_weights(options.runtime)
        if options.which is not None:
            raise InputError(
                f"--which {options.which} chooses among the weights in a file; name a file, or leave it out"
            )
        return _by_name(options)
    if options.what != "infer":
        raise InputError(f"bench {options.what} takes a network by --net; weights and artefacts go with bench infer")
    return (_of_artefact if is_artefact(options.weights) else _of_weights)(options, options.weights, console)


def _by_name(options: Options) -> Subject:
    execution = start(options.device, options.threads, compile=options.compile)
    spec = resolve_any(options.net or USUAL, **_size(options))
    _check_peer(options, spec)
    case = works.Case(spec, options.batch, execution, resolve_precision(options.precision, execution.device))
    return Subject(case, partial(_BY_NAME[options.what], case), _mode(case))


def _of_weights(options: Options, source: str, _: Console) -> Subject:
    check_weights(options.runtime)
    execution = start(options.device, options.threads, compile=options.compile)
    weights = load(source, net=options.net, which=options.which)
    weights.check_classifier("a benchmark")
    spec = resolve_any(weights.spec, **_size(options))
    _check_peer(options, spec)
    case = works.Case(spec, options.batch, execution, resolve_precision(options.precision, execution.device))
    maker = partial(_with_weights, case, source, options.net, options.which)
    return Subject(case, maker, _mode(case), {"weights": weights.origin})


def _with_weights(case: works.Case, source: str, net: str | None, which: Any) -> Work:
    return works.answering(case, load(source, net=net, which=which).module())


def _of_artefact(options: Options, source: str, console: Console) -> Subject:
    others = {"net": options.net, "which": options.which, "compile": options.compile, "size": options.size}
    check_options(source, GIVEN, options.device, others)
    execution = start("cpu", options.threads)
    threads = torch.get_num_threads()
    artefact = read(source)
    about = artefact.about
    spec = resolve_any(spec_of(artefact), size=about.preprocessing.crop)
    _check_peer(options, spec)
    found = open_artefact(
        artefact, options.runtime, options.precision, threads=threads, batch=options.batch, console=console
    )  # fmt: skip
    way = Way(found.runtime.name, found.runtime.precision)
    case = works.Case(spec, options.batch, execution, way.precision)
    maker = partial(answering, artefact.folder, way, batch=options.batch, threads=threads)
    more = {"weights": source, "runtime": way.name, "input": about.input, "shape": list(example(about, 1).shape[1:])}
    return Subject(case, maker, f"{way}, {plural(threads, 'thread')}; takes {_taken(about)}", more)


def _check_peer(options: Options, spec: AnyNet) -> None:
    """Raises `InputError` if the library to compare with has no such network, before anything is opened or measured."""
    if options.against is None:
        return
    if options.what != "data":
        peers.peer_module(spec, options.against)
    elif options.against != "torchvision":
        raise InputError("bench data compares with torchvision's transforms: --against torchvision")


def _taken(about: About) -> str:
    """What an artefact is given here, and what it does with it besides the network's work."""
    shape = example(about, 1).shape
    match about.input:
        case "photographs":
            return f"photographs of {shape[1]}x{shape[2]}, and resizes, crops and normalises them"
        case "crops":
            return "crops, and normalises them"
        case "tensors":
            return "tensors"


def _size(options: Options) -> dict[str, tuple[int, int]]:
    return {"size": (options.size, options.size)} if options.size else {}


def _mode(case: works.Case) -> str:
    execution = case.execution
    return describe(execution.device, case.precision, execution.fuses, execution.compile)
