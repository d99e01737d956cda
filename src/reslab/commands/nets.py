"""``reslab nets``."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from reslab.errors import InputError
from reslab.nets.catalog import CATALOG, resolve
from reslab.nets.cost import NetCost, cost
from reslab.nets.spec import NetSpec


def listing(*, as_json: bool) -> None:
    """All networks that have a name."""
    specs = [resolve(name) for name in CATALOG]
    if as_json:
        print(json.dumps([_record(spec, cost(spec)) for spec in specs], indent=2))
        return
    table = Table(title="Networks", title_justify="left", box=None, header_style="bold")
    for heading, justify in (
        ("name", "left"),
        ("layers", "right"),
        ("parameters", "right"),
        ("MMACs", "right"),
        ("what", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for spec, entry in zip(specs, CATALOG.values(), strict=True):
        counted = cost(spec)
        table.add_row(spec.name, str(spec.depth), f"{counted.params:,}", f"{counted.macs / 1e6:,.1f}", entry.summary)
    console = Console()
    console.print(table)
    console.print(
        "\nAny other depth 6n+2: cifar_plain(depth=38), cifar_resnet(depth=38). Arguments in any name:\n"
        "resnet20(shortcut='B', zeros='end', width=32, num_classes=100, activation='tanh').\n"
        f"Source: {next(iter(CATALOG.values())).cite}. A multiply-add (MAC) is two FLOPs.",
        markup=False,
        highlight=False,
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
            }
            for part in counted.parts
        ],
        "cite": spec.cite,
    }
