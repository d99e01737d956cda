"""Fully connected networks, for vectors."""

from reslab.errors import InputError
from reslab.nets.spec import (
    Activation,
    Block,
    Dense,
    DenseStem,
    Identity,
    NetSpec,
    Norm,
    NoShortcut,
    Stack,
)


def mlp(
    depth: int,
    *,
    width: int = 64,
    residual: bool = True,
    layers: int = 2,
    norm: bool = True,
    activation: Activation = "relu",
    in_channels: int = 64,
    size: tuple[int, int] = (1, 1),
    num_classes: int = 10,
    name: str | None = None,
) -> NetSpec:
    """A fully connected network for vectors, residual or plain: the block applies to both (He 2015, section 3.2).

    ``depth`` counts the weighted layers, first and last included; ``layers`` are those of one block;
    ``in_channels`` is the length of the vector.
    """
    if layers < 1 or depth < layers + 2 or (depth - 2) % layers:
        raise InputError(f"an mlp of blocks of {layers} has depth {layers}n+2, got {depth}")
    branch = Stack(layers=tuple(Dense(width=width) for _ in range(layers)))
    block = Block(branch=branch, width=width, shortcut=Identity() if residual else NoShortcut())
    return NetSpec(
        name=name or f"mlp(depth={depth}, residual={residual})",
        in_channels=in_channels,
        size=size,
        num_classes=num_classes,
        stem=DenseStem(width=width),
        stages=((block,) * ((depth - 2) // layers),),
        activation=activation,
        norm=Norm() if norm else None,
        cite="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, section 3.2",
    )
