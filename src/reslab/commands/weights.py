"""``reslab weights``: inspect, convert, fetch."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from reslab.commands.options.weights import Convert, Fetch, Inspect, List
from reslab.commands.targets import check_target
from reslab.errors import InputError, writing
from reslab.nets.spec import NetSpec
from reslab.runs.files import write_bytes
from reslab.weights import shipped
from reslab.weights.export import PEERS, Library, exported, peer_of
from reslab.weights.files import PICKLES as PICKLES
from reslab.weights.files import pickled, to_bytes
from reslab.weights.load import Weights, load
from reslab.weights.names import is_hub

FILES = (".safetensors", *PICKLES)
"""Names of files of weights."""


def inspect(options: Inspect) -> None:
    """Says which network weights are of, what travels with them and what had to be assumed."""
    weights = load(options.weights, net=options.net, which=options.which)
    record = _record(weights)
    if options.json:
        print(json.dumps(record, indent=2))
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("network", escape(f"{record['net']}, {_out(weights)}"))
    table.add_row("parameters", f"{record['params']:,}, and statistics, in {record['tensors']} tensors")
    table.add_row("names", f"{weights.dialect}")
    if weights.look_alikes[1:]:
        table.add_row("fits also", ", ".join(name for name in weights.look_alikes if name != weights.spec.name))
    for text in weights.said:
        table.add_row("note", escape(text))
    preprocessing = weights.preprocessing
    said = "not stored; eval needs --mean and --std" if preprocessing is None else preprocessing.words()
    table.add_row("input", said)
    if weights.classes:
        more = ", ..." if len(weights.classes) > 4 else ""
        table.add_row("classes", escape(", ".join(weights.classes[:4])) + more)
    for name, theirs in record["loads_in"].items():
        loosely = ", with strict=False, since fc is missing" if weights.head == "none" else ""
        table.add_row("loads in", f"{name}, as {theirs}{loosely}")
    for name, value in weights.header.items():
        if isinstance(value, str | int | float):
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            if name.endswith("_error"):  # other weights of the same file may be of another precision
                shown = f"{value:.2f} % when its training ended"
            table.add_row(escape(name.replace("_", " ")), escape(shown))
    Console().print(table)
    if options.weights.startswith("reslab:"):
        Console().print(Markdown(shipped.card(options.weights.removeprefix("reslab:"))))


def _out(weights: Weights) -> str:
    """What the network puts out, for people."""
    return "a backbone without a head" if weights.head == "none" else f"{weights.spec.num_classes} classes"


def listing(options: List) -> None:
    """The weights that come with Reslab, and how good they are."""
    known = shipped.index()
    if options.json:
        print(json.dumps({name: entry.model_dump() for name, entry in known.items()}, indent=2))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("recipe")
    table.add_column("test error %", justify="right", no_wrap=True)
    table.add_column("with flips, shifts", justify="right")
    for name, entry in known.items():
        table.add_row(f"reslab:{name}", entry.recipe, f"{entry.test_error:.2f}", f"{entry.test_error_flip_shift:.2f}")
    console = Console(highlight=False)
    console.print(table)
    console.print("details of one: reslab weights inspect NAME", style="dim")


def _record(weights: Weights) -> dict[str, Any]:
    spec = weights.spec
    peers = {} if not isinstance(spec, NetSpec) else {name: peer_of(spec, name) for name in PEERS}
    counted = [t for name, t in weights.tensors.items() if not name.endswith(("_mean", "_var", "_tracked"))]
    preprocessing = weights.preprocessing
    return {
        "net": spec.name,
        "num_classes": None if weights.head == "none" else spec.num_classes,
        "which": weights.which,
        "in_channels": spec.in_channels,
        "params": sum(tensor.numel() for tensor in counted),
        "tensors": len(weights.tensors),
        "names": weights.dialect,
        "fits": list(weights.look_alikes),
        "notes": list(weights.said),
        "preprocessing": None if preprocessing is None else preprocessing.model_dump(mode="json"),
        "classes": None if weights.classes is None else list(weights.classes),
        "loads_in": {name: theirs for name, theirs in peers.items() if theirs},
        "about": weights.header,
        "spec": spec.model_dump(mode="json"),
    }


def convert(options: Convert) -> None:
    """Writes weights under the names of a library, in the format of the suffix."""
    out, to, num_classes = options.out, options.to, options.num_classes
    check_target("", out, FILES, force=options.force)
    if num_classes is not None and num_classes < 1:
        raise InputError(f"--num-classes takes 1 or more, got {num_classes}")
    weights = load(options.weights, net=options.net, num_classes=num_classes, which=options.which)
    if num_classes is not None:
        weights = replace(weights, tensors=dict(weights.module().state_dict()))  # with the head that was drawn
    tensors: dict[str, Any] = weights.tensors
    name, header = weights.spec.name, weights.as_header()
    if to != "reslab":
        library: Library = to
        tensors, name = exported(weights, library)
        header = {}
    write(out, tensors, header)
    if out.suffix in PICKLES and to == "reslab":
        console = Console(stderr=True)
        console.print(
            f"a {out.suffix} file cannot hold the network's description; a .safetensors file can", soft_wrap=True
        )
    for text in weights.said:
        Console(stderr=True).print(text, soft_wrap=True, highlight=False, markup=False)
    if options.json:
        record = {"out": str(out), "net": name, "tensors": len(tensors), "names": to, "notes": list(weights.said)}
        print(json.dumps(record, indent=2))
    else:
        print(f"{out}: {name}, {len(tensors)} tensors under the names of {to}")


def write(out: Path, tensors: dict[str, Any], header: dict[str, Any]) -> None:
    """Writes a file of weights whole or not at all."""
    with writing(out):
        write_bytes(out, pickled(tensors) if out.suffix in PICKLES else to_bytes(tensors, header))


def fetch(options: Fetch) -> None:
    """Fetches weights from a hub, and keeps them as a file of ours if one is named."""
    source = options.weights
    if not is_hub(source):
        raise InputError(
            f"expected a name on a hub: torchvision:resnet50/IMAGENET1K_V2, timm:resnet50.a1_in1k or hf:ORG/NAME, "
            f"got '{source}'"
        )
    if options.out is not None:
        convert(Convert(source, options.out, force=options.force, json=options.json))
        return
    weights = load(source)
    if options.json:
        print(json.dumps({"weights": source, "net": weights.spec.name, "tensors": len(weights.tensors)}, indent=2))
    else:
        print(f"{source}: {weights.spec.name}, {len(weights.tensors)} tensors, in the cache")
