"""Fully connected networks, for vectors."""

from typing import Unpack

from reslab.errors import InputError
from reslab.nets.families import Common, network
from reslab.nets.spec import Block, Dense, DenseStem, Identity, NetSpec, NoShortcut, Stack


def mlp(depth: int, *, width: int = 64, residual: bool = True, layers: int = 2, **common: Unpack[Common]) -> NetSpec:
    """A fully connected network for vectors, residual or plain: the block applies to both (He 2015, section 3.2).

    ``depth`` counts the weighted layers, first and last included; ``layers`` are those of one block;
    ``in_channels`` is the length of the vector, 64 by default. ``norm=None`` leaves BN out.
    """
    if layers < 1 or depth < layers + 2 or (depth - 2) % layers:
        raise InputError(f"an mlp of blocks of {layers} has depth {layers}n+2, got {depth}")
    branch = Stack(layers=tuple(Dense(width=width) for _ in range(layers)))
    block = Block(branch=branch, width=width, shortcut=Identity() if residual else NoShortcut())
    return network(
        f"mlp(depth={depth}, residual={residual})",
        common,
        in_channels=64,
        size=(1, 1),
        stem=DenseStem(width=width),
        stages=((block,) * ((depth - 2) // layers),),
        cite="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 3.2",
    )
