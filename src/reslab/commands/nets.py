"""``reslab nets``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reslab import published
from reslab.commands.nets_compare import print_comparison
from reslab.commands.options.nets import Options
from reslab.commands.targets import check_target
from reslab.errors import InputError, writing
from reslab.nets.catalog import CATALOG, FAMILIES, REFERENCES, Entry, resolve, resolve_any
from reslab.nets.cost import Cost, NetCost, cost
from reslab.nets.describe import Description, Rule, Signal, describe, rows, ten_to_the, where
from reslab.nets.diagram import picture
from reslab.nets.imagenet import imagenet_resnet
from reslab.nets.spec import AnyNet, DenseStem, NetSpec, ReferenceSpec, Size
from reslab.nets.svg import drawing
from reslab.runs.files import write_text


def run(options: Options) -> None:
    """The command: a list, one network, several side by side, or a picture."""
    name, size, svg = options.name, options.size, options.svg
    if options.compare is not None:
        if name is not None or options.diagram or svg is not None:
            raise InputError("--compare names its networks itself, and draws none: reslab nets --compare NAME NAME")
        side_by_side(options.compare, size=size, as_json=options.json)
    elif options.diagram or svg is not None:
        option = "--diagram" if options.diagram else "--svg"
        if name is None:
            raise InputError(f"{option} draws one network: name it, as in 'reslab nets resnet20 {option}'")
        check_target("--svg", svg, (".svg",), force=options.force)
        if options.json:
            raise InputError(f"{option} draws, --json prints figures; choose one")
        draw(name, size=size, diagram=options.diagram, svg=svg)
    elif name is None:
        listing(size=size, as_json=options.json)
    else:
        show(name, size=size, as_json=options.json)


def listing(*, size: int | None = None, as_json: bool) -> None:
    """All networks that have a name."""
    found = [_sized(name, size) for name in CATALOG]
    if as_json:
        _print_json([_record(spec, cost(spec, at)) for spec, at in found])
        return
    console = Console()
    costs = {name: cost(spec, at) for name, (spec, at) in zip(CATALOG, found, strict=True)}
    depths = {spec.name: spec.depth for spec, _ in found}
    groups: dict[str, dict[str, Entry]] = {}
    for name, entry in CATALOG.items():
        groups.setdefault(entry.cite, {})[name] = entry
    for cite, group in groups.items():
        table = Table(title=cite, title_justify="left", title_style="italic", box=None, header_style="bold")
        table.add_column("name", min_width=17)
        for heading in ("layers", "parameters", "MMACs"):
            table.add_column(heading, justify="right", min_width=len(heading))
        table.add_column("what")
        for name, entry in group.items():
            counted = costs[name]
            macs = f"{counted.macs / 1e6:,.0f}"
            table.add_row(name, str(depths[name]), f"{counted.params:,}", macs, entry.summary)
        console.print(table)
        console.print()
    console.print(
        "Other sizes: " + ", ".join(FAMILIES) + ",\n"
        'as in "cifar_resnet(depth=38)". Any name takes arguments:\n'
        "\"resnet20(shortcut='B', width=32, num_classes=100, activation='tanh')\".\n"
        "A multiply-add (MAC) is two FLOPs.\n\n"
        "For comparison, networks of other libraries: " + ", ".join(REFERENCES) + " (torchvision),\n"
        "torchvision:NAME, timm:NAME.",
        markup=False,
        highlight=False,
    )


def side_by_side(names: Sequence[str], *, size: int | None, as_json: bool) -> None:
    """Several networks, a column each."""
    if not 2 <= len(names) <= 5:
        raise InputError(f"--compare takes 2 to 5 networks, got {len(names)}")
    found = [_sized(name, size) for name in names]
    if as_json:
        _print_json([_record(spec, cost(spec, at)) for spec, at in found])
    else:
        print_comparison([describe(spec, at) for spec, at in found], Console())


def draw(name: str, *, size: int | None, diagram: bool, svg: Path | None) -> None:
    """A picture of one network: printed, written to a file, or both."""
    told = describe(*_sized(name, size))
    if svg is not None:
        _write(svg, drawing(told))
    said = [picture(told)] if diagram else []
    said += [f"Picture: {svg}"] if svg is not None else []
    Console().print("\n\n".join(said), highlight=False, markup=False, soft_wrap=True)


def _write(path: Path, text: str) -> None:
    with writing(f"--svg {path}"):
        if not path.parent.is_dir():
            raise InputError(f"--svg {path}: expected the folder {path.parent}, found none there")
        write_text(path, text)


def show(name: str, *, size: int | None, as_json: bool) -> None:
    """One network: its stages as the papers' tables write them, with their cost, then what holds for its blocks."""
    if isinstance(other := resolve_any(name), ReferenceSpec):
        _show_reference(other, size=size, as_json=as_json)
        return
    spec, at = _sized(name, size)
    if as_json:
        _print_json(_record(spec, cost(spec, at)))
        return
    told = describe(spec, at)
    console = Console(highlight=False)
    console.print(Text(f"{told.name}: {told.depth:,} layers, input {told.entering}\n", "bold"))
    console.print(_stages(told))
    below = Table.grid(padding=(0, 2, 0, 0))
    below.add_column(style="bold", no_wrap=True)
    below.add_column()
    for label, lines in _below(told, spec):
        below.add_row(label, Text("\n".join(lines)))
    console.print()
    console.print(below)


