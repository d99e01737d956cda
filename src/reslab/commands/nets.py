"""``reslab nets``."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from reslab.errors import InputError
from reslab.nets.catalog import CATALOG, FAMILIES, Entry, resolve
from reslab.nets.cost import NetCost, cost
from reslab.nets.spec import NetSpec


def listing(*, as_json: bool) -> None:
    """All networks that have a name."""
    specs = [resolve(name) for name in CATALOG]
    if as_json:
        print(json.dumps([_record(spec, cost(spec)) for spec in specs], indent=2))
        return
    console = Console()
    costs = {name: cost(spec) for name, spec in zip(CATALOG, specs, strict=True)}
    depths = {spec.name: spec.depth for spec in specs}
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
        "What lies between: " + ", ".join(FAMILIES) + ",\n"
        'as in "cifar_resnet(depth=38)". Arguments go with any name:\n'
        "\"resnet20(shortcut='B', width=32, num_classes=100, activation='tanh')\".\n"
        "A multiply-add (MAC) is two FLOPs.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def show(name: str, *, size: int | None, as_json: bool) -> None:
    """One network, stage by stage."""
    spec = resolve(name)
    if size is not None and size < 1:
        raise InputError(f"--size takes pixels, 1 or more, got {size}")
    counted = cost(spec, (size, size) if size else None)
    if as_json:
        print(json.dumps(_record(spec, counted), indent=2))
        return
    sizes = (size, size) if size else spec.size
    table = Table(
        title=f"{spec.name}: {spec.depth} layers, input {spec.in_channels}x{sizes[0]}x{sizes[1]}",
        title_justify="left",
        box=None,
        header_style="bold",
    )
    for heading in ("stage", "layers", "channels", "output", "parameters", "MACs"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for part in counted.parts:
        table.add_row(
            part.name, str(part.layers), str(part.out_channels), f"{part.out_size[0]}x{part.out_size[1]}",
            f"{part.params:,}", f"{part.macs:,}",
        )  # fmt: skip
    table.add_section()
    table.add_row("all", str(spec.depth), "", "", f"{counted.params:,}", f"{counted.macs:,}", style="bold")
    console = Console()
    console.print(table)
    console.print(f"\n{counted.flops:,} FLOPs (a multiply-add counts two). {spec.cite}", highlight=False)


def _record(spec: NetSpec, counted: NetCost) -> dict[str, Any]:
    return {
        "name": spec.name,
        "depth": spec.depth,
        "residual": spec.is_residual,
        "params": counted.params,
        "macs": counted.macs,
        "flops": counted.flops,
        "stages": [
            {
                "name": part.name,
                "layers": part.layers,
                "channels": part.out_channels,
                "output_size": list(part.out_size),
                "params": part.params,
                "macs": part.macs,
                "activations": part.activations,
            }
            for part in counted.parts
        ],
        "cite": spec.cite,
    }
