"""A network as plain data: typed, validated, saved as JSON, importable without torch.

A `NetSpec` lists every block explicitly, so that a variant, a lesion or a deeper network is a change
of data and no network has code of its own.
"""

from itertools import groupby
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from reslab.nets.parts import (
    SAME_SHAPE,
    WEIGHTED,
    Activation,
    Basic,
    Block,
    Bottleneck,
    Branch,
    Conv,
    Conv1x1,
    ConvStem,
    Dense,
    DenseStem,
    Drop,
    Dropout,
    ExclusiveGate,
    Identity,
    Kernel,
    Layer,
    MaxPool,
    NoShortcut,
    Order,
    Pixels,
    Projection,
    Scale,
    Shortcut,
    ShortcutGate,
    Size,
    Spec,
    Stack,
    Stem,
    WhiteningStem,
    ZeroPad,
    branch_layers,
    stride_of,
)
from reslab.nets.sizes import (
    check_block,
    check_sizes,
    check_whitening,
    layer_size,
    shortcut_size,
    stem_size,
)

__all__ = [
    "SAME_SHAPE",
    "WEIGHTED",
    "Activation",
    "AnyNet",
    "Basic",
    "Block",
    "Bottleneck",
    "Branch",
    "Conv",
    "Conv1x1",
    "ConvStem",
    "Dense",
    "DenseStem",
    "Drop",
    "Dropout",
    "ExclusiveGate",
    "Identity",
    "Init",
    "Kernel",
    "Layer",
    "MaxPool",
    "NetSpec",
    "NoShortcut",
    "Norm",
    "Order",
    "Pixels",
    "Projection",
    "ReferenceSpec",
    "Scale",
    "Shortcut",
    "ShortcutGate",
    "Size",
    "Spec",
    "Stack",
    "Stem",
    "WhiteningStem",
    "ZeroPad",
    "branch_layers",
    "layer_size",
    "shortcut_size",
    "stem_size",
    "stride_of",
]


class Norm(Spec):
    """Batch normalisation's constants. ``momentum`` is the weight of the newest batch in the running statistics."""

    eps: float = Field(1e-5, gt=0)
    momentum: float = Field(0.1, gt=0, le=1)
    scale: bool = Field(True, description="learn a scale for each channel, and not only a shift")


class Init(Spec):
    """How weights are drawn: zero-mean normal with variance gain/fan (He et al. 2015, arXiv 1502.01852, eq. 10, 14)."""

    fan: Literal["in", "out"] = Field(
        "in",
        description="'in' keeps the variance of the signal (eq. 10), 'out' that of the gradient (eq. 14)",
    )
    zero_gamma: bool = Field(
        False,
        description="start each residual branch at zero: its last BN scale, or its last layer where no BN follows",
    )


class NetSpec(Spec):
    """A whole network for images of ``in_channels`` channels and, nominally, ``size`` pixels.

    For vectors (a `DenseStem`), ``in_channels`` is their length and ``size`` is (1, 1).
    """

    name: str
    in_channels: int = Field(3, ge=1)
    size: tuple[Pixels, Pixels] = Field((32, 32), description="nominal input height and width, in pixels")
    num_classes: int = Field(10, ge=1)
    stem: Stem
    stages: tuple[tuple[Block, ...], ...]
    final: Literal["none", "activation", "norm-activation"] = Field(
        "none", description="after the last block: pre-activation networks end in BN and ReLU (He 2016, section 4.1)"
    )
    pool: Literal["average", "max"] = Field("average", description="over the positions that are left at the end")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")
    logit_scale: float = Field(1.0, gt=0, description="factor of the last layer's outputs, fixed")
    activation: Activation = "relu"
    norm: Norm | None = Field(Norm(), description="null: no BN anywhere, and layers have biases instead")
    init: Init = Init()
    cite: str = ""

    @model_validator(mode="after")
    def _shapes_agree(self) -> Self:
        if not self.stages or any(not stage for stage in self.stages):
            raise ValueError("a network needs at least one stage, and each stage at least one block")
        width = self.stem.width
        dense = isinstance(self.stem, DenseStem)
        if self.init.zero_gamma and self.norm is not None and not self.norm.scale:
            raise ValueError(
                "init.zero_gamma starts BN's scale at zero, so norm.scale must be true: it would stay there"
            )
        if isinstance(self.stem, WhiteningStem):
            check_whitening(self.stem, self.in_channels, self.size)
        size = self.size if isinstance(self.stem, DenseStem) else stem_size(self.size, self.stem)
        for name, block in self.named_blocks.items():
            check_block(name, width, block, dense)
            width = block.width
            if not dense:
                size = check_sizes(name, size, block)
        return self

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in the order of the signal."""
        return tuple(block for stage in self.stages for block in stage)

    @property
    def named_blocks(self) -> dict[str, Block]:
        """All blocks by name, ``layer1.0`` and so on, in the order of the signal."""
        return {f"layer{s}.{b}": block for s, stage in enumerate(self.stages, 1) for b, block in enumerate(stage)}

    @property
    def is_residual(self) -> bool:
        """Whether any block has a shortcut."""
        return any(not isinstance(block.shortcut, NoShortcut) for block in self.blocks)

    @property
    def depth(self) -> int:
        """Weighted layers as the papers count them: layers on the main path and the last layer."""
        stem = 1 + (len(self.stem.before) if isinstance(self.stem, ConvStem) else 0)
        branches = (layer for block in self.blocks for layer in branch_layers(block))
        return stem + sum(isinstance(layer, WEIGHTED) for layer in branches) + 1

    def outline(self) -> str:
        """The network in a few lines: its input and output, stem and stages."""
        shape = f"{self.in_channels}x{self.size[0]}x{self.size[1]}"
        lines = [f"{self.name}: {self.depth} layers, {shape} -> {self.num_classes} classes"]
        lines.append(f"  stem: {self.stem.kind}, {self.stem.width} channels")
        for number, stage in enumerate(self.stages, 1):
            runs = [(kind, len([*same])) for kind, same in groupby(stage, lambda block: _kind(block))]
            many = f"{', '.join(f'{count} {kind}' for kind, count in runs[:3])}{', ...' if len(runs) > 3 else ''}"
            lines.append(f"  layer{number}: {stage[-1].width} channels; {many}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """A line, where all fields would take pages: `model_dump` has them."""
        stages = "-".join(str(len(stage)) for stage in self.stages)
        shape = f"{self.in_channels}x{self.size[0]}x{self.size[1]}"
        return f"NetSpec({self.name!r}, {self.depth} layers, {shape} -> {self.num_classes} classes, blocks {stages})"

    __str__ = __repr__


def _kind(block: Block) -> str:
    """A block in two words: ``bottleneck/projection``; of a plain one the branch alone."""
    shortcut = "" if isinstance(block.shortcut, NoShortcut) else f"/{block.shortcut.kind}"
    return f"{block.branch.kind}{shortcut}"


class ReferenceSpec(Spec):
    """A network of another library, for comparison: that library's code, known by its name there."""

    library: Literal["torchvision", "timm"]
    model: str = Field(description="its name in the library")
    name: str
    in_channels: int = Field(3, ge=1)
    size: tuple[Pixels, Pixels] = (224, 224)
    num_classes: int = Field(1000, ge=1)
    cite: str = ""


def _whose(value: Any) -> str:
    library = value.get("library") if isinstance(value, dict) else getattr(value, "library", None)
    return "ours" if library is None else "reference"


AnyNet = Annotated[Annotated[NetSpec, Tag("ours")] | Annotated[ReferenceSpec, Tag("reference")], Discriminator(_whose)]
"""A network of this package or of another library."""
