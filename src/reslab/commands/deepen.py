"""``reslab deepen``."""

import json

import torch
from rich.console import Console

from reslab.commands.options.deepen import Options
from reslab.commands.targets import check_target
from reslab.commands.weights import FILES, write
from reslab.errors import InputError
from reslab.nets.deepen import deepened
from reslab.nets.network import Network
from reslab.weights.load import header_of, load

TOLERANCE = 1e-6
"""Greatest difference of the outputs, relative to the greatest output, that passes for rounding."""


def run(options: Options) -> None:
    """Writes the weights of a deeper network that computes the same, after checking that it does."""
    check_target("--out", options.out, FILES, force=options.force)
    weights = load(options.weights, net=options.net, which=options.which)
    weights.check_head("deepening")
    shallow = weights.network().eval()
    deep = deepened(shallow, options.to)
    apart = difference(shallow, deep)
    if apart > TOLERANCE:
        raise InputError(
            f"'{deep.spec.name}' with these weights differs from '{shallow.spec.name}' by {apart:.1e} of its largest "
            f"output, more than rounding explains ({TOLERANCE:g}); nothing was written"
        )
    header = header_of(deep.spec, weights.preprocessing, weights.classes)
    about = {key: value for key, value in weights.header.items() if key in ("recipe", "test_error")}
    write(options.out, dict(deep.state_dict()), header | about | {"deepened_from": shallow.spec.name})
    for text in weights.said:
        Console(stderr=True).print(text, soft_wrap=True, highlight=False, markup=False)
    added = len(deep.blocks) - len(shallow.blocks)
    record = {
        "out": str(options.out), "net": deep.spec.name, "depth": deep.spec.depth, "from": shallow.spec.name,
        "blocks_added": added, "difference": apart,
    }  # fmt: skip
    if options.json:
        print(json.dumps(record, indent=2))
        return
    print(
        f"{options.out}: {deep.spec.name}, {deep.spec.depth} layers, computes the same function as {shallow.spec.name} "
        f"({added} blocks added; in evaluation mode, outputs differ by {apart:.1e} of the largest)"
    )


@torch.no_grad()
def difference(a: Network, b: Network) -> float:
    """Greatest difference of two networks' outputs on random images, relative to the greatest output."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(4, a.spec.in_channels, *a.spec.size, generator=draw)
    ours, theirs = a.eval()(images), b.eval()(images)
    return float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-30))