def _show_reference(spec: ReferenceSpec, *, size: int | None, as_json: bool) -> None:
    """A network of another library, part by part as it is cut there."""
    if size is not None and size < 1:
        raise InputError(f"--size takes pixels, 1 or more, got {size}")
    from reslab.nets.reference import native_size, reference_cost

    spec = native_size(spec)
    height, width = (size, size) if size else spec.size
    counted = reference_cost(spec, (height, width))
    if as_json:
        _print_json(_record(spec, counted))
        return
    title = f"{spec.name}: {spec.library}'s own code, input {spec.in_channels}x{height}x{width}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="bold", pad_edge=False)
    for heading in ("part", "layers", "output", "parameters", "MACs"):
        table.add_column(heading, justify="left" if heading == "part" else "right", no_wrap=True)
    for part in counted.parts:
        output = "x".join(map(str, (part.out_channels, *part.out_size))) if part.out_channels else "-"
        table.add_row(part.name, f"{part.layers:,}", output, f"{part.params:,}", f"{part.macs:,}")
    table.add_row()
    layers = sum(part.layers for part in counted.parts)
    table.add_row("all", f"{layers:,}", "", f"{counted.params:,}", f"{counted.macs:,}", style="bold")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\nFLOPs   {ten_to_the(counted.macs)} as the papers count, multiply-adds: {counted.macs:,}")
    console.print(f"        {counted.flops:,} where a multiply-add counts two\nsource  {spec.cite}")


def _print_json(value: Any) -> None:
    # Through rich, which ends quietly when the reader of a pipe has gone.
    Console().print(json.dumps(value, indent=2), highlight=False, markup=False, soft_wrap=True)


def _sized(name: str, size: int | None) -> tuple[NetSpec, Size | None]:
    """The network of a name and the size to count it at; None is its own."""
    spec = resolve(name)
    if size is None:
        return spec, None
    if size < 1:
        raise InputError(f"--size takes pixels, 1 or more, got {size}")
    if isinstance(spec.stem, DenseStem):
        raise InputError(f"--size is for images, but '{spec.name}' takes vectors of {spec.in_channels} numbers")
    if any(min(part.out_size) < 1 for part in cost(spec, (size, size)).parts):
        raise InputError(f"'{spec.name}' pools images of --size {size} until nothing is left; choose a larger one")
    return spec, (size, size)


def _stages(told: Description) -> Table:
    """The network's column in a table of the papers, and beside it the cost of each stage."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("stage", "output", "blocks", "layers", "parameters", "MACs"):
        table.add_column(heading, justify="left" if heading in ("stage", "blocks") else "right", no_wrap=True)
    first, *parts, last = told.cost.parts

    def row(paper: str, output: Signal, structure: Sequence[str], part: Cost) -> None:
        name = Text("\n").join([*([Text(paper)] if paper else []), Text(part.name, "dim" if paper else "")])
        where_to = str(output.channels) if output.flat else output.pixels
        numbers = (f"{part.layers:,}", f"{part.params:,}", f"{part.macs:,}")
        table.add_row(name, where_to, Text("\n".join(structure)), *numbers)

    row(told.stem_paper, told.stem_leaving, told.stem_rows, first)
    for stage, part in zip(told.stages, parts, strict=True):
        brackets = [line for bracket, count in stage.brackets for line in _bracket(bracket, count)]
        row(stage.paper, stage.leaving, [*rows(stage.before), *brackets], part)
    row("", Signal(last.out_channels, (1, 1), told.entering.flat), told.head_rows, last)
    totals = (f"{told.depth:,}", f"{told.cost.params:,}", f"{told.cost.macs:,}")
    table.add_row()
    table.add_row("all", "", "", *totals, style="bold")
    return table


def _bracket(layers: Sequence[str], count: int) -> list[str]:
    """The layers of a block in the bracket of a paper's table, and how often it comes."""
    width, last = max(map(len, layers)), len(layers) - 1
    lines = []
    for number, layer in enumerate(layers):
        left, right = "[]" if last == 0 else "┌┐" if number == 0 else "└┘" if number == last else "││"
        times = f" x {count:,}" if number == last // 2 else ""
        lines.append(f"{left} {layer:<{width}} {right}{times}")
    return lines


def _below(told: Description, spec: NetSpec) -> list[tuple[str, list[str]]]:
    """What is said below the table, by label."""

    total = len(spec.blocks)

    def of(rules: Sequence[Rule]) -> list[str]:
        return [f"{what}, in {where(names, total)}" for what, names in rules]

    said = [
        ("shortcut", of(told.shortcuts) if spec.is_residual else ["none"]),
        ("downsample", of(told.downsampling)),
        ("stride in", [f"{what} of {where(names, total)}" for what, names in told.strides]),
        ("order", [f"{order}: {path}" for order, path in told.orders]),
        ("besides", list(told.remarks)),
        ("FLOPs", _flops(told, spec)),
        ("source", [told.cite] if told.cite else []),
    ]
    return [(label, lines) for label, lines in said if lines]


def _flops(told: Description, spec: NetSpec) -> list[str]:
    return [
        f"{ten_to_the(told.cost.macs)} as the papers count, multiply-adds: {told.cost.macs:,}",
        *_published(told, spec),
        f"{told.cost.flops:,} where a multiply-add counts two",
    ]


def _published(told: Description, spec: NetSpec) -> list[str]:
    """What He 2015 says of its own networks, at its own image size."""
    if str(told.entering) != "3x224x224" or spec.num_classes != 1000:
        return []
    paper = published.load("he2015")
    for row in paper["table1"]["rows"].values():
        if row.get("depth") != spec.depth:
            continue
        says = f"{row['gmacs']} x 10^9 in {paper['paper']['cite']}, {paper['table1']['place']}"
        options: tuple[Literal["none", "A", "B"], ...] = ("none", "A", "B") if row["block"] == "basic" else ("B",)
        if any(_same(spec, imagenet_resnet(spec.depth, shortcut=option, stride_on="first")) for option in options):
            return [says]
        if _same(spec, imagenet_resnet(spec.depth)):
            return [f"{says}, whose network strides in the first 1x1: resnet{spec.depth}-v1"]
    return []


def _same(spec: NetSpec, other: NetSpec) -> bool:
    return (spec.stem, spec.stages) == (other.stem, other.stages)


def _record(spec: AnyNet, counted: NetCost) -> dict[str, Any]:
    ours = spec if isinstance(spec, NetSpec) else None
    return {
        "name": spec.name,
        "library": "reslab" if isinstance(spec, NetSpec) else spec.library,
        "depth": ours.depth if ours else sum(part.layers for part in counted.parts),
        "residual": ours.is_residual if ours else None,
        "params": counted.params,
        "macs": counted.macs,
        "flops": counted.flops,
        "activations": counted.activations,
        "stages": [_part(part) for part in counted.parts],
        "blocks": [_part(part) for part in counted.blocks],
        "cite": spec.cite,
    }


def _part(part: Cost) -> dict[str, Any]:
    return {
        "name": part.name,
        "layers": part.layers,
        "channels": part.out_channels,
        "output_size": list(part.out_size),
        "params": part.params,
        "macs": part.macs,
        "activations": part.activations,
    }
